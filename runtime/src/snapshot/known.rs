//! Known: layers that are here already, by what they hold.

use buildd_oci::digest::Digest;
use rusqlite::OptionalExtension;

use super::{Hold, LayerId, SnapshotId, Snapshots};
use crate::error::{Error, Result};

impl Snapshots {
    /// Some snapshot whose topmost layer has this diff_id, held, and that layer.
    pub fn by_diff_id(&self, diff_id: &Digest) -> Result<Option<(Hold, LayerId)>> {
        let found = self.db.read("find a layer", |c| {
            c.query_row(
                "SELECT s.id, l.id FROM layers l JOIN snapshots s ON s.layer = l.id WHERE l.diff_id = ? LIMIT 1",
                [diff_id.to_string()],
                |row| Ok((SnapshotId(row.get(0)?), LayerId(row.get(1)?))),
            )
            .optional()
        })?;
        let Some((snapshot, layer)) = found else { return Ok(None) };
        match self.hold(snapshot) {
            // Collected this very moment.
            Err(Error::NotFound { .. }) => Ok(None),
            held => Ok(Some((held?, layer))),
        }
    }
}
