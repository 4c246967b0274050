//! Reserve: space on the disk that is kept for deleting: a full disk must not keep anybody from making room.
//!
//! A file of so many bytes lies in the root. Whoever deletes asks for room first: if the disk is nearly full the file is emptied, and the
//! rows that say what is gone find their place. Once there is space again, the file takes its part back.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use buildd_fs::space::space;
use rustix::fs::{FallocateFlags, fallocate};

use crate::error::{Error, Result};

/// What a round of collection may write: pages of the log for some ten thousand rows.
const BYTES: u64 = 8 << 20;
/// The most that it takes of a small disk: this part of it.
const PART: u64 = 16;

/// The file.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
}

/// Room for a deletion; afterwards the reserve is filled again, if there is space.
#[derive(Debug)]
pub(crate) struct Room<'a>(&'a Reserve);

impl Reserve {
    /// The reserve of a root.
    pub(crate) fn of(root: &Path) -> Self {
        Self { path: root.join("reserve") }
    }

    /// Takes its part of the disk, unless that is nearly full.
    pub(crate) fn fill(&self) {
        if let Err(error) = self.try_fill() {
            tracing::debug!(%error, "nothing is reserved for deletions");
        }
    }

    fn try_fill(&self) -> Result<()> {
        let root = self.path.parent().unwrap_or(Path::new("/"));
        let (free, all) = space(root).map_err(Error::file("ask for the free space of", root))?;
        let want = BYTES.min(all / PART);
        let has = fs::metadata(&self.path).map_or(0, |meta| meta.len());
        if has >= want || free < 2 * want {
            return Ok(());
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
        let filled = file.and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, want)?));
        filled.map_err(Error::file("reserve", &self.path))
    }

    /// Makes room for a deletion.
    pub(crate) fn room(&self) -> Room<'_> {
        let low = space(&self.path).is_ok_and(|(free, all)| free < BYTES.min(all / PART));
        if low && let Err(error) = File::create(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "give the reserve back");
        }
        Room(self)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.fill();
    }
}
