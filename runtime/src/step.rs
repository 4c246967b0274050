//! Step: one RUN in a container that ends with it.
//!
//! The daemon has a helper started (by the spawner: itself, re-executed, single-threaded, forked) for each step. The helper makes the
//! container, is its parent, and writes down how it ended. It lives as long as its standard input is open: when the daemon cancels or
//! dies, the input closes and the helper kills the container's first process, which takes all others along. Until then an `Owner` has what
//! the step stands on.
//!
//! # Wire
//! Standard input: one line of JSON (`StepSpec`), then one for each `Order`. Standard output and error are the container's;
//! its standard input, if it has one, is the named pipe `stdin` in the step's folder. The end is a file there, `exit.json`.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buildd_fs::blocking;
use buildd_oci::error::chain;
use dialogue::INPUT;
use owner::{Ending, HelperProcess, Owner};
use serde::{Deserialize, Serialize};
use spawner::{Spawner, Streams};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::OnceCell,
};

use crate::{
    device::DeviceNode,
    error::{Error, Result},
    mount::StepMount,
    passwd::StepUser,
};

mod cgroup;
mod container;
mod dialogue;
mod helper;
mod owner;
mod seccomp;
mod spawner;
mod terminal;

pub use cgroup::sweep_groups;
pub use cgroup::{Cgroup, HIERARCHIES, abandoned as abandoned_groups};
pub(crate) use cgroup::{PARENT, again_while_gone, make as make_group};
pub use dialogue::{Dialogue, Order};
pub use spawner::{SPAWNER, spawner_main};

/// The compiled filter, beside the folders of steps.
const FILTER: &str = "seccomp.bpf";
/// Bytes that are read from a step's output at once.
const CHUNK: usize = 32 << 10;

/// Which network a step has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    Host,
    /// None but a loopback that is down.
    None,
}

/// How a step is contained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Security {
    /// As spec attacks 6.2 says.
    Sandbox,
    /// Not: all capabilities, no filter, no masks.
    Insecure,
}

/// A limit of the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, …
    pub name: String,
    /// What it begins with.
    pub soft: u64,
    /// How far it may be raised.
    pub hard: u64,
}

/// How much of the machine a step may take.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepLimits {
    /// Processes and threads: stops fork bombs.
    pub pids: i64,
    /// Bytes of memory; the step is killed beyond.
    pub memory: i64,
    /// Bytes of memory and swap together; -1 for as much swap as there is.
    pub swap: Option<i64>,
    /// Of processors.
    pub cpu: Cpu,
}

impl StepLimits {
    /// So many processes and bytes of memory, and nothing said of the rest.
    pub fn new(pids: i64, memory: i64) -> Self {
        Self { pids, memory, swap: None, cpu: Cpu::default() }
    }
}

/// How much of the processors a step may take; all of them, in equal parts with others, if nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Its part when others want theirs; 1024 is an equal one.
    pub shares: Option<u64>,
    /// Microseconds over which the quota is counted.
    pub period: Option<u64>,
    /// Microseconds of processor time in a period; -1 for no bound.
    pub quota: Option<i64>,
    /// Which processors: `0-2,4`; any if empty.
    pub cpus: String,
    /// Which memory nodes; any if empty.
    pub mems: String,
}

/// A step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepSpec {
    /// The root file system, mounted.
    pub rootfs: PathBuf,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it starts; exists.
    pub cwd: String,
    /// Who it runs as.
    pub user: StepUser,
    /// The container's host name.
    pub hostname: String,
    /// Whether its standard input is its owner's, not `/dev/null`.
    pub stdin: bool,
    /// Whether its streams are a terminal's.
    pub terminal: bool,
    /// Mounts beside the usual ones.
    pub mounts: Vec<StepMount>,
    /// Device nodes beside the usual ones.
    pub devices: Vec<DeviceNode>,
    /// Which network.
    pub network: Network,
    /// How it is contained.
    pub security: Security,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// Limits of all of it.
    pub limits: StepLimits,
    /// The control group that its own is made in; the daemon's usual one if empty.
    pub cgroup_parent: String,
}

/// How a step ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepExit {
    /// The exit code; 128 and the signal if one ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether memory ran out.
    pub out_of_memory: bool,
    /// Why it could not even start.
    pub failure: Option<String>,
}

/// Takes a step's output as it comes.
#[async_trait::async_trait]
pub trait Output: Send + Sync {
    /// Bytes of stream 1 or 2.
    async fn take(&self, stream: u32, bytes: &[u8]);
}

/// Starts steps.
#[derive(Debug)]
pub struct Executor {
    state: PathBuf,
    spawner: Arc<Spawner>,
    next: AtomicU64,
    /// Steps whose futures are gone and whose processes may not be.
    ending: Arc<Ending>,
    /// Whether the filter of sandboxed steps is compiled: the first one does it.
    filter: OnceCell<()>,
    /// Whether a probe has found its steps contained, once one has looked.
    proof: OnceCell<bool>,
}

