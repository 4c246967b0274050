//! Stale state: what is on disk of a task whose shim is gone.
//!
//! A shim that is killed takes the processes of its container along. Its folder still tells what ran and, if the process ended first, how; it
//! is answered from here until the client deletes the task.

use std::{fs, io, path::Path};

use buildd_fs::overlay::OverlayError;
use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager};
use oci_spec::runtime::Spec;
use rustix::{io::Errno, mount::UnmountFlags};

use super::{
    cgroup_lock::{self, CgroupLock},
    protocol::{Class, EXIT, Exit, Process, ROOTFS, Reply, Request, Status, TASK, TaskSpec},
};
use crate::{
    error::{Error, Result},
    step::PARENT,
};

/// The exit code of a process that nobody saw end: it was killed with its shim.
const KILLED: u32 = 137;

/// What a dead shim would have answered.
pub(super) fn answer(folder: &Path, request: &Request) -> Reply {
    match request {
        Request::State { exec } | Request::Wait { exec } | Request::Delete { exec } if exec.is_empty() => {
            match ended(folder) {
                Ok(process) => Reply::Process(process),
                Err(error) => Reply::Failed { class: Class::Unknown, reason: error.to_string() },
            }
        }
        _ => Reply::Failed { class: Class::NotFound, reason: "process already finished".to_owned() },
    }
}

fn ended(folder: &Path) -> io::Result<Process> {
    let task: TaskSpec = serde_json::from_slice(&fs::read(folder.join(TASK))?)?;
    let exit = match fs::read(folder.join(EXIT)) {
        Ok(text) => serde_json::from_slice::<Process>(&text)?,
        Err(_) => Process {
            pid: 0,
            status: Status::Stopped,
            streams: task.streams,
            exit: Some(Exit { code: KILLED, ..Exit::now(KILLED) }),
        },
    };
    Ok(exit)
}

/// Removes a task's cgroups, its mounted root, and its folder.
pub(super) fn remove(folder: &Path) -> Result<()> {
    if let Ok(spec) = Spec::load(folder.join("config.json")) {
        remove_cgroups(&spec);
    }
    let root = folder.join(ROOTFS);
    loop {
        match rustix::mount::unmount(&root, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => {
                return Err(OverlayError::unmount(root)(error.into()).into());
            }
        }
    }
    // Never through a mount: a root that is still there is empty now, or this fails.
    match fs::remove_dir(&root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::file("remove", root)(error));
        }
        _ => {}
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn remove_cgroups(spec: &Spec) {
    let Some(path) = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone()) else {
        return;
    };
    match CgroupLock::inherit(&path) {
        Ok(Some(_claim)) => {
            let cgroup_path = path.clone();
            let config = CgroupConfig { cgroup_path, systemd_cgroup: false, container_name: String::new() };
            let removed = create_cgroup_manager(config).map(|manager| manager.remove());
            tracing::debug!(path = %path.display(), gone = matches!(removed, Ok(Ok(()))), "remove a task's cgroups");
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "remove a task's cgroups"),
    }
    // libcontainer leaves the parent, which goes with the last of its tasks: the kernel refuses while there is another. Ours stays: steps and
    // other daemons are about to make groups in it at any moment.
    let parent = path.parent().filter(|parent| ![Path::new("/"), Path::new(PARENT)].contains(parent));
    let Some(parent) = parent.and_then(|parent| parent.strip_prefix("/").ok()) else { return };
    for hierarchy in cgroup_lock::hierarchies() {
        let _ = fs::remove_dir(hierarchy.join(parent));
    }
}
