//! Tasks: the processes of containers, each under a shim of its own that outlives the daemon.
//!
//! containerd's Tasks service calls this. Nothing is kept in memory: a task is its folder and the shim that answers there, so a new daemon
//! has adopted every task by looking. A shim that was killed takes its container along (its processes die with it); what it leaves on
//! disk counts as a task that ended, until it is deleted.
//!
//! # Invariants
//! The shim's answer to `create` comes after the container exists. `wait` answers after `exit.json` is written.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use buildd_oci::ErrorKind;
use protocol::{Address, Class, MAX_MESSAGE, Reply, Request, SOCKET, TASK};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::Command,
};

use crate::error::{Error, Result};

mod cgroup_lock;
mod protocol;
mod shim;
mod spec;
mod stale;

pub use protocol::{Exit, Process, Status, Streams, TaskSpec};
pub use shim::{exec::exec_main, shim_main};

/// The hidden subcommand of a shim.
pub const SHIM: &str = "shim";
/// The hidden subcommand that enters a container.
pub const EXEC: &str = "task-exec";
/// What a shim says that it could not do; longer lines are not its own.
const MAX_GREETING: u64 = 64 << 10;

/// The tasks of all namespaces.
#[derive(Debug)]
pub struct Tasks {
    folder: PathBuf,
    exe: PathBuf,
}

impl Tasks {
    /// Tasks below a state folder, with the binary `exe` that knows `SHIM`.
    pub fn new(state: &Path, exe: &Path) -> Result<Self> {
        let folder = state.join("tasks");
        std::fs::create_dir_all(&folder).map_err(Error::file("create folder", &folder))?;
        // A specification has the environment in it, secrets among it.
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(Error::file("set the mode of", &folder))?;
        let tasks = Self { folder, exe: exe.to_owned() };
        for (ns, id) in tasks.all()? {
            let folder = tasks.folder(&ns, &id)?;
            // A daemon died while it made this one; its shim then left too.
            if !folder.join(SOCKET).exists() {
                stale::remove(&folder)?;
            }
        }
        Ok(tasks)
    }

    /// A task's folder; names that would lead elsewhere are no tasks.
    fn folder(&self, ns: &str, id: &str) -> Result<PathBuf> {
        let plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        match plain(ns) && plain(id) {
            true => Ok(self.folder.join(ns).join(id)),
            false => Err(Error::NotFound { what: "task", name: id.to_owned() }),
        }
    }

