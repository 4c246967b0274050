//! Durable: what was acknowledged survives a power cut.
//!
//! Callers are answers: of a build, an export, a commit. Data is synced first, the row of the last one last.
//!
//! # Sources
//! design storage.md, "what is acknowledged is durable".

use std::fs::File;

use super::{LayerId, SnapshotId, Snapshots};
use crate::{
    content::sync_dir,
    error::{Error, Result},
};

/// Layer files that are synced one by one; more of them, or folders, take one sync of the whole file system.
const MAX_SINGLE: usize = 64;

impl Snapshots {
    /// Makes a snapshot and all below it survive a power cut.
    pub fn make_durable(&self, id: SnapshotId) -> Result<()> {
        let seen: i64 = self.db.read("find the last snapshot", |c| {
            c.query_row("SELECT coalesce(max(id), 0) FROM snapshots", [], |row| row.get(0))
        })?;
        let pending: Vec<LayerId> = self.db.read("look for unsynced layers", |c| {
            let mut rows = c.prepare("SELECT DISTINCT layer FROM snapshots WHERE id <= ? AND durable = 0")?;
            let layers = rows.query_map([id.0], |row| row.get(0).map(LayerId))?;
            layers.collect()
        })?;
        if pending.is_empty() {
            return Ok(());
        }
        // A sync of single files says nothing of those that came later.
        let upto = match self.sync_files(&pending)? {
            true => id.0,
            false => {
                rustix::fs::syncfs(&self.disk)
                    .map_err(|error| Error::file("sync", &self.root)(error.into()))?;
                seen
            }
        };
        sync_dir(&self.root.join("layers"))?;
        self.db.write_durable("acknowledge snapshots", |tx| {
            tx.execute(
                "UPDATE layers SET durable = 1 WHERE id IN (SELECT layer FROM snapshots WHERE id <= ?)",
                [upto],
            )?;
            tx.execute("UPDATE snapshots SET durable = 1 WHERE id <= ?", [upto])
        })?;
        Ok(())
    }

    /// Syncs layers one by one, if they are few and all of them files.
    fn sync_files(&self, layers: &[LayerId]) -> Result<bool> {
        if layers.len() > MAX_SINGLE {
            return Ok(false);
        }
        for layer in layers {
            let path = self.folder(*layer);
            if !path.is_file() {
                return Ok(false);
            }
            let synced = File::open(&path).and_then(|file| file.sync_data());
            synced.map_err(Error::file("sync", &path))?;
        }
        Ok(true)
    }
}
