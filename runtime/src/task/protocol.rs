//! Protocol: what the daemon and a shim say to each other. Private to one version of the binary, except across an upgrade.
//!
//! One request a connection: a line of JSON there, a line of JSON back. Fields are only ever added, with defaults, because a new daemon
//! adopts the shims of the old one.
//!
//! # On disk
//! ```text
//! <state>/tasks/<ns>/<id>/task.json     what to run (`TaskSpec`)       config.json   the runtime spec as it was run
//!                         rootfs/       the container's root, mounted  shim.sock     where the shim answers
//!                         exit.json     how the process ended          runtime/      libcontainer's state
//! ```

use std::{
    io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use buildd_fs::{mounts::Mount, path::through};
use buildd_oci::ErrorKind;
use serde::{Deserialize, Serialize};

/// What a task runs.
pub(super) const TASK: &str = "task.json";
/// Where its shim answers.
pub(super) const SOCKET: &str = "shim.sock";
/// How its process ended.
pub(super) const EXIT: &str = "exit.json";
/// The container's root.
pub(super) const ROOTFS: &str = "rootfs";
/// Bytes of a request or a reply: a process with a large environment fits, an endless line does not.
pub(super) const MAX_MESSAGE: u64 = 16 << 20;

/// The streams of a process: paths of named pipes, `file://` paths, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Standard input.
    pub stdin: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error; unused with a terminal.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

/// What a task is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Its namespace.
    pub namespace: String,
    /// Its container.
    pub id: String,
    /// The client's runtime spec.
    pub spec: serde_json::Value,
    /// What is mounted as its root; nothing if the spec names a folder that is there.
    pub rootfs: Vec<Mount>,
    /// The streams of its first process.
    pub streams: Streams,
}

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It waits to be started.
    Created,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It has ended.
    Stopped,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code; 128 and the signal if one ended it.
    pub code: u32,
    /// When, in nanoseconds since 1970.
    pub at: u64,
}

impl Exit {
    /// An end just now.
    pub(super) fn now(code: u32) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { code, at: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// When it ended.
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + std::time::Duration::from_nanos(self.at)
    }
}

/// A process of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number on the host; 0 before it has one.
    pub pid: u32,
    /// Where it stands.
    pub status: Status,
    /// Its streams.
    pub streams: Streams,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
}

/// What is asked of a shim. `exec` names a further process of the container, empty its first one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Where the process stands.
    State { exec: String },
    /// Starts it.
    Start { exec: String },
    /// Answers once it has ended.
    Wait { exec: String },
    /// Sends a signal to it, or to every process of the container.
    Kill { exec: String, signal: i32, all: bool },
    /// Prepares a further process.
    Exec { exec: String, process: serde_json::Value, streams: Streams },
    /// Changes its terminal's size, in characters.
    Resize { exec: String, width: u16, height: u16 },
    /// Ends its standard input.
    CloseStdin { exec: String },
    /// Freezes all processes.
    Pause,
    /// Thaws them.
    Resume,
    /// Lists them.
    Pids,
    /// Forgets a process that has ended; of the first one, removes the container and ends the shim.
    Delete { exec: String },
}

/// What a shim answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It is done.
    Done,
    /// The process that was asked about.
    Process(Process),
    /// Numbers on the host.
    Pids(Vec<u32>),
    /// It could not be done.
    Failed { class: Class, reason: String },
}

/// Classes of failures that clients tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Class {
    /// No such process.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// Not in this state.
    Precondition,
    /// The request makes no sense.
    Invalid,
    /// Everything else.
    Unknown,
}

impl From<Class> for ErrorKind {
    fn from(class: Class) -> Self {
        match class {
            Class::NotFound => Self::NotFound,
            Class::AlreadyExists => Self::AlreadyExists,
            Class::Precondition => Self::FailedPrecondition,
            Class::Invalid => Self::InvalidArgument,
            Class::Unknown => Self::Unknown,
        }
    }
}

/// A socket's path through a descriptor of its folder: however deep the state folder is, the address fits.
pub(super) struct Address {
    _folder: std::fs::File,
    path: PathBuf,
}

impl Address {
    /// The shim's socket in a task's folder.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let folder = std::fs::File::open(folder)?;
        let path = through(&folder).join(SOCKET);
        Ok(Self { _folder: folder, path })
    }

    /// The path, good as long as this lives.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A socket that listens there.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        UnixListener::bind(&self.path)
    }
}
