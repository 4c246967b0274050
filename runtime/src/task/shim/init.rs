//! Init: a container and its first process, by libcontainer.
//!
//! # Sources
//! runtime-spec 1.1, lifecycle; spec runtime ("Process design").

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use buildd_fs::mounts;
use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager};
use libcontainer::{
    container::{Container, ContainerStatus, builder::ContainerBuilder},
    syscall::syscall::SyscallType,
};
use nix::{sys::signal::Signal, unistd::Pid};
use oci_spec::runtime::{LinuxSeccomp, Spec};

use super::{
    super::{
        cgroup_lock::CgroupLock,
        protocol::{Class, ROOTFS, Streams, TaskSpec},
        spec,
    },
    Refusal,
    processes::First,
    streams,
};
use crate::{console::Console, pidfd::Pidfd, program::Program};

/// The name of every container to libcontainer: each has a state folder of its own.
const NAME: &str = "task";
/// libcontainer's state, in the task's folder.
const STATE: &str = "runtime";

/// A container.
pub(super) struct Init {
    state: PathBuf,
    spec: Spec,
    cgroup: PathBuf,
    lock: CgroupLock,
}

/// Unmounts the root again if the container does not come to be.
struct Mounted<'a>(Option<&'a Path>);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Some(root) = self.0 {
            let _ = mounts::unmount(root);
        }
    }
}

/// Makes the container, waiting to be started. Forks: the caller has one thread.
pub(super) fn create(folder: &Path, task: &TaskSpec) -> Result<(Init, First), Refusal> {
    let spec = spec::adapt(task, folder).map_err(|reason| Refusal::new(Class::Invalid, reason))?;
    // Before anything tells of the group: what of a refused task is cleared away must not reach it.
    let cgroup = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone()).unwrap_or_default();
    let lock = CgroupLock::take(&cgroup).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => Refusal::new(Class::AlreadyExists, error.to_string()),
        _ => error.into(),
    })?;
    let root = folder.join(ROOTFS);
    fs::create_dir(&root)?;
    let mut mounted = Mounted(None);
    if !task.rootfs.is_empty() {
        mounts::mount_all(&task.rootfs, &root)?;
        mounted.0 = Some(&root);
    }
    spec.save(folder.join("config.json"))?;
    let init = Init { state: folder.join(STATE), spec, cgroup, lock };
    let first = build(folder, &init, &task.streams)?;
    mounted.0 = None;
    Ok((init, first))
}

fn build(folder: &Path, init: &Init, streams: &Streams) -> Result<First, Refusal> {
    let process = init.spec.process().as_ref().ok_or_else(|| Refusal::new(Class::Invalid, "no process"))?;
    let mut builder = ContainerBuilder::new(NAME.to_owned(), SyscallType::default())
        .with_root_path(&init.state)?
        .with_executor(Program);
    let mut kept = streams::Kept::default();
    let console = streams.terminal.then(|| Console::listen(folder)).transpose()?;
    match &console {
        Some(console) => builder = builder.with_console_socket(Some(console.path())),
        None => {
            let opened = streams::open(streams, process.user().uid())?;
            kept = opened.kept;
            builder = builder.with_stdin(opened.stdin).with_stdout(opened.stdout).with_stderr(opened.stderr);
        }
    }
    let container = builder.validate_id()?.as_init(folder).with_systemd(false).with_detach(true).build();
    let container = container.map_err(not_made)?;
    let pid = container.pid().ok_or_else(|| Refusal::new(Class::Unknown, "the container has no process"))?;
    let console = console.map(|console| console.receive()).transpose()?;
    let pid = Pid::from_raw(pid.as_raw());
    // A child of ours that nobody has reaped: nobody does before we serve.
    let process = Pidfd::open(pid)?;
    Ok(First { pid, process, streams: streams.clone(), kept, console })
}

/// Why libcontainer made no container: what the program's search said, where that was it, without the layers around it.
fn not_made(error: libcontainer::error::LibcontainerError) -> Refusal {
    let Refusal { class, reason } = Refusal::from(error);
    match reason.find("exec: \"") {
        Some(at) => Refusal::new(class, &reason[at..]),
        None => Refusal { class, reason },
    }
}

impl Init {
    fn container(&self) -> Result<Container, Refusal> {
        Ok(Container::load(self.state.join(NAME))?)
    }

    /// Its filter.
    pub(super) fn filter(&self) -> Option<LinuxSeccomp> {
        self.spec.linux().as_ref().and_then(|linux| linux.seccomp().clone())
    }

    /// Its cgroup, below each hierarchy.
    pub(super) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Starts its first process.
    pub(super) fn start(&self) -> Result<(), Refusal> {
        Ok(self.container()?.start()?)
    }

    /// Whether it is frozen.
    pub(super) fn paused(&self) -> bool {
        self.container().is_ok_and(|container| container.status() == ContainerStatus::Paused)
    }

    /// Freezes it.
    pub(super) fn pause(&self) -> Result<(), Refusal> {
        self.container()?.pause().map_err(|error| Refusal::new(Class::Precondition, error.to_string()))
    }

    /// Thaws it.
    pub(super) fn resume(&self) -> Result<(), Refusal> {
        self.container()?.resume().map_err(|error| Refusal::new(Class::Precondition, error.to_string()))
    }

    /// Its processes, numbers on the host.
    pub(super) fn pids(&self) -> Result<Vec<u32>, Refusal> {
        let config = CgroupConfig {
            cgroup_path: self.cgroup.clone(),
            systemd_cgroup: false,
            container_name: NAME.to_owned(),
        };
        let pids = create_cgroup_manager(config)?.get_all_pids()?;
        Ok(pids.into_iter().map(|pid| pid.as_raw().unsigned_abs()).collect())
    }

    /// Sends a signal to every process.
    pub(super) fn kill_all(&self, signal: i32) -> Result<(), Refusal> {
        let signal = signal_of(signal)?;
        let opened = self.pids()?.into_iter().map(|pid| (pid, Pidfd::open(Pid::from_raw(pid.cast_signed()))));
        let opened: Vec<_> = opened.filter_map(|(pid, process)| Some((pid, process.ok()?))).collect();
        // A number that was free before it was opened may be a stranger's: one that is in the group still, or again, leads to none.
        let members = self.pids()?;
        for (_, process) in opened.iter().filter(|(pid, _)| members.contains(pid)) {
            process.send(signal)?;
        }
        Ok(())
    }

    /// Removes it with all processes that are left.
    pub(super) fn delete(&self) -> Result<(), Refusal> {
        match self.container() {
            Ok(mut container) => container.delete(true)?,
            // An earlier delete came this far.
            Err(_) if !self.state.join(NAME).exists() => {}
            Err(refusal) => return Err(refusal),
        }
        self.lock.release();
        Ok(())
    }
}

/// A signal by its number.
pub(super) fn signal_of(number: i32) -> Result<Signal, Refusal> {
    Signal::try_from(number).map_err(|_| Refusal::new(Class::Invalid, format!("{number} is not a signal")))
}