    /// Makes a container, ready to start; its first process's number.
    pub async fn create(&self, task: &TaskSpec) -> Result<u32> {
        let folder = self.folder(&task.namespace, &task.id)?;
        let parent = self.folder.join(&task.namespace);
        std::fs::create_dir_all(&parent).map_err(Error::file("create folder", &parent))?;
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::AlreadyExists { what: "task", name: task.id.clone() });
            }
            made => made.map_err(Error::file("create folder", &folder))?,
        }
        let created = self.launch(&folder, task).await;
        if created.is_err() {
            let folder = folder.clone();
            buildd_fs::blocking::run(move || stale::remove(&folder)).await?;
        }
        created
    }

    async fn launch(&self, folder: &Path, task: &TaskSpec) -> Result<u32> {
        let path = folder.join(TASK);
        let text = serde_json::to_vec(task).expect("strings have a JSON form");
        std::fs::write(&path, text).map_err(Error::file("write", &path))?;
        let log = folder.join("shim.log");
        let log = std::fs::File::create(&log).map_err(Error::file("create", &log))?;
        // Not killed on drop: it is there to outlive us.
        let mut child = Command::new(&self.exe)
            .arg(SHIM)
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .env_clear()
            .current_dir("/")
            .spawn()
            .map_err(Error::file("start", &self.exe))?;
        let mut greeting = String::new();
        let output = child.stdout.take().expect("piped");
        let read = BufReader::new(output.take(MAX_GREETING)).read_line(&mut greeting).await;
        read.map_err(Error::file("listen to", &self.exe))?;
        let failed = |class: Class, reason: String| refused("create", &task.id, class, reason);
        match serde_json::from_str(&greeting) {
            Ok(Reply::Process(process)) => {
                // Reaped here once it ends, whenever that is.
                tokio::spawn(async move { child.wait().await });
                Ok(process.pid)
            }
            Ok(Reply::Failed { class, reason }) => Err(failed(class, reason)),
            _ => {
                let status = child.wait().await.map_err(Error::file("wait for", &self.exe))?;
                Err(failed(Class::Unknown, format!("its shim exited without reporting a status ({status})")))
            }
        }
    }

    /// Starts a process; its number.
    pub async fn start(&self, ns: &str, id: &str, exec: &str) -> Result<u32> {
        let reply = self.ask("start", ns, id, Request::Start { exec: exec.to_owned() }).await?;
        Ok(process(reply, "start", id)?.pid)
    }

    /// Where a process stands.
    pub async fn state(&self, ns: &str, id: &str, exec: &str) -> Result<Process> {
        let reply = self.ask("look at", ns, id, Request::State { exec: exec.to_owned() }).await?;
        process(reply, "look at", id)
    }

    /// How a process ended, once it has.
    pub async fn wait(&self, ns: &str, id: &str, exec: &str) -> Result<Exit> {
        let reply = self.ask("wait for", ns, id, Request::Wait { exec: exec.to_owned() }).await?;
        let process = process(reply, "wait for", id)?;
        process.exit.ok_or_else(|| refused("wait for", id, Class::Unknown, "it still runs".to_owned()))
    }

    /// Sends a signal to a process, or to all of the container.
    pub async fn kill(&self, ns: &str, id: &str, exec: &str, signal: i32, all: bool) -> Result<()> {
        let request = Request::Kill { exec: exec.to_owned(), signal, all };
        self.ask("kill", ns, id, request).await.map(drop)
    }

    /// Prepares a further process of a container; `process` is its runtime spec.
    pub async fn exec(
        &self,
        ns: &str,
        id: &str,
        exec: &str,
        process: serde_json::Value,
        streams: Streams,
    ) -> Result<()> {
        let request = Request::Exec { exec: exec.to_owned(), process, streams };
        self.ask("exec in", ns, id, request).await.map(drop)
    }

    /// Changes the size of a terminal.
    pub async fn resize(&self, ns: &str, id: &str, exec: &str, width: u16, height: u16) -> Result<()> {
        let request = Request::Resize { exec: exec.to_owned(), width, height };
        self.ask("resize the terminal of", ns, id, request).await.map(drop)
    }

    /// Ends a process's standard input, after what is in the pipe.
    pub async fn close_stdin(&self, ns: &str, id: &str, exec: &str) -> Result<()> {
        let request = Request::CloseStdin { exec: exec.to_owned() };
        self.ask("close the input of", ns, id, request).await.map(drop)
    }

    /// Freezes a container.
    pub async fn pause(&self, ns: &str, id: &str) -> Result<()> {
        self.ask("pause", ns, id, Request::Pause).await.map(drop)
    }

    /// Thaws a container.
    pub async fn resume(&self, ns: &str, id: &str) -> Result<()> {
        self.ask("resume", ns, id, Request::Resume).await.map(drop)
    }

    /// The processes of a container, numbers on the host.
    pub async fn pids(&self, ns: &str, id: &str) -> Result<Vec<u32>> {
        match self.ask("list the processes of", ns, id, Request::Pids).await? {
            Reply::Pids(pids) => Ok(pids),
            _ => Err(unexpected("list the processes of", id)),
        }
    }

    /// Forgets a process that has ended; of the first one, removes the task.
    pub async fn delete(&self, ns: &str, id: &str, exec: &str) -> Result<Process> {
        let reply = self.ask("delete", ns, id, Request::Delete { exec: exec.to_owned() }).await?;
        let ended = process(reply, "delete", id)?;
        if exec.is_empty() {
            let folder = self.folder(ns, id)?;
            buildd_fs::blocking::run(move || stale::remove(&folder)).await?;
        }
        Ok(ended)
    }

    /// The containers of a namespace that have a task.
    pub fn list(&self, ns: &str) -> Result<Vec<String>> {
        names(&self.folder.join(ns))
    }

    /// Every task, as namespace and container.
    pub fn all(&self) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for ns in names(&self.folder)? {
            all.extend(names(&self.folder.join(&ns))?.into_iter().map(|id| (ns.clone(), id)));
        }
        Ok(all)
    }

    async fn ask(&self, operation: &'static str, ns: &str, id: &str, request: Request) -> Result<Reply> {
        let folder = self.folder(ns, id)?;
        if !folder.join(SOCKET).exists() {
            return Err(Error::NotFound { what: "task", name: id.to_owned() });
        }
        let reply = match call(&folder, &request).await {
            Ok(reply) => reply,
            Err(error) => {
                tracing::debug!(%error, ns, id, "the shim does not answer");
                buildd_fs::blocking::run(move || stale::answer(&folder, &request)).await
            }
        };
        match reply {
            Reply::Failed { class, reason } => Err(refused(operation, id, class, reason)),
            reply => Ok(reply),
        }
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::file("list", folder))?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> =
        names.collect::<std::io::Result<_>>().map_err(Error::file("list", folder))?;
    names.sort();
    Ok(names)
}

async fn call(folder: &Path, request: &Request) -> std::io::Result<Reply> {
    let address = Address::of(folder)?;
    let mut stream = UnixStream::connect(address.path()).await?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut reply = String::new();
    BufReader::new(stream.take(MAX_MESSAGE)).read_line(&mut reply).await?;
    Ok(serde_json::from_str(&reply)?)
}

fn process(reply: Reply, operation: &'static str, id: &str) -> Result<Process> {
    match reply {
        Reply::Process(process) => Ok(process),
        _ => Err(unexpected(operation, id)),
    }
}

fn unexpected(operation: &'static str, id: &str) -> Error {
    refused(operation, id, Class::Unknown, "its shim answered something else".to_owned())
}

fn refused(operation: &'static str, id: &str, class: Class, reason: String) -> Error {
    Error::Task { operation, name: id.to_owned(), kind: ErrorKind::from(class), reason }
}
