//! Pidfd: a process by a descriptor, which names it for good; its number is another's soon after it was reaped.
//!
//! Whoever signals a process opens one before anybody can reap it: its parent, or a relative that its parent waits for.
//!
//! # Errors
//! To signal a process that has ended is none.
//!
//! # Sources
//! pidfd_open(2), pidfd_send_signal(2).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{sys::signal::Signal, unistd::Pid};
use rustix::{
    io::Errno,
    process::{PidfdFlags, pidfd_open, pidfd_send_signal},
};

/// A process.
#[derive(Debug)]
pub(crate) struct Pidfd(OwnedFd);

impl Pidfd {
    /// The process of this number, which nobody may have reaped yet.
    pub(crate) fn open(pid: Pid) -> io::Result<Self> {
        let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::SRCH)?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Sends a signal, if the process is still there.
    pub(crate) fn send(&self, signal: Signal) -> io::Result<()> {
        let number = rustix::process::Signal::from_named_raw(signal as i32).ok_or(Errno::INVAL)?;
        match pidfd_send_signal(&self.0, number) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<OwnedFd> for Pidfd {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
