//! Entries: a folder of ours, described as it is walked.

use std::{ops::ControlFlow, path::Path};

use buildd_api::file_sync::{Stat, stat};
use buildd_fs::walk::{WalkEntry, WalkError, WalkOptions, walk_each};
use tokio::sync::mpsc;

use super::BATCH;

/// Bytes of an attribute, and of all names, that Linux allows.
const MAX_XATTR: usize = 64 << 10;
/// Names that take no more than this are read at once: most files have none.
const FEW_NAMES: usize = 256;

/// Walks the tree and describes what it finds, until nobody takes it any more.
pub(super) fn describe_all(
    root: &Path,
    options: &WalkOptions,
    found: &mpsc::Sender<Vec<Stat>>,
) -> Result<(), WalkError> {
    let mut batch = Vec::new();
    walk_each(root, options, &mut |entry| {
        batch.push(describe(root, &entry));
        if batch.len() >= BATCH && found.blocking_send(std::mem::take(&mut batch)).is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    if !batch.is_empty() {
        // Nobody takes it only if nobody takes anything.
        let _ = found.blocking_send(batch);
    }
    Ok(())
}

/// A context belongs to nobody: the owner's ids on this machine mean nothing in an image.
fn describe(root: &Path, entry: &WalkEntry) -> Stat {
    let mut stat = stat::from_metadata(&entry.path, &entry.meta, entry.link.as_deref());
    (stat.uid, stat.gid) = (0, 0);
    if entry.meta.is_file() || entry.meta.is_dir() {
        stat.xattrs = attributes(&root.join(&entry.path)).into_iter().collect();
    }
    stat
}

/// The extended attributes that mean something in an image; a file system without them has none.
fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut few = [0_u8; FEW_NAMES];
    let names = match rustix::fs::llistxattr(path, &mut few) {
        Ok(length) => few[..length].to_vec(),
        Err(rustix::io::Errno::RANGE) => {
            let mut many = vec![0_u8; MAX_XATTR];
            let Ok(length) = rustix::fs::llistxattr(path, &mut many) else { return Vec::new() };
            many.truncate(length);
            many
        }
        Err(_) => return Vec::new(),
    };
    let names = names.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    names
        .filter(|name| *name == "security.capability" || name.starts_with("user."))
        .filter_map(|name| {
            let mut value = vec![0_u8; MAX_XATTR];
            let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
            value.truncate(length);
            Some((name.to_owned(), value))
        })
        .collect()
}
