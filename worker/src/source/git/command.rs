//! Command: the git binary, with everything shut that a repository, a server or this machine's settings could open.
//!
//! Every call of the source comes here. Nothing of the daemon's environment is passed on; what git must know beyond its arguments goes through
//! variables, which other users of this machine cannot read: the URL with its password, and tokens.
//!
//! # Concurrency
//! git and all it starts are a process group, which dies with the future that waits for it, and are in control groups with a step's limits: memory
//! that a repository takes is not the daemon's.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use buildd_runtime::step::{Cgroup, HIERARCHIES, StepLimits};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::{Instant, interval},
};

use super::{access::Access, failure::GitError, wanted::GitRequest};
use crate::{
    error::{Error, Result},
    worker::Worker,
};

/// What may be spoken: no `file` (this machine's repositories are nobody's business) and no `ext` (it runs programs).
pub(super) const PROTOCOLS: [&str; 4] = ["https", "http", "ssh", "git"];
/// Where git and its helpers are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most bytes of an answer: a list of refs without end stops here (GIT-06).
const MAX_OUTPUT: u64 = 64 << 20;
/// Bytes of what git says in the end that are kept.
const MAX_SAID: usize = 16 << 10;
/// Longest run of git: a server that sends for ever is left.
const MAX_TIME: Duration = Duration::from_secs(3600);
/// How often the disk is looked at while git runs.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of the disk that git leaves free.
const DISK_RESERVE: u64 = 256 << 20;
/// The remote's name in our commands; `origin` is what submodules call theirs.
pub(super) const REMOTE: &str = "buildd-remote";

/// Runs git for one source.
pub(super) struct Git {
    env: Vec<(OsString, OsString)>,
    config: Vec<(String, String)>,
    shown: String,
    root: PathBuf,
    limits: StepLimits,
}

/// A repository that a command is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repository<'a> {
    pub(super) git_dir: &'a Path,
    pub(super) tree: Option<&'a Path>,
}

