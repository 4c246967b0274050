//! Spawner: one process for a daemon's life that starts the helper of every step, by forking itself.
//!
//! To execute a program as large as the daemon takes milliseconds, its relocations alone one or two, and a RUN of `true` takes ten. The
//! spawner has them behind it, has read nothing of the daemon's, and has one thread: a fork of it is a helper at once.
//!
//! # Wire
//! A socket of packets on its standard input. A packet is the name of a step's folder, and four descriptors: three become the helper's
//! standard streams, all are closed when the step is over. There are no answers.
//!
//! # Invariants
//! It ends with the daemon, whose end of the socket closes. Helpers that it has started go on to their own end.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
};

use nix::{sched::CloneFlags, unistd::ForkResult};
use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    pipe::{PipeFlags, pipe_with},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use super::helper::helper_main;
use crate::{
    error::{Error, Result},
    sys,
};

/// The hidden subcommand that a binary must hand to `spawner_main` before it starts threads.
pub const SPAWNER: &str = "step-spawner";
/// Longest name of a step's folder.
const NAME: usize = 255;
/// Room for the four descriptors of a packet.
const ROOM: usize = rustix::cmsg_space!(ScmRights(4));

/// Our ends of a helper's streams.
#[derive(Debug)]
pub(super) struct Streams {
    /// Where its standard input is written to.
    pub(super) input: OwnedFd,
    /// Where its standard output is read.
    pub(super) out: OwnedFd,
    /// Where its standard error is read.
    pub(super) err: OwnedFd,
}

/// The daemon's side.
#[derive(Debug)]
pub(super) struct Spawner {
    exe: PathBuf,
    steps: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    process: Child,
    socket: OwnedFd,
}

impl Spawner {
    /// One that is started when it is first needed, from the binary `exe` that knows `SPAWNER`; the steps' folders are in `steps`.
    pub(super) fn new(exe: &Path, steps: &Path) -> Self {
        Self { exe: exe.to_owned(), steps: steps.to_owned(), running: Mutex::default() }
    }

    /// Starts the helper of the step whose folder has this name; with its streams what has nothing to be read, and an end when the step is over.
    pub(super) fn start(&self, name: &str) -> Result<(Streams, OwnedFd)> {
        self.send(name).map_err(Error::file("start a step with", &self.exe))
    }

    fn send(&self, name: &str) -> io::Result<(Streams, OwnedFd)> {
        let (theirs_in, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (out, theirs_out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err, theirs_err) = pipe_with(PipeFlags::CLOEXEC)?;
        let (life, theirs_life) = pipe_with(PipeFlags::CLOEXEC)?;
        let packet = |socket: &OwnedFd| {
            let streams = [&theirs_in, &theirs_out, &theirs_err, &theirs_life].map(AsFd::as_fd);
            let mut room = [MaybeUninit::uninit(); ROOM];
            let mut with = SendAncillaryBuffer::new(&mut room);
            with.push(SendAncillaryMessage::ScmRights(&streams));
            sendmsg(socket, &[IoSlice::new(name.as_bytes())], &mut with, SendFlags::NOSIGNAL)
        };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was killed is replaced; a new one that does not listen either is the failure.
        let sent = running.as_ref().is_some_and(|running| packet(&running.socket).is_ok());
        if !sent {
            if let Some(mut gone) = running.take() {
                let status = gone.process.kill().and_then(|()| gone.process.wait())?;
                tracing::warn!(%status, "the steps' spawner was gone: another is started");
            }
            let started = self.spawn()?;
            packet(&running.insert(started).socket)?;
        }
        Ok((Streams { input, out, err }, life))
    }

    fn spawn(&self) -> io::Result<Running> {
        let packets = SocketType::SEQPACKET;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, packets, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new(&self.exe);
        command.arg(SPAWNER).arg(&self.steps).env_clear().stdin(theirs).stdout(Stdio::null());
        Ok(Running { process: command.spawn()?, socket })
    }
}

impl Drop for Running {
    /// It ends with the socket; whoever drops it is about to.
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// Forks a helper for each packet; `steps` has the steps' folders. Returns in the helpers too, with what they end with.
pub fn spawner_main(steps: &Path) -> ExitCode {
    match serve(steps) {
        Ok(code) => code,
        Err(error) => {
            complain("serve", &error);
            ExitCode::FAILURE
        }
    }
}

fn serve(steps: &Path) -> io::Result<ExitCode> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    // A helper's own standard input is another.
    dup2_stdin(File::open("/dev/null")?)?;
    sys::forget_children(true);
    while let Some((name, [input, out, err, life])) = receive(&socket)? {
        match sys::fork_single_threaded(CloneFlags::empty()) {
            Ok(ForkResult::Parent { .. }) => {}
            Ok(ForkResult::Child) => {
                drop(socket);
                sys::forget_children(false);
                dup2_stdin(&input)?;
                dup2_stdout(&out)?;
                dup2_stderr(&err)?;
                drop((input, out, err));
                return Ok(helper_main(&steps.join(OsStr::from_bytes(&name)), life));
            }
            // Its streams close: that is how the daemon learns of it.
            Err(error) => complain("fork", &error),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells the daemon's log: nobody else listens.
fn complain(operation: &str, error: &io::Error) {
    let _ = writeln!(io::stderr(), "buildd: the steps' spawner: {operation}: {error}");
}

/// The next packet; none is the end.
fn receive(socket: &OwnedFd) -> io::Result<Option<(Vec<u8>, [OwnedFd; 4])>> {
    let mut name = vec![0; NAME];
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut with = RecvAncillaryBuffer::new(&mut room);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut name)], &mut with, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    name.truncate(received.bytes);
    let mut streams = Vec::new();
    for message in with.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            streams.extend(descriptors);
        }
    }
    let streams = streams.try_into().map_err(|_| io::Error::other("a packet without four descriptors"))?;
    Ok(Some((name, streams)))
}
