//! Known: layers that are here already, by what they hold.

use buildd_oci::digest::Digest;

use super::{Hold, LayerId, SnapshotId, Snapshots};
use crate::error::{Error, Result};

impl Snapshots {
    /// Some snapshot whose topmost layer is a file with this diff_id, held, and that layer.
    ///
    /// A folder that has that diff_id would not do: at the bottom of a stack, whiteouts leave no mark in it.
    pub fn by_diff_id(&self, diff_id: &Digest) -> Result<Option<(Hold, LayerId)>> {
        let rows: Vec<(SnapshotId, LayerId)> = self.db.read("find a layer", |c| {
            let mut rows = c.prepare(
                "SELECT s.id, l.id FROM layers l JOIN snapshots s ON s.layer = l.id WHERE l.diff_id = ?",
            )?;
            let found = rows.query_map([diff_id.to_string()], |row| {
                Ok((SnapshotId(row.get(0)?), LayerId(row.get(1)?)))
            })?;
            found.collect()
        })?;
        let Some((snapshot, layer)) = rows.into_iter().find(|(_, layer)| self.is_file(*layer)) else {
            return Ok(None);
        };
        match self.hold(snapshot) {
            // Collected this very moment.
            Err(Error::NotFound { .. }) => Ok(None),
            held => Ok(Some((held?, layer))),
        }
    }
}
