//! Applied: which layer an active snapshot holds, as long as nobody writes into it.
//!
//! `Diff.Apply` notes it, `Commit` asks. So the layer of an image that a client unpacked gets its diff_id, and is found by builds and by
//! other namespaces. In memory only: what is forgotten is unpacked once more.
//!
//! # Invariants
//! A tree that changed after it was noted is no layer that we know: every inode and its change time must be as they were.

use std::{
    collections::HashMap,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    sync::{Mutex, PoisonError},
};

use buildd_oci::digest::{Digest, Digester};

use crate::error::{Error, Result};

/// What is known of active snapshots, by the number of their upper.
#[derive(Debug, Default)]
pub(super) struct AppliedLayers(Mutex<HashMap<i64, Applied>>);

#[derive(Debug)]
struct Applied {
    diff_id: Digest,
    state: Digest,
}

impl AppliedLayers {
    /// Notes that the tree of `upper`, in `folder`, is this layer now.
    pub(super) fn note(&self, upper: i64, folder: &Path, diff_id: Digest) -> Result<()> {
        let applied = Applied { diff_id, state: state(folder)? };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(upper, applied);
        Ok(())
    }

    /// Forgets the upper; the layer that its tree still is.
    pub(super) fn take(&self, upper: i64, folder: &Path) -> Result<Option<Digest>> {
        let applied = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&upper);
        match applied {
            Some(applied) => Ok((state(folder)? == applied.state).then_some(applied.diff_id)),
            None => Ok(None),
        }
    }

    /// Forgets an upper that is gone.
    pub(super) fn forget(&self, upper: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&upper);
    }
}

/// A digest of all inodes of a tree and of when they changed.
fn state(folder: &Path) -> Result<Digest> {
    let mut digester = Digester::default();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).map_err(Error::file("look at", &path))?;
        for number in [meta.ino(), meta.ctime().cast_unsigned(), meta.ctime_nsec().cast_unsigned()] {
            digester.update(&number.to_le_bytes());
        }
        digester.update(path.as_os_str().as_bytes());
        if meta.is_dir() {
            let entries = fs::read_dir(&path).map_err(Error::file("list", &path))?;
            let mut below: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            below.sort_unstable();
            todo.append(&mut below);
        }
    }
    Ok(digester.finish())
}
