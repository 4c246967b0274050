//! Daemon: one `buildd` process with its own root, state and socket, gone when dropped.
//!
//! The binaries are those beside the test binary (`target/release`), built by `tests/run` beforehand.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long something that must happen may take: a liveness deadline, not a measurement.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a keeper does: runs a daemon in a folder (the first argument), tells its pid, and when whoever started it is gone, however
/// that happened, ends the daemon and removes the folder.
const KEEPER: &str = "trap '' INT; dir=$1; shift; \"$@\" </dev/null >>\"$dir/log\" 2>&1 & pid=$!; echo $pid; \
                      read -r _; kill -TERM $pid; wait $pid; rm -rf --one-file-system \"$dir\"";

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    /// The pid of a daemon that a keeper runs; it leaves with the keeper.
    kept: Option<u32>,
    folder: Folder,
    variables: Vec<(String, String)>,
    /// Whether it is told its state folder, or takes the one of its root.
    names_state: bool,
}

/// Where a daemon's files lie.
#[derive(Debug)]
enum Folder {
    /// Removed when dropped.
    Ours(TempDir),
    /// Removed by a keeper.
    Keepers(PathBuf),
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; None if a signal ended it.
    pub code: Option<i32>,
    /// Standard output as text.
    pub stdout: String,
    /// Standard error as text.
    pub stderr: String,
}

impl Ran {
    /// The same, after asserting that the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The same, after asserting that it failed with `code` and that standard error has every one of `texts`.
    #[track_caller]
    pub fn fails(self, code: i32, texts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in stderr:\n{}", self.stderr);
        }
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The folder of the release binaries.
pub fn binaries() -> PathBuf {
    let test = std::env::current_exe().expect("a test binary has a path");
    // A test lies in target/<profile>/deps, the bench beside the binaries.
    let near = test.parent().expect("it lies in a folder");
    let dir = if near.ends_with("deps") { near.parent().unwrap_or(near) } else { near }.to_owned();
    let daemon = dir.join("buildd");
    assert!(
        daemon.exists(),
        "{} is missing: run `cargo build --release -p buildd -p buildctl`",
        daemon.display()
    );
    dir
}

impl Daemon {
    /// Starts a daemon in a new temporary folder.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a daemon with more flags.
    pub fn start_with(flags: &[&str]) -> Self {
        Self::start_in(&[], flags)
    }

    /// Starts a daemon with more flags and variables of the environment.
    pub fn start_in(variables: &[(&str, &str)], flags: &[&str]) -> Self {
        Self::start_named(variables, flags, true)
    }

    /// Starts a daemon that is told no state folder: it takes the one of its root.
    pub fn start_without_state() -> Self {
        Self::start_named(&[], &[], false)
    }

    fn start_named(variables: &[(&str, &str)], flags: &[&str], names_state: bool) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let folder = Folder::Ours(new_folder());
        let mut daemon =
            Self { child: None, kept: None, folder, variables: variables.collect(), names_state };
        daemon.spawn(flags);
        daemon
    }

    /// Starts a daemon that leaves when the keeper's standard input is closed: with this process at the latest.
    pub(crate) fn start_kept() -> (Self, Child) {
        let folder = Folder::Keepers(new_folder().keep());
        let mut daemon = Self { child: None, kept: None, folder, variables: Vec::new(), names_state: true };
        let mut serve = Command::new("sh");
        serve.args(["-c", KEEPER, "keeper"]).arg(daemon.path("")).arg(binaries().join("buildd"));
        // A group of its own: who ends the tests' group does not end what tidies up after it.
        serve.args(daemon.places()).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut keeper = serve.spawn().expect("start a keeper");
        let mut pid = String::new();
        let mut told = BufReader::new(keeper.stdout.take().expect("piped"));
        told.read_line(&mut pid).expect("the keeper's word");
        daemon.kept = Some(pid.trim().parse().expect("a pid"));
        daemon.wait(|daemon| {
            let gone = !Path::new(&format!("/proc/{}", daemon.pid())).exists();
            gone.then(|| "an error".to_owned())
        });
        (daemon, keeper)
    }

    /// Starts the process (again) on the same folders and waits for its socket.
    pub fn spawn(&mut self, flags: &[&str]) {
        let log = File::options().create(true).append(true).open(self.path("log")).expect("a log file");
        let child = self
            .command("buildd")
            .args(self.places())
            .args(flags)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            .spawn()
            .expect("start buildd");
        self.child = Some(child);
        self.wait(|daemon| {
            let child = daemon.child.as_mut().expect("just started");
            child.try_wait().expect("wait for buildd").map(|status| status.to_string())
        });
    }

    /// The flags that say where it listens and keeps its files.
    fn places(&self) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let mut flags = vec!["--addr".to_owned(), self.address(), "--root".to_owned(), path("root")];
        if self.names_state {
            flags.extend(["--state".to_owned(), path("state")]);
        }
        flags
    }

    /// Waits for its socket; `left` says how it ended if it has.
    fn wait(&mut self, left: impl Fn(&mut Self) -> Option<String>) {
        let start = Instant::now();
        while UnixStream::connect(self.path("sock")).is_err() {
            if let Some(status) = left(self) {
                panic!("buildd left with {status}:\n{}", self.log());
            }
            assert!(start.elapsed() < DEADLINE, "buildd opened no socket:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A path inside this daemon's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        match &self.folder {
            Folder::Ours(dir) => dir.path().join(name),
            Folder::Keepers(dir) => dir.join(name),
        }
    }

    /// The address clients take.
    pub fn address(&self) -> String {
        format!("unix://{}", self.path("sock").display())
    }

    /// What the daemon logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.kept.unwrap_or_else(|| self.child.as_ref().expect("running").id())
    }

    /// A command of ours, aimed at this daemon.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binaries().join(name));
        command.env("BUILDKIT_HOST", self.address()).env_remove("NO_COLOR");
        command
    }

    /// Runs `buildctl` to its end.
    pub fn buildctl(&self, args: &[&str]) -> Ran {
        let mut command = self.command("buildctl");
        command.args(args).stdin(Stdio::null());
        run(&mut command)
    }

    /// Runs `buildd fsck` on its root to its end; but to be refused, the daemon must have ended.
    pub fn fsck(&self, flags: &[&str]) -> Ran {
        let mut command = Command::new(binaries().join("buildd"));
        run(command.arg("fsck").arg("--root").arg(self.path("root")).args(flags).stdin(Stdio::null()))
    }

    /// Sends a signal and waits for the end; the exit code, None if a signal ended it.
    pub fn stop(&mut self, signal: Signal) -> Option<i32> {
        let mut child = self.child.take()?;
        let pid = Pid::from_child(&child);
        if child.try_wait().expect("wait for buildd").is_none() {
            kill_process(pid, signal).expect("signal our own child");
        }
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("wait for buildd") {
                return status.code();
            }
            assert!(start.elapsed() < DEADLINE, "buildd does not leave:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn new_folder() -> TempDir {
    assert!(rustix::process::geteuid().is_root(), "these tests mount and start containers: run them as root");
    tempfile::Builder::new().prefix("buildd-it-").tempdir().expect("a temporary folder")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of buildd:\n{}", self.log());
        }
        self.stop(Signal::TERM);
    }
}

/// Waits for something that must happen.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    command.output().unwrap_or_else(|e| panic!("start {command:?}: {e}")).into()
}
