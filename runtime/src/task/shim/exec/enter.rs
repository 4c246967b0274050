//! Enter: from the host into a container, step by step. Runs in the helper, which has one thread.
//!
//! # Invariants
//! The filter is loaded while its loading is still allowed and before the program runs: a process without the container's filter never
//! executes anything of the container.

use std::{
    fs::File,
    io::{self, Read},
    os::{fd::AsFd, unix::net::UnixStream},
};

use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager};
use libcontainer::{capabilities, seccomp, syscall::syscall::create_syscall};
use nix::{
    sched::{CloneFlags, setns},
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::{self, ForkResult, Gid, Pid, Uid},
};

use super::{Entering, Word, say};
use crate::{console, pidfd::Pidfd, program, task::shim::Refusal};

/// The namespaces to join after the fork, the one of mounts last: the others are opened by paths of the host.
const NAMESPACES: [(&str, CloneFlags); 5] = [
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// Runs the process; its exit code.
pub(super) fn run(entering: &Entering, socket: &UnixStream) -> Result<u8, Refusal> {
    // What runs in the container must not look into us, not even before we are all in.
    nix::sys::prctl::set_dumpable(false)?;
    let folder = format!("/proc/{}/ns", entering.first);
    let opened = NAMESPACES.map(|(name, kind)| (File::open(format!("{folder}/{name}")), kind));
    setns(File::open(format!("{folder}/pid"))?, CloneFlags::CLONE_NEWPID)?;
    // The child speaks after us: it waits for this pipe to end.
    let (mut told, telling) = io::pipe()?;
    match crate::sys::fork_single_threaded(CloneFlags::empty())? {
        ForkResult::Child => {
            drop(telling);
            let waited = told.read_to_end(&mut Vec::new()).map_err(Refusal::from);
            let entered = waited.and_then(|_| become_process(entering, opened, socket));
            let Err(Refusal { reason, .. }) = entered;
            let _ = say(socket, &Word::Failed(reason));
            std::process::exit(126);
        }
        ForkResult::Parent { child } => {
            // Before it can be reaped, which is for us to do.
            let process = Pidfd::open(child)?;
            say(socket, &Word::Pid(child.as_raw()))?;
            console::send(socket, process.as_fd())?;
            drop(telling);
            watch(child)
        }
    }
}

fn watch(child: Pid) -> Result<u8, Refusal> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

type Opened = [(io::Result<File>, CloneFlags); NAMESPACES.len()];

/// Takes on everything the container is, and executes. Returns only if it failed.
fn become_process(
    entering: &Entering,
    opened: Opened,
    socket: &UnixStream,
) -> Result<std::convert::Infallible, Refusal> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let Entering { cgroup, seccomp, process, .. } = entering;
    let config =
        CgroupConfig { cgroup_path: cgroup.clone(), systemd_cgroup: false, container_name: String::new() };
    create_cgroup_manager(config)?.add_task(Pid::this())?;
    unistd::setsid()?;
    for (namespace, kind) in opened {
        setns(namespace?, kind)?;
    }
    unistd::chdir(process.cwd())?;
    let master = process.terminal().unwrap_or_default().then(console::take_on).transpose()?;
    let syscall = create_syscall();
    for limit in process.rlimits().iter().flatten() {
        syscall.set_rlimit(limit)?;
    }
    if process.no_new_privileges() == Some(true) {
        nix::sys::prctl::set_no_new_privs()?;
    }
    let user = process.user();
    let groups = user.additional_gids().iter().flatten();
    syscall.set_groups(&groups.map(|gid| Gid::from_raw(*gid)).collect::<Vec<_>>())?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(user.umask().unwrap_or(0o022)));
    syscall.set_id(Uid::from_raw(user.uid()), Gid::from_raw(user.gid()))?;
    if let Some(filter) = seccomp {
        seccomp::initialize_seccomp(filter)?;
    }
    capabilities::reset_effective(syscall.as_ref())?;
    if let Some(set) = process.capabilities() {
        capabilities::drop_privileges(set, syscall.as_ref())?;
    }
    let found = program::find_of(process).map_err(|reason| Refusal::new(super::Class::Unknown, reason))?;
    say(socket, &Word::Ready)?;
    if let Some(master) = master {
        console::send(socket, master.as_fd())?;
    }
    let environment = process.env().clone().unwrap_or_default();
    Err(program::execute(&found, process.args().as_deref().unwrap_or_default(), Some(environment)).into())
}
