//! Sys: the system calls of this crate that have no safe form. The only unsafe code here.
#![allow(unsafe_code)]

use std::{
    fs::File,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
};

use nix::{
    errno::Errno,
    sched::CloneFlags,
    sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal},
    unistd::{ForkResult, Pid},
};
use rustix::mount::MountAttrFlags;

/// The answer of a system call that has none but whether it worked.
fn done(answer: libc::c_long) -> std::io::Result<()> {
    Ok(Errno::result(answer).map(drop)?)
}

/// Gives all signals their defaults and blocks none: called right before a container's program is executed, which inherits what Rust's
/// runtime, the daemon and whoever started it have set.
pub(crate) fn default_signals() {
    for kind in Signal::iterator() {
        // SAFETY: the default disposition runs no code of ours, so no handler can be interrupted by it.
        let _ = unsafe { signal(kind, SigHandler::SigDfl) };
    }
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Whether the ends of this process's children are of no interest: they leave nothing to be waited for then.
pub(crate) fn forget_children(forget: bool) {
    let handler = if forget { SigHandler::SigIgn } else { SigHandler::SigDfl };
    // SAFETY: neither disposition runs code of ours.
    let _ = unsafe { signal(Signal::SIGCHLD, handler) };
}

/// Waits until a child has ended; it is left to be reaped, so that its number stays its own.
pub(crate) fn next_ended_child() -> std::io::Result<rustix::process::Pid> {
    // SAFETY: all of it is numbers and pointers, of which zero is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is ours, and large enough for what is written to it.
    let answer = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT) };
    done(answer.into())?;
    // SAFETY: waitid has filled in what a SIGCHLD has.
    let pid = unsafe { info.si_pid() };
    rustix::process::Pid::from_raw(pid).ok_or_else(|| std::io::Error::other("a child without a number"))
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

/// Lets the process of a command write `what` to each of these files, in one call, before it executes.
pub(crate) fn write_first(command: &mut Command, files: Vec<File>, what: &'static [u8]) {
    let write = move || {
        for file in &files {
            rustix::io::write(file, what)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it only calls write(2), which is safe there, and takes no lock and no memory.
    let _ = unsafe { command.pre_exec(write) };
}

/// Puts up a seccomp filter, as libseccomp exports it, for this thread and all that it becomes. Bytes that are no filter are refused.
pub(crate) fn load_filter(program: &[u8]) -> std::io::Result<()> {
    let (instructions, rest) = program.as_chunks::<8>();
    let length = u16::try_from(instructions.len()).ok().filter(|length| *length > 0 && rest.is_empty());
    let length = length.ok_or_else(|| std::io::Error::other("it is no seccomp filter"))?;
    let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: [u8; 8]| libc::sock_filter {
        code: u16::from_ne_bytes([c0, c1]),
        jt,
        jf,
        k: u32::from_ne_bytes([k0, k1, k2, k3]),
    };
    let mut instructions: Vec<_> = instructions.iter().copied().map(instruction).collect();
    let program = libc::sock_fprog { len: length, filter: instructions.as_mut_ptr() };
    // SAFETY: `program` and the instructions that it points at, as many as it says, live across the call, which only reads them.
    let loaded =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    done(loaded)
}

/// Forks a process that has one thread, into new namespaces of these kinds; refused if it has more threads.
pub(crate) fn fork_single_threaded(namespaces: CloneFlags) -> std::io::Result<ForkResult> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(std::io::Error::other(format!("a process of {threads} threads is not forked")));
    }
    let args = libc::clone_args {
        flags: u64::from(namespaces.bits().cast_unsigned()),
        exit_signal: libc::SIGCHLD.cast_unsigned().into(),
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: no memory is shared (no CLONE_VM), so the child runs on a copy of this stack; no other thread exists that could hold a lock
    // across the fork, so it may run any code. `args` lives across the call, which only reads it.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match Errno::result(child)? {
        0 => Ok(ForkResult::Child),
        child => {
            let child = Pid::from_raw(i32::try_from(child).map_err(std::io::Error::other)?);
            Ok(ForkResult::Parent { child })
        }
    }
}

/// Sets attributes of a mount that is nowhere yet, if asked for with all that are mounted in it.
pub(crate) fn set_mount_attributes(
    mount: &OwnedFd,
    set: MountAttrFlags,
    recursive: bool,
) -> std::io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: set.bits().into(), attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptor is open as long as `mount` lives; the path and the attributes live across the call, which only reads them.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    done(set)
}

/// Lets all descriptors but the three streams close when a program is executed.
pub(crate) fn close_on_exec() -> std::io::Result<()> {
    // SAFETY: no descriptor is closed here, so none is taken from its owner.
    let set =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    done(set)
}

/// Lets a program for device files (`BPF_PROG_TYPE_CGROUP_DEVICE`) decide for a control group of version 2, as long as that exists.
pub(crate) fn attach_device_program(group: &File, program: &[[u8; 8]]) -> std::io::Result<()> {
    const LOAD: libc::c_int = 5;
    const ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE_PROGRAM: u32 = 15;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    /// The begin of `union bpf_attr` for `BPF_PROG_LOAD`.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        program: *const [u8; 8],
        licence: *const libc::c_char,
        log: [u32; 6],
    }
    let count = u32::try_from(program.len()).map_err(std::io::Error::other)?;
    let licence = c"Apache".as_ptr();
    let load = Load { kind: CGROUP_DEVICE_PROGRAM, count, program: program.as_ptr(), licence, log: [0; 6] };
    // SAFETY: the attributes, the instructions, as many as `count` says, and the licence live across the call, which only reads them.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, LOAD, &raw const load, size_of::<Load>()) };
    let loaded = i32::try_from(Errno::result(loaded)?).map_err(std::io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let descriptor = |fd: i32| u32::try_from(fd).map_err(std::io::Error::other);
    let attach =
        [descriptor(group.as_raw_fd())?, descriptor(loaded.as_raw_fd())?, CGROUP_DEVICE, ALLOW_MULTI];
    // SAFETY: the attributes live across the call, which only reads them.
    done(unsafe { libc::syscall(libc::SYS_bpf, ATTACH, attach.as_ptr(), size_of_val(&attach)) })
}
