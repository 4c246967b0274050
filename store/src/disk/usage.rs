//! Usage: how much of the disk a folder takes.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use crate::error::{Error, Result};

/// Blocks and inodes of a folder; a file with several names counts once.
pub(crate) fn usage(folder: &Path) -> Result<(u64, u64)> {
    let (mut size, mut seen) = (0, std::collections::HashSet::new());
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let entry = match fs::symlink_metadata(&path) {
            // Somebody writes there while we look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entry => entry.map_err(Error::file("look at", &path))?,
        };
        if seen.insert((entry.dev(), entry.ino())) {
            size += entry.blocks() * 512;
        }
        if entry.is_dir() {
            let entries = fs::read_dir(&path).map_err(Error::file("list", &path))?;
            todo.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    Ok((size, seen.len() as u64))
}
