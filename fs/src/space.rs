//! Space: what is free on a disk, and what a user can do when nothing is.

use std::{io, path::Path};

use rustix::fs::statvfs;

/// Free bytes of the disk that `path` lies on, and all of them.
pub fn space(path: &Path) -> io::Result<(u64, u64)> {
    let disk = statvfs(path)?;
    Ok((disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize))
}

/// What is left of the disk that `path` is to lie on, in words.
fn left(path: &Path) -> Option<String> {
    let disk = path.ancestors().find_map(|path| statvfs(path).ok())?;
    Some(format!("its disk has {} bytes and {} inodes left", disk.f_bavail * disk.f_frsize, disk.f_favail))
}

/// What a user can do about a full disk; `path` is what found no room, if that is known.
pub fn remedy(path: Option<&Path>) -> String {
    let free = "free some space: `buildctl prune`, or `buildctl image rm`";
    path.and_then(left).map_or_else(|| free.to_owned(), |left| format!("{left}; {free}"))
}
