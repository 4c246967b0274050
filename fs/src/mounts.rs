//! Mounts: carries out what a snapshotter answered, a list of bind and overlay mounts, one upon the other.
//!
//! `buildctl` does it for `image mount` and to read an image's passwd file, a task's shim for the root of its container.
//! Overlays go through the kernel's mount API, for mount(2) cuts option strings at a page without a word.
//!
//! # Sources
//! containerd `core/mount/mount_linux.go`, for the meaning of the options.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    },
};
use serde::{Deserialize, Serialize};

/// One mount, in containerd's words: what a snapshotter answers, what a task's root is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Filesystem: `bind`, `overlay`, …
    pub kind: String,
    /// Device or folder.
    pub source: String,
    /// Flags (`ro`, `rbind`) and the filesystem's own options.
    pub options: Vec<String>,
}

/// A list of mounts that could not be carried out. Nothing of it is left mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There was nothing to mount.
    #[error("nothing to mount")]
    Nothing,
    /// One of them failed.
    #[error("mount {kind} {from} at {} with {options:?}", target.display())]
    Failed {
        /// Filesystem.
        kind: String,
        /// Device or folder.
        from: String,
        /// Where.
        target: PathBuf,
        /// With what.
        options: Vec<String>,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Mounts all of them at the target, one upon the other; undoes what was done if one fails.
pub fn mount_all(mounts: &[Mount], target: &Path) -> Result<(), MountError> {
    if mounts.is_empty() {
        return Err(MountError::Nothing);
    }
    for (done, mount) in mounts.iter().enumerate() {
        if let Err(source) = mount_one(mount, target) {
            for _ in 0..done {
                let _ = unmount(target);
            }
            return Err(MountError::Failed {
                kind: mount.kind.clone(),
                from: mount.source.clone(),
                target: target.to_owned(),
                options: mount.options.clone(),
                source,
            });
        }
    }
    Ok(())
}

/// Unmounts the topmost mount at the target; `InvalidInput` if there is none.
pub fn unmount(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)?)
}

/// Whether something is mounted at the target.
pub fn is_mount(target: &Path) -> bool {
    let found = statx(CWD, target, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn mount_one(mount: &Mount, target: &Path) -> io::Result<()> {
    let (flags, data) = split_options(&mount.options);
    if mount.kind == "bind" || flags.contains(MountFlags::BIND) {
        return bind(&mount.source, target, flags);
    }
    if mount.kind == "overlay" {
        return overlay(target, flags, &data);
    }
    let data = std::ffi::CString::new(data.join(","))?;
    Ok(rustix::mount::mount(&*mount.source, target, &*mount.kind, flags, data.as_c_str())?)
}

fn bind(source: &str, target: &Path, flags: MountFlags) -> io::Result<()> {
    let recursive = flags & MountFlags::REC;
    rustix::mount::mount(source, target, c"", MountFlags::BIND | recursive, None)?;
    let rest = flags - MountFlags::BIND - MountFlags::REC;
    if rest.is_empty() {
        return Ok(());
    }
    // The first call ignores all other flags of a bind mount.
    let remounted = rustix::mount::mount_remount(target, MountFlags::BIND | rest, c"");
    if remounted.is_err() {
        let _ = unmount(target);
    }
    Ok(remounted?)
}

fn overlay(target: &Path, flags: MountFlags, options: &[&str]) -> io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let fs = context.as_fd();
    for option in options {
        match option.split_once('=') {
            Some(("lowerdir", lowers)) => {
                for lower in lowers.split(':') {
                    fsconfig_set_string(fs, "lowerdir+", lower)?;
                }
            }
            Some((key, value)) => fsconfig_set_string(fs, key, value)?,
            None => fsconfig_set_flag(fs, *option)?,
        }
    }
    fsconfig_create(fs)?;
    let attributes = [
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
    ];
    let wanted = attributes.into_iter().filter(|(flag, _)| flags.contains(*flag));
    let attributes = wanted.fold(MountAttrFlags::empty(), |all, (_, attribute)| all | attribute);
    let mount = fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let from_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount.as_fd(), "", rustix::fs::CWD, target, from_descriptor)?)
}

/// Flags, and the filesystem's own options.
fn split_options(options: &[String]) -> (MountFlags, Vec<&str>) {
    let mut flags = MountFlags::empty();
    let mut rest = Vec::new();
    for option in options.iter().map(String::as_str) {
        match option {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" | "defaults" | "" => {}
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            other => rest.push(other),
        }
    }
    (flags, rest)
}
