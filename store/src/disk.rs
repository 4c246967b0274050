//! Disk: the thin layer that every change of the store's files goes through: names that come and go, and what is synced.
//!
//! Content, snapshots and their kin call these instead of `std::fs`; the database tells of its commits here. Bytes are written through plain
//! files: what counts is when they are synced. In unit tests each step is announced before it is done, so that a test can let it fail, or
//! record what a power cut at that moment could leave (`replay`).
//!
//! # Invariants
//! A name that is new survives a power cut only after `sync_folder` of the folder that it is in; the bytes of a file only after `sync_file`.
//! A sync that failed is never tried again on the same bytes: the kernel forgets what it could not write, and the second try succeeds.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use buildd_fs::path::through;
use rustix::fs::{AtFlags, CWD, linkat};

use crate::error::{Error, Result};

mod usage;
#[cfg(test)]
pub(crate) mod watch;

pub(crate) use usage::usage;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A folder, with those above it.
    CreateFolders,
    /// Bytes go to a file.
    Write,
    /// Something gets another name, or one more.
    Rename,
    /// A name goes, with all below it.
    Remove,
    /// The bytes of a file.
    SyncFile,
    /// The names in a folder.
    SyncFolder,
    /// Everything on the file system.
    SyncAll,
    /// A transaction, which survives a power cut once it is done, or not.
    Commit {
        /// Whether it survives.
        durable: bool,
    },
}

#[cfg(test)]
use watch::announce;

/// Nobody listens.
#[cfg(not(test))]
fn announce(_step: Step, _path: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes a folder and those above it; whoever needs their names to last syncs the folders that they are in.
pub(crate) fn create_folders(path: &Path) -> io::Result<()> {
    announce(Step::CreateFolders, path)?;
    fs::create_dir_all(path)
}

/// Tells that bytes go to a file now.
pub(crate) fn writing(path: &Path) -> io::Result<()> {
    announce(Step::Write, path)
}

/// Gives something another name, in place of what has it.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    announce(Step::Rename, from)?;
    fs::rename(from, to)
}

/// Gives an open file one more name; it has one still.
pub(crate) fn link(file: &File, to: &Path) -> io::Result<()> {
    announce(Step::Rename, to)?;
    Ok(linkat(CWD, through(file), CWD, to, AtFlags::SYMLINK_FOLLOW)?)
}

/// Removes a file.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    announce(Step::Remove, path)?;
    fs::remove_file(path)
}

/// Removes a folder with all below it.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    announce(Step::Remove, path)?;
    fs::remove_dir_all(path)
}

/// Makes the bytes of a file last.
pub(crate) fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    announce(Step::SyncFile, path)?;
    file.sync_data()
}

/// Makes the names in a folder last.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    announce(Step::SyncFolder, path)?;
    File::open(path).and_then(|folder| folder.sync_all())
}

/// Makes everything last that is on the file system of `disk`.
pub(crate) fn sync_all(disk: &File, root: &Path) -> io::Result<()> {
    announce(Step::SyncAll, root)?;
    Ok(rustix::fs::syncfs(disk)?)
}

/// Tells that a transaction of the database `path` is about to be committed.
pub(crate) fn committing(path: &Path, durable: bool) -> io::Result<()> {
    announce(Step::Commit { durable }, path)
}

#[cfg(test)]
mod replay;
/// The same with an error of ours.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    sync_folder(path).map_err(Error::file("sync folder", path))
}

#[cfg(test)]
mod tests;
