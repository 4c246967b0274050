//! Recover: what a start removes of what an earlier daemon left.

use std::fs;

use rusqlite::{Params, Transaction, params};

use super::{Snapshots, UNUSED_LAYER};
use crate::{
    cache::results,
    error::{Error, Result},
    layer::layer_of_data_file,
};

impl Snapshots {
    /// Drops what another boot left without a sync, and files that no row names.
    pub(super) fn drop_hollow(&self) -> Result<()> {
        self.db.delete_durable("drop snapshots of another boot", |tx| {
            drop_snapshots(tx, "durable = 0 AND boot <> ?", params![self.boot])?;
            tx.execute(&format!("DELETE FROM layers WHERE {UNUSED_LAYER}"), [])
        })?;
        let known: Vec<i64> = self.db.read("list layers", |c| {
            let mut rows = c.prepare("SELECT id FROM layers")?;
            let ids = rows.query_map([], |row| row.get(0))?;
            ids.collect()
        })?;
        let layers = self.root.join("layers");
        for entry in fs::read_dir(&layers).map_err(Error::file("list", &layers))?.flatten() {
            let name = entry.file_name();
            let name = name.to_str().map(|name| layer_of_data_file(name).unwrap_or(name));
            let id = name.and_then(|name| name.parse().ok());
            if !id.is_some_and(|id| known.contains(&id)) {
                self.discard(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Deletes the snapshots that `which` picks, all that stand on them, and what names them.
pub(super) fn drop_snapshots(tx: &Transaction<'_>, which: &str, values: impl Params) -> rusqlite::Result<()> {
    tx.execute_batch("CREATE TEMP TABLE IF NOT EXISTS hollow (id INTEGER PRIMARY KEY); DELETE FROM hollow;")?;
    tx.execute(
        &format!(
            "WITH RECURSIVE down(id) AS (
                SELECT id FROM snapshots WHERE {which}
                UNION SELECT s.id FROM snapshots s JOIN down ON s.parent = down.id)
             INSERT INTO hollow SELECT id FROM down"
        ),
        values,
    )?;
    // References are checked at the end, when all of them are gone.
    tx.pragma_update(None, "defer_foreign_keys", "ON")?;
    results::forget_snapshots(tx, "hollow")?;
    tx.execute_batch(
        "DELETE FROM named_snapshots WHERE snapshot IN hollow;
         DELETE FROM snapshots WHERE id IN hollow;",
    )
}
