//! Console: takes over the terminal that was made inside a container.
//!
//! A terminal must come from the container's own devpts, or its name means nothing there. So who sets the container up makes it and hands its
//! master over a socket.
//!
//! # Sources
//! runc `docs/terminals.md`: one message, one descriptor.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use buildd_fs::path::through;
use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

const SOCKET: &str = "console.sock";
/// Bytes that are copied at once.
const CHUNK: usize = 32 << 10;

/// A socket that waits for a terminal.
pub(crate) struct Console {
    listener: UnixListener,
    _folder: File,
    path: PathBuf,
}

impl Console {
    /// Listens in the folder of a task or a step.
    pub(crate) fn listen(folder: &Path) -> io::Result<Self> {
        let held = File::open(folder)?;
        // However deep the folder is, this path fits a socket's address.
        let path = through(&held).join(SOCKET);
        let listener = UnixListener::bind(&path)?;
        Ok(Self { listener, _folder: held, path })
    }

    /// The socket's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The master that was sent.
    pub(crate) fn receive(&self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        receive(&stream)
    }
}

/// Makes a terminal of the container's that the calling process is in its own, and its streams; the terminal's master.
pub(crate) fn take_on() -> io::Result<OwnedFd> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = rustix::fs::open(&*name, rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::process::ioctl_tiocsctty(&slave)?;
    rustix::stdio::dup2_stdin(&slave)?;
    rustix::stdio::dup2_stdout(&slave)?;
    rustix::stdio::dup2_stderr(&slave)?;
    Ok(master)
}

/// Copies until one of the two ends: EIO is how a terminal says that nobody has it open any more.
pub(crate) fn copy(mut from: File, mut to: File) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// One descriptor from a socket.
pub(crate) fn receive(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4096];
    recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "no terminal came over the socket");
    rights.next().and_then(|mut rights| rights.next()).ok_or_else(missing)
}

/// Sends one descriptor.
pub(crate) fn send(stream: &UnixStream, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(stream, &[IoSlice::new(b"t")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}
