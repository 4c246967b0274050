//! Sys: the system calls of this crate that have no safe form. The only unsafe code here.
#![allow(unsafe_code)]

use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal},
    unistd::{ForkResult, fork},
};

/// Gives all signals their defaults and blocks none: called right before a container's program is executed, which inherits what Rust's
/// runtime, the daemon and whoever started it have set.
pub(crate) fn default_signals() {
    for kind in Signal::iterator() {
        // SAFETY: the default disposition runs no code of ours, so no handler can be interrupted by it.
        let _ = unsafe { signal(kind, SigHandler::SigDfl) };
    }
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Takes over a descriptor that was inherited under this number.
pub(crate) fn take_descriptor(number: i32) -> std::io::Result<OwnedFd> {
    let inherited = number > 2 && std::path::Path::new(&format!("/proc/self/fd/{number}")).exists();
    if !inherited {
        return Err(std::io::Error::other(format!("descriptor {number} was not inherited")));
    }
    // SAFETY: it is open, as just seen, and nothing in this process owns it: this is called once, first thing, with what the parent passed.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
    Ok(owned)
}

/// Lets the kernel begin to write what a file has in memory, and does not wait for it. A mere hint: where it cannot be given, the sync that
/// follows does all the work.
pub(crate) fn start_writeback(file: &File) {
    // SAFETY: the descriptor is open as long as `file` lives; no memory is passed.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Forks a process that has one thread; refused if it has more.
pub(crate) fn fork_single_threaded() -> std::io::Result<ForkResult> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(std::io::Error::other(format!("a process of {threads} threads is not forked")));
    }
    // SAFETY: no other thread exists that could hold a lock across the fork, so the child may run any code.
    Ok(unsafe { fork() }?)
}
