//! Lock: a folder that belongs to one process.
//!
//! The store's root and the daemon's state folder are locked by this. The file `lock` in the folder stays when its owner ends; the lock on it does not.
//!
//! # Sources
//! flock(2), proc_locks(5).

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// A folder that was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another process{} has {}", holder.map(|id| format!(" ({id})")).unwrap_or_default(), folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
        /// The process that has it, if the kernel tells.
        holder: Option<u32>,
    },
    /// The file could not be opened or locked.
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

/// A folder that is ours as long as this lives.
#[derive(Debug)]
pub struct FolderLock(File);

impl FolderLock {
    /// Takes a folder for this process; refused if another one has it.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("lock");
        let lock = OpenOptions::new().create(true).append(true).open(&path);
        let lock =
            lock.map_err(|source| LockError::File { operation: "open", path: path.clone(), source })?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(lock)),
            Err(Errno::WOULDBLOCK) => {
                Err(LockError::Busy { folder: folder.to_owned(), holder: holder(&lock) })
            }
            Err(error) => Err(LockError::File { operation: "lock", path, source: error.into() }),
        }
    }
}

impl Drop for FolderLock {
    /// Closing would not do: a child that was forked this moment still has the descriptor.
    fn drop(&mut self) {
        // What is not unlocked now is when the process ends.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Which process has a file locked, as far as the kernel tells.
fn holder(lock: &File) -> Option<u32> {
    let inode = lock.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE <process> <device>:<inode> 0 EOF`
    let mut holders = locks.lines().filter(|line| line.contains("FLOCK")).filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(4);
        let (process, place) = (words.next()?, words.next()?);
        (place.rsplit(':').next()? == inode).then(|| process.parse().ok())?
    });
    holders.find(|process| *process != 0)
}
