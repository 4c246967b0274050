//! Stubs: the places in a step's root where something is mounted, and the folder it starts in.
//!
//! What is missing is made before the step and goes after it. Meanwhile the step may have put a symbolic link to anywhere in the place of any
//! folder, so every path is walked by the kernel inside the root, and what is removed is removed by its folder's descriptor (MNT-05,
//! CVE-2024-23652).
//!
//! # Invariants
//! Nothing is mounted at, in or over the kernel's filesystems: their masks are put up by path after all mounts (MNT-03, MNT-04).

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use buildd_fs::path::{Follow, make_folders, open_in_root, open_root, resolve};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::error::{Error, Result};

/// Kernel filesystems that nothing may be mounted at, in or over.
const KERNEL: [&str; 2] = ["proc", "sys"];
/// Folders of devices that stay what they are; others below `/dev` may be mounted on.
const DEVICES: [&str; 4] = ["dev", "dev/pts", "dev/mqueue", "dev/fd"];

/// Refuses a mount point that is, or that links of the root lead to, a place that must stay as it is.
pub(super) fn allowed(root: &Path, target: &Path) -> Result<()> {
    let found = resolve(root, target, Follow::All).map_err(Error::file("resolve", target))?;
    let over = |kernel: &&str| found.starts_with(kernel) || Path::new(kernel).starts_with(&found);
    let taken = KERNEL.iter().find(|kernel| over(kernel));
    let taken = taken.or_else(|| DEVICES.iter().find(|device| found == Path::new(device)));
    match taken {
        None => Ok(()),
        Some(kernel) => Err(Error::Invalid {
            what: "mount target",
            name: target.display().to_string(),
            reason: format!("it is /{}, and /{kernel} must stay as it is", found.display()),
        }),
    }
}

/// Of these mount points and their parents, those that the root lacks, deepest first.
pub(super) fn missing(root: &Path, targets: impl Iterator<Item = PathBuf>) -> Result<Vec<PathBuf>> {
    let mut stubs = Vec::new();
    for target in targets {
        let found = resolve(root, &target, Follow::All).map_err(Error::file("resolve", &target))?;
        let lacking = found.ancestors().filter(|path| !path.as_os_str().is_empty());
        stubs.extend(lacking.filter(|path| root.join(path).symlink_metadata().is_err()).map(Path::to_owned));
    }
    stubs.sort();
    stubs.dedup();
    stubs.reverse();
    Ok(stubs)
}

/// Removes stubs that are still as the mounts left them: empty folders and files.
pub(super) fn remove(root: &Path, stubs: &[PathBuf]) {
    for stub in stubs {
        let removed = open_root(root).and_then(|root| remove_one(&root, stub));
        if let Err(error) = removed {
            tracing::debug!(stub = %stub.display(), %error, "a mount point is left in a step's root");
        }
    }
}

fn remove_one(root: &OwnedFd, stub: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (stub.parent(), stub.file_name()) else { return Ok(()) };
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let parent = open_in_root(root.as_fd(), parent, flags, Mode::empty())?;
    let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?),
        FileType::RegularFile if stat.st_size == 0 => {
            Ok(rustix::fs::unlinkat(&parent, name, AtFlags::empty())?)
        }
        _ => Ok(()),
    }
}

/// Makes a folder inside the root, as root's, where it or a parent is missing.
pub(super) fn make_folder(root: &Path, path: &Path) -> Result<()> {
    let made = || -> io::Result<()> {
        let found = resolve(root, path, Follow::All)?;
        make_folders(open_root(root)?.as_fd(), &found).map(drop)
    };
    made().map_err(Error::file("create folder", path))
}

#[cfg(test)]
mod tests;