impl Executor {
    /// An executor with its folder `state` and the binary `exe` that knows `SPAWNER`.
    pub fn new(state: &Path, exe: &Path) -> Result<Self> {
        let steps = state.join("steps");
        if steps.exists() {
            std::fs::remove_dir_all(&steps).map_err(Error::file("remove", &steps))?;
        }
        std::fs::create_dir_all(&steps).map_err(Error::file("create folder", &steps))?;
        // A specification has the environment in it, secrets among it.
        std::fs::set_permissions(&steps, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(Error::file("set the mode of", &steps))?;
        let spawner = Arc::new(Spawner::new(exe, &steps));
        Ok(Self {
            state: steps,
            spawner,
            next: AtomicU64::new(1),
            ending: Arc::default(),
            filter: OnceCell::new(),
            proof: OnceCell::new(),
        })
    }

    /// Where its steps have their folders; whatever lies there goes when the next executor begins.
    pub(crate) fn folder(&self) -> &Path {
        &self.state
    }

    /// Lets `look` find out whether its steps are contained, if nobody has yet.
    pub async fn prove(&self, look: impl Future<Output = bool>) {
        self.proof.get_or_init(|| look).await;
    }

    /// Whether its steps may be called sandboxed: only after a probe has found it so.
    pub fn is_sandboxed(&self) -> bool {
        self.proof.get().is_some_and(|proven| *proven)
    }

    /// Waits until every step that was cancelled is gone, with what it stood on; whether that came within the limit.
    pub fn wait_for_ends(&self, limit: Duration) -> bool {
        self.ending.wait(limit)
    }

    async fn compile_filter(&self) -> Result<()> {
        let path = self.state.join(FILTER);
        blocking::run(move || {
            seccomp::compile(&path).map_err(|error| Error::File {
                operation: "compile the seccomp filter into",
                source: std::io::Error::other(chain(error.as_ref())),
                path,
            })
        })
        .await
    }

    /// Runs a step to its end; see `converse`.
    pub async fn run<K: Send + 'static>(
        &self,
        spec: &StepSpec,
        output: &dyn Output,
        kept: K,
    ) -> Result<(StepExit, K)> {
        self.converse(spec, output, Dialogue::none(), kept).await
    }

    /// Runs a step that its owner talks to; dropping the future kills it.
    ///
    /// `kept` is what the step stands on: mounts, locks. It comes back with the exit. Where there is none, because the future was dropped or
    /// something failed, it is dropped when no process of the step is left, on a thread that may block.
    pub async fn converse<K: Send + 'static>(
        &self,
        spec: &StepSpec,
        output: &dyn Output,
        dialogue: Dialogue,
        kept: K,
    ) -> Result<(StepExit, K)> {
        let mut owner = Owner::new(kept, &self.ending);
        if spec.security == Security::Sandbox {
            self.filter.get_or_try_init(|| self.compile_filter()).await?;
        }
        let id = format!("{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed));
        let folder = self.state.join(&id);
        let (spawner, has_stdin, made) = (Arc::clone(&self.spawner), spec.stdin, folder.clone());
        let Launched { process, streams, stdin } =
            blocking::run(move || launch(&spawner, made, &id, has_stdin)).await?;
        owner.take(process);
        let (stdin, _held) = stdin.unzip();
        let talk = || Error::file("talk to the helper of", &folder);
        let mut input = Sender::from_owned_fd(streams.input).map_err(talk())?;
        let out = Receiver::from_owned_fd(streams.out).map_err(talk())?;
        let err = Receiver::from_owned_fd(streams.err).map_err(talk())?;
        let mut line = serde_json::to_vec(spec).expect("strings and numbers have a JSON form");
        line.push(b'\n');
        input.write_all(&line).await.map_err(talk())?;
        // Its input is dropped with this future: then it closes, and the helper kills the container.
        let ended = async { tokio::join!(pump(1, out, output), pump(2, err, output)) };
        tokio::select! {
            _ = ended => {}
            never = dialogue.hold(stdin, &mut input) => match never {},
        }
        let path = folder.join("exit.json");
        let exit = blocking::run(move || read_exit(path)).await?;
        Ok((exit, owner.give_back()))
    }
}

async fn pump(stream: u32, mut from: impl AsyncRead + Unpin, output: &dyn Output) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 {
            return;
        }
        output.take(stream, &buffer[..n]).await;
    }
}

/// A step's helper that was started.
struct Launched {
    // Before the process: its end is waited for, and comes with theirs.
    streams: Streams,
    /// The writing end of its standard input, if it has one, and a reading end to be held.
    stdin: Option<(Sender, Receiver)>,
    process: HelperProcess,
}

/// Makes a step's folder and starts its helper.
fn launch(spawner: &Spawner, folder: PathBuf, id: &str, has_stdin: bool) -> Result<Launched> {
    std::fs::create_dir(&folder).map_err(Error::file("create folder", &folder))?;
    let mut process = HelperProcess { folder, life: None };
    let stdin = has_stdin.then(|| dialogue::pipe(&process.folder.join(INPUT))).transpose()?;
    let (streams, life) = spawner.start(id)?;
    process.life = Some(life);
    Ok(Launched { streams, stdin, process })
}

/// How a step ended, as its helper left it.
fn read_exit(path: PathBuf) -> Result<StepExit> {
    let text = std::fs::read(&path).map_err(|source| {
        tracing::warn!("the step's helper exited without reporting a status");
        Error::File { operation: "read how the step ended from", path: path.clone(), source }
    })?;
    serde_json::from_slice(&text).map_err(|e| Error::File { operation: "read", path, source: e.into() })
}

#[cfg(test)]
mod tests;
