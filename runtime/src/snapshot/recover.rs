//! Recover: what a start removes of what an earlier daemon left.

use std::fs;

use super::{Snapshots, UNUSED_LAYER};
use crate::error::{Error, Result};

impl Snapshots {
    /// Drops what another boot left without a sync, and files that no row names.
    pub(super) fn drop_hollow(&self) -> Result<()> {
        self.db.write_durable("drop snapshots of another boot", |tx| {
            tx.execute_batch(
                "CREATE TEMP TABLE IF NOT EXISTS hollow (id INTEGER PRIMARY KEY); DELETE FROM hollow;",
            )?;
            tx.execute(
                "WITH RECURSIVE down(id) AS (
                    SELECT id FROM snapshots WHERE durable = 0 AND boot <> ?1
                    UNION SELECT s.id FROM snapshots s JOIN down ON s.parent = down.id)
                 INSERT INTO hollow SELECT id FROM down",
                [&self.boot],
            )?;
            tx.execute(
                "DELETE FROM contents WHERE result IN (SELECT id FROM results WHERE snapshot IN hollow)",
                [],
            )?;
            tx.execute("DELETE FROM results WHERE snapshot IN hollow", [])?;
            tx.execute("DELETE FROM named_snapshots WHERE snapshot IN hollow", [])?;
            tx.execute("PRAGMA defer_foreign_keys = ON", []).or_else(|error| match error {
                rusqlite::Error::ExecuteReturnedResults => Ok(0),
                error => Err(error),
            })?;
            tx.execute("DELETE FROM snapshots WHERE id IN hollow", [])?;
            tx.execute(&format!("DELETE FROM layers WHERE {UNUSED_LAYER}"), [])
        })?;
        let known: Vec<i64> = self.db.read("list layers", |c| {
            let mut rows = c.prepare("SELECT id FROM layers")?;
            let ids = rows.query_map([], |row| row.get(0))?;
            ids.collect()
        })?;
        let layers = self.root.join("layers");
        for entry in fs::read_dir(&layers).map_err(Error::file("list", &layers))?.flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !id.is_some_and(|id| known.contains(&id)) {
                self.discard(&entry.path())?;
            }
        }
        Ok(())
    }
}
