//! Spec: a client's runtime spec, made fit for this machine before a task runs by it.
//!
//! Clients write specs for runc. What libcontainer does differently, and what this machine's missing privileges forbid, is evened out here;
//! what would let a container out is refused.

use std::path::{Component, Path, PathBuf};

use buildd_fs::sys::NO_ID;
use oci_spec::runtime::{Mount, PosixRlimitBuilder, Process, Spec};
use rustix::{process::Resource, thread::CapabilitySet};

use super::protocol::{ROOTFS, TaskSpec};
use crate::{profile::seccomp, step::HIERARCHIES};

/// The annotation by which a client asks for our default filter; containerd has no field for it.
const DEFAULT_SECCOMP: &str = "io.buildd.seccomp";
/// Kernel filesystems that the masks protect: a mount at, in or over them would lift the masks or be reached through them.
const PROTECTED: [&str; 2] = ["/proc", "/sys"];

/// The spec that is run; or why the client's cannot be.
pub(super) fn adapt(task: &TaskSpec, folder: &Path) -> Result<Spec, String> {
    let mut spec: Spec =
        serde_json::from_value(task.spec.clone()).map_err(|error| format!("the runtime spec: {error}"))?;
    adapt_root(&mut spec, task, folder)?;
    for mount in spec.mounts().iter().flatten() {
        check_mount(mount)?;
    }
    adapt_linux(&mut spec, task)?;
    adapt_cgroups(&mut spec);
    adapt_process(&mut spec, task)?;
    Ok(spec)
}

fn adapt_root(spec: &mut Spec, task: &TaskSpec, folder: &Path) -> Result<(), String> {
    let mut root = spec.root().clone().ok_or("the runtime spec has no root")?;
    if !task.rootfs.is_empty() {
        root.set_path(folder.join(ROOTFS));
    } else if !root.path().is_absolute() {
        return Err(format!("root {} is not absolute, and nothing is mounted for it", root.path().display()));
    }
    spec.set_root(Some(root));
    Ok(())
}

/// Refuses binds that would reach the masked files: their paths are looked up again after all is mounted (GHSA-3q8j-pf29-vwv8).
fn check_mount(mount: &Mount) -> Result<(), String> {
    let options = mount.options().as_deref().unwrap_or_default();
    let bind = mount.typ().as_deref() == Some("bind") || options.iter().any(|o| o == "bind" || o == "rbind");
    let target = normal(mount.destination());
    if !bind || mount.source().as_deref() == Some(target.as_path()) && target == Path::new("/sys") {
        return Ok(());
    }
    let covers = |kernel: &&str| target.starts_with(kernel) || Path::new(kernel).starts_with(&target);
    match PROTECTED.iter().find(|kernel| covers(kernel)) {
        Some(kernel) => Err(format!("mount at {}: {kernel} must stay as it is", target.display())),
        None => Ok(()),
    }
}

/// A path of the container without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

fn adapt_linux(spec: &mut Spec, task: &TaskSpec) -> Result<(), String> {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let asked = linux.cgroups_path().clone().filter(|path| !path.as_os_str().is_empty());
    let default = PathBuf::from(format!("/{}/{}", task.namespace, task.id));
    linux.set_cgroups_path(Some(normal(&asked.unwrap_or(default))));
    let annotations = spec.annotations().clone().unwrap_or_default();
    match annotations.get(DEFAULT_SECCOMP).map(String::as_str) {
        None => {}
        Some("default") if linux.seccomp().is_none() => {
            linux.set_seccomp(Some(seccomp::profile().map_err(|error| error.to_string())?));
        }
        Some("default") => {}
        Some(other) => return Err(format!("annotation {DEFAULT_SECCOMP}: {other:?} is not \"default\"")),
    }
    spec.set_linux(Some(linux));
    Ok(())
}

/// Refuses a process whose user is no number of one.
pub(super) fn check_user(process: &Process) -> Result<(), String> {
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().copied();
    match [user.uid(), user.gid()].into_iter().chain(groups).any(|id| id == NO_ID) {
        true => Err(format!("the user of the process: a number of one is 0 to {}", NO_ID - 1)),
        false => Ok(()),
    }
}

/// libcontainer mounts the hierarchies of cgroups version 1 writable whatever the spec says: where that says read-only, each is made so by its
/// path (RUN-14).
fn adapt_cgroups(spec: &mut Spec) {
    let read_only = |mount: &&Mount| {
        mount.typ().as_deref() == Some("cgroup")
            && mount.options().iter().flatten().any(|option| option == "ro")
    };
    let Some(cgroups) =
        spec.mounts().iter().flatten().find(read_only).map(|mount| mount.destination().clone())
    else {
        return;
    };
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut paths = linux.readonly_paths().clone().unwrap_or_default();
    let hierarchies = std::fs::read_dir(HIERARCHIES).into_iter().flatten().flatten();
    let below = hierarchies.map(|hierarchy| cgroups.join(hierarchy.file_name()));
    paths.extend([cgroups.clone()].into_iter().chain(below).map(|path| path.to_string_lossy().into_owned()));
    linux.set_readonly_paths(Some(paths));
    spec.set_linux(Some(linux));
}

fn adapt_process(spec: &mut Spec, task: &TaskSpec) -> Result<(), String> {
    let filtered = spec.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some());
    let mut process = spec.process().clone().ok_or("the runtime spec has no process")?;
    check_user(&process)?;
    process.set_terminal(Some(task.streams.terminal));
    if filtered && process.no_new_privileges() != Some(true) {
        // Absent, not false: libcontainer then loads the filter while it still has the capability to do so.
        process.set_no_new_privileges(None);
    }
    let capabilities = rustix::thread::capabilities(None).map_err(|error| error.to_string())?;
    if !capabilities.effective.contains(CapabilitySet::SYS_RESOURCE) {
        let least = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        let least: i32 = least.trim().parse().unwrap_or(0);
        process.set_oom_score_adj(process.oom_score_adj().map(|wanted| wanted.max(least)));
        let mut limits = process.rlimits().clone().unwrap_or_default();
        for limit in &mut limits {
            if let Some(most) = resource(limit.typ()).and_then(|r| rustix::process::getrlimit(r).maximum) {
                let builder = PosixRlimitBuilder::default().typ(limit.typ()).hard(limit.hard().min(most));
                let clamped = builder.soft(limit.soft().min(limit.hard()).min(most)).build();
                *limit = clamped.map_err(|error| error.to_string())?;
            }
        }
        process.set_rlimits(Some(limits));
    }
    spec.set_process(Some(process));
    Ok(())
}

fn resource(kind: oci_spec::runtime::PosixRlimitType) -> Option<Resource> {
    use oci_spec::runtime::PosixRlimitType as Kind;
    Some(match kind {
        Kind::RlimitNofile => Resource::Nofile,
        Kind::RlimitNproc => Resource::Nproc,
        Kind::RlimitCore => Resource::Core,
        Kind::RlimitMemlock => Resource::Memlock,
        Kind::RlimitStack => Resource::Stack,
        Kind::RlimitFsize => Resource::Fsize,
        Kind::RlimitCpu => Resource::Cpu,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
