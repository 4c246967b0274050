//! Private: folders and files that nobody else on the machine may look into, replace, or have planted before us.
//!
//! The store's root, the state folder and the daemon's configuration go through this (HOST-01 to HOST-03, CVE-2024-25621, CVE-2025-4953).
//!
//! # Errors
//! `NotOurs` for what another user made or may change: whoever owns a folder can replace all that is in it.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Write permission for everybody.
const WORLD_WRITABLE: u32 = 0o002;

/// A place that is not safe to use.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// Somebody else can change what is there.
    #[error("{} {reason}", path.display())]
    NotOurs {
        /// The place.
        path: PathBuf,
        /// Who can, and how to mend it.
        reason: String,
    },
    /// It could not be looked at or changed.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateError {
    let path = path.to_owned();
    move |source| PrivateError::File { operation, path, source }
}

fn not_ours(path: &Path, reason: String) -> PrivateError {
    PrivateError::NotOurs { path: path.to_owned(), reason }
}

/// Makes sure that a folder is there, is ours, and has this mode. A symbolic link to it is ours too.
pub fn own_folder(path: &Path, mode: u32) -> Result<(), PrivateError> {
    check_link(path)?;
    fs::create_dir_all(path).map_err(file("create folder", path))?;
    claim_folder(path, mode)
}

/// The same for a folder that is there already.
pub fn claim_folder(path: &Path, mode: u32) -> Result<(), PrivateError> {
    check_link(path)?;
    let found = fs::metadata(path).map_err(file("look at", path))?;
    check_owner(path, found.uid())?;
    if found.permissions().mode() & 0o7777 != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(file("set the mode of", path))?;
    }
    Ok(())
}

/// Makes sure that nobody else can change a file that we go by.
pub fn check_file(path: &Path) -> Result<(), PrivateError> {
    let found = fs::metadata(path).map_err(file("look at", path))?;
    check_owner(path, found.uid())?;
    match found.permissions().mode() & WORLD_WRITABLE {
        0 => Ok(()),
        _ => Err(not_ours(path, "can be changed by everybody: chmod o-w it".to_owned())),
    }
}

fn check_link(path: &Path) -> Result<(), PrivateError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => check_owner(path, found.uid()),
        _ => Ok(()),
    }
}

fn check_owner(path: &Path, owner: u32) -> Result<(), PrivateError> {
    let us = rustix::process::geteuid().as_raw();
    match owner == us || owner == 0 {
        true => Ok(()),
        false => Err(not_ours(
            path,
            format!("belongs to user {owner}, not to us (user {us}): remove it, or name another place"),
        )),
    }
}

#[cfg(test)]
mod tests;