impl Git {
    /// git as `wanted` needs it.
    pub(super) fn new(worker: &Arc<Worker>, wanted: &GitRequest, access: &Access) -> Result<Self> {
        let home = access.home();
        let mut env: Vec<(OsString, OsString)> = [
            ("PATH", PATH),
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_PROTOCOL_FROM_USER", "0"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        env.extend(["HOME", "XDG_CONFIG_HOME"].map(|name| (name.into(), home.as_os_str().to_owned())));
        env.push(("GIT_ALLOW_PROTOCOL".into(), PROTOCOLS.join(":").into()));
        env.extend(worker.proxies.iter().cloned());
        env.extend(access.env());
        let mut config: Vec<(String, String)> = [
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("credential.helper", ""),
            ("http.lowSpeedLimit", "1000"),
            ("http.lowSpeedTime", "60"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("fetch.recurseSubmodules", "false"),
            ("fetch.writeCommitGraph", "false"),
            ("transfer.bundleURI", "false"),
            ("safe.directory", "*"),
            ("advice.detachedHead", "false"),
            ("core.attributesFile", "/dev/null"),
            ("core.excludesFile", "/dev/null"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        config.push((format!("remote.{REMOTE}.url"), wanted.url.clone()));
        config.extend(access.config(wanted));
        let (root, limits) = (worker.store.root().to_owned(), worker.limits.clone());
        Ok(Self { env, config, shown: wanted.shown(), root, limits })
    }

    /// The repository as it may be shown.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Runs git; what it printed.
    pub(super) async fn run(
        &self,
        operation: &'static str,
        place: Option<Repository<'_>>,
        args: &[&str],
    ) -> Result<String, GitError> {
        self.run_with(operation, place, args, &[]).await
    }

    /// Fetches from a repository of ours: the one thing that `file` is good for.
    pub(super) async fn run_local(&self, place: Repository<'_>, args: &[&str]) -> Result<String, GitError> {
        self.run_with("copy", Some(place), args, &[("GIT_ALLOW_PROTOCOL", "file")]).await
    }

    async fn run_with(
        &self,
        operation: &'static str,
        place: Option<Repository<'_>>,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<String, GitError> {
        let mut command = Command::new("git");
        command.env_clear().envs(self.env.iter().cloned()).envs(env.iter().copied());
        command.env("GIT_CONFIG_COUNT", self.config.len().to_string());
        for (number, (key, value)) in self.config.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        if let Some(place) = place {
            command.env("GIT_DIR", place.git_dir);
            if let Some(tree) = place.tree {
                command.env("GIT_WORK_TREE", tree).current_dir(tree);
            }
        }
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let contained = Contained::around(command.as_std_mut(), &self.limits)?;
        let mut child = command.spawn().map_err(|source| GitError::Start { source })?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let work = async { tokio::join!(whole(out), last(err), child.wait()) };
        let (printed, said, status) = tokio::select! {
            done = work => done,
            failure = self.watch(operation) => return Err(failure),
        };
        group.left();
        let failed = |said: &str| GitError::Failed {
            operation,
            url: self.shown.clone(),
            said: super::failure::told(said),
        };
        let status = status.map_err(|source| GitError::Start { source })?;
        if !status.success() && contained.ran_out() {
            return Err(GitError::Memory { operation, url: self.shown.clone(), bytes: self.limits.memory });
        }
        match (printed, status.success()) {
            (Some(printed), true) => Ok(printed),
            (None, true) => Err(failed(&format!("it sent more than {MAX_OUTPUT} bytes"))),
            (_, false) => match status.signal() {
                Some(signal) if said.is_empty() => Err(failed(&format!("it was ended by signal {signal}"))),
                _ => Err(failed(&said)),
            },
        }
    }

    /// Ends when git has taken too much time or disk.
    async fn watch(&self, operation: &'static str) -> GitError {
        let (began, mut ticks) = (Instant::now(), interval(LOOK_INTERVAL));
        loop {
            ticks.tick().await;
            let free = rustix::fs::statvfs(&self.root).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
            if free < DISK_RESERVE {
                let source = io::ErrorKind::StorageFull.into();
                return Error::File { operation: "fetch", path: self.shown.clone().into(), source }.into();
            }
            if began.elapsed() > MAX_TIME {
                let said = format!("it took more than {} s", MAX_TIME.as_secs());
                return GitError::Failed { operation, url: self.shown.clone(), said };
            }
        }
    }
}

/// The control groups of one run of git; removed when dropped, by a thread that waits until they are empty.
struct Contained(Option<Cgroup>);

impl Contained {
    /// Lets a command begin in them.
    fn around(command: &mut std::process::Command, limits: &StepLimits) -> Result<Self> {
        let name = format!("git-{}-{:016x}", std::process::id(), rand::random::<u64>());
        let group =
            Cgroup::of_program(&name, limits).and_then(|group| group.contain(command).map(|()| group));
        Ok(Self(Some(group.map_err(Error::file("limit git below", HIERARCHIES))?)))
    }

    /// Whether something in them was killed because memory ran out.
    fn ran_out(&self) -> bool {
        self.0.as_ref().is_some_and(|group| group.oom_kills() > 0)
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let group = self.0.take();
        std::thread::spawn(move || drop(group));
    }
}

/// Ends a process group when dropped, unless it has left.
struct Group(Option<Pid>);

impl Group {
    fn left(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// All that comes, as text; None if it is too much.
async fn whole(stream: impl AsyncRead + Unpin) -> Option<String> {
    let mut bytes = Vec::new();
    let read = stream.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).await;
    let fits = read.is_ok() && bytes.len() as u64 <= MAX_OUTPUT;
    fits.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The last bytes of what comes.
async fn last(mut stream: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 4096]);
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..count]);
        let over = kept.len().saturating_sub(MAX_SAID);
        kept.drain(..over);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
