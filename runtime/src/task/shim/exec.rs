//! Exec: a further process in a container that runs.
//!
//! Its shim starts a helper (`buildd task-exec`), which joins the container's namespaces, forks, and in the child takes on cgroup, user,
//! capabilities and filter before the program is executed. libcontainer's own way in is not used because it leaves the filter out. The helper
//! stays outside as the parent, and ends with the process's exit code.
//!
//! # Wire
//! Helper's standard streams: the process's. Descriptor `argv[2]`: a socket. Shim to helper: one line of JSON (`Entering`). Back: the
//! process's number as a line, and its pidfd; then `ready`, or why not; the terminal's master, if one was asked for.
//!
//! # Invariants
//! Nothing of ours can be reached from the container: the child is not dumpable until it executes, and its socket is closed by that.
//!
//! # Sources
//! runc `libcontainer/setns_init_linux.go`, for the order.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::{fd::AsRawFd, fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxSeccomp, Process};
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use crate::{console, pidfd::Pidfd};

use super::{
    super::{EXEC, protocol::Class, spec},
    Refusal,
    init::Init,
    processes::{Pending, Spawned},
    streams::{self, Kept},
};

mod enter;

/// Bytes of a line between shim and helper.
const MAX_LINE: u64 = 16 << 20;

/// Bytes of what a helper says.
const MAX_WORD: usize = 64 << 10;

/// What a helper is told.
#[derive(Debug, Serialize, Deserialize)]
struct Entering {
    /// The container's first process.
    first: i32,
    /// Its cgroup, below each hierarchy.
    cgroup: PathBuf,
    /// The filter of the container.
    seccomp: Option<LinuxSeccomp>,
    /// What to run.
    process: Process,
}

/// What a helper says.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// The process's number on the host.
    Pid(i32),
    /// Nothing can go wrong any more but the execution itself.
    Ready,
    /// It cannot be run.
    Failed(String),
}

/// Starts a further process in a container; `launch` starts the helper, and tells who reaps whose it is.
pub(super) fn spawn(
    first: Pid,
    container: &Init,
    pending: &Pending,
    launch: impl FnOnce(&mut Command) -> io::Result<()>,
) -> Result<Spawned, Refusal> {
    let mut process: Process = serde_json::from_value(pending.process.clone())
        .map_err(|error| Refusal::new(Class::Invalid, format!("the process's spec: {error}")))?;
    process.set_terminal(Some(pending.streams.terminal));
    spec::check_user(&process).map_err(|reason| Refusal::new(Class::Invalid, reason))?;
    let uid = process.user().uid();
    let seccomp = container.filter();
    let entering =
        Entering { first: first.as_raw(), cgroup: container.cgroup().to_owned(), seccomp, process };
    let (ours, theirs) = UnixStream::pair()?;
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(EXEC).arg(theirs.as_raw_fd().to_string()).env_clear().current_dir("/");
    let mut kept = Kept::default();
    if pending.streams.terminal {
        let null = || std::process::Stdio::null();
        command.stdin(null()).stdout(null()).stderr(null());
    } else {
        let opened = streams::open(&pending.streams, uid)?;
        kept = opened.kept;
        command.stdin(opened.stdin).stdout(opened.stdout).stderr(opened.stderr);
    }
    launch(&mut command)?;
    drop((command, theirs));
    let (pid, process, console) = greet(&ours, &entering, pending.streams.terminal)?;
    Ok(Spawned { pid, process, kept, console })
}

/// Tells the helper what to run; the process's number, itself, and the master of its terminal.
fn greet(
    ours: &UnixStream,
    entering: &Entering,
    terminal: bool,
) -> Result<(Pid, Pidfd, Option<OwnedFd>), Refusal> {
    say(ours, entering)?;
    let mut words = Words(ours);
    let refused = |reason| Refusal::new(Class::Unknown, reason);
    let gone = || refused("the helper exited without reporting a status".to_owned());
    let pid = match words.next()? {
        Some(Word::Pid(pid)) => Pid::from_raw(pid),
        Some(Word::Failed(reason)) => return Err(refused(reason)),
        _ => return Err(gone()),
    };
    let process = Pidfd::from(console::receive(ours)?);
    let word = words.next()?;
    match word {
        Some(Word::Ready) => {}
        Some(Word::Failed(reason)) => return Err(refused(reason)),
        _ => return Err(gone()),
    }
    let console = terminal.then(|| console::receive(ours)).transpose()?;
    Ok((pid, process, console))
}

fn say<T: Serialize>(mut to: impl Write, word: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads words byte by byte: what follows the last one is a message of another kind.
struct Words<'a>(&'a UnixStream);

impl Words<'_> {
    fn next(&mut self) -> io::Result<Option<Word>> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < MAX_WORD && self.0.read(&mut byte)? == 1 {
            match byte[0] {
                b'\n' => return Ok(Some(serde_json::from_slice(&line)?)),
                byte => line.push(byte),
            }
        }
        Ok(None)
    }
}

/// Enters a container and runs a process there, as the socket of this number says.
pub fn exec_main(socket: &Path) -> ExitCode {
    let number = socket.to_str().and_then(|text| text.parse().ok());
    let socket = number.and_then(|number| crate::sys::take_descriptor(number).ok());
    let Some(socket) = socket.map(UnixStream::from) else {
        super::log("this command is not for people");
        return ExitCode::FAILURE;
    };
    let run = || -> Result<u8, Refusal> {
        let mut line = String::new();
        BufReader::new((&socket).take(MAX_LINE)).read_line(&mut line)?;
        let entering: Entering = serde_json::from_str(&line)?;
        enter::run(&entering, &socket)
    };
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(refusal) => {
            let _ = say(&socket, &Word::Failed(refusal.reason));
            ExitCode::FAILURE
        }
    }
}
