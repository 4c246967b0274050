//! Durable: what was acknowledged survives a power cut.
//!
//! Callers are answers: of a build, an export, a commit. Data is synced first, the row of the last one last.
//!
//! # Sources
//! design storage.md, "what is acknowledged is durable".

use rusqlite::params;

use super::{SnapshotId, Snapshots, recover::drop_snapshots};
use crate::{
    disk::{self, sync_dir},
    error::{Error, Result},
    layer::{LayerId, sync_layer},
};

/// Layer files that are synced one by one; more of them, or folders, take one sync of the whole file system.
const MAX_SINGLE: usize = 64;

/// By its index: there are few of them, and very many others.
const PENDING: &str =
    "SELECT DISTINCT layer FROM snapshots INDEXED BY snapshots_unsynced WHERE id <= ? AND durable = 0";

impl Snapshots {
    /// Makes a snapshot and all below it survive a power cut.
    pub fn make_durable(&self, id: SnapshotId) -> Result<()> {
        let seen: i64 = self.db.read("find the last snapshot", |c| {
            c.query_row("SELECT coalesce(max(id), 0) FROM snapshots", [], |row| row.get(0))
        })?;
        let pending: Vec<LayerId> = self.db.read("look for unsynced layers", |c| {
            let mut rows = c.prepare(PENDING)?;
            let layers = rows.query_map([id.0], |row| row.get(0).map(LayerId))?;
            layers.collect()
        })?;
        if pending.is_empty() {
            return Ok(());
        }
        // A sync of single files says nothing of those that came later.
        let upto = match self.sync(&pending, id, seen) {
            Ok(upto) => upto,
            Err(error) => {
                self.forget_unsynced(seen)?;
                return Err(error);
            }
        };
        self.db.write_durable("acknowledge snapshots", |tx| {
            tx.execute(
                "UPDATE layers SET durable = 1
                 WHERE id IN (SELECT layer FROM snapshots WHERE id <= ? AND durable = 0)",
                [upto],
            )?;
            tx.execute("UPDATE snapshots SET durable = 1 WHERE id <= ? AND durable = 0", [upto])
        })?;
        Ok(())
    }

    /// Syncs layers; up to which snapshot that counts.
    fn sync(&self, layers: &[LayerId], id: SnapshotId, seen: i64) -> Result<i64> {
        let upto = match self.sync_files(layers)? {
            true => id.0,
            false => {
                disk::sync_all(&self.disk, &self.root).map_err(Error::file("sync", &self.root))?;
                seen
            }
        };
        sync_dir(&self.root.join("layers"))?;
        Ok(upto)
    }

    /// After a sync that failed: what it was to keep may be lost, and a second sync would not tell. Builds that stand on it fail.
    fn forget_unsynced(&self, seen: i64) -> Result<()> {
        self.db.delete_durable("drop snapshots that cannot be synced", |tx| {
            drop_snapshots(tx, "durable = 0 AND id <= ?", params![seen])
        })?;
        Ok(())
    }

    /// Syncs layers one by one, if they are few and all of them files.
    fn sync_files(&self, layers: &[LayerId]) -> Result<bool> {
        if layers.len() > MAX_SINGLE || !layers.iter().all(|layer| self.is_file(*layer)) {
            return Ok(false);
        }
        layers.iter().try_for_each(|layer| sync_layer(&self.folder(*layer)))?;
        Ok(true)
    }
}
