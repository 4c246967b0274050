//! Results: the rows of the build cache: what an execution made, the digests of its contents, other keys for it, and what explains it.
//!
//! The worker's cache store reads and writes them for the solver; collections, checks and `usage` ask here which snapshots they need.
//! A result's row outlives its snapshot as a memo of contents.

use std::{sync::Arc, time::SystemTime};

use buildd_oci::digest::Digest;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{
    db::{self, Db, to_nanos},
    error::Result,
};

/// Snapshot number of the empty tree in a result's row.
pub const EMPTY_TREE: i64 = 0;
/// What is remembered of executions to explain misses; it outlives the results, so that one can say that a result was removed.
const MAX_RECORDS: i64 = 100_000;

/// SQL that yields the snapshots that results need.
pub(crate) const SNAPSHOTS: &str = "SELECT snapshot FROM results WHERE snapshot > 0";
/// SQL that is true where a result needs the snapshot `?1`.
pub(crate) const NEEDS: &str = "EXISTS (SELECT 1 FROM results WHERE snapshot = ?1)";

/// A result to be remembered.
#[derive(Clone, Debug)]
pub struct NewRow {
    /// The cache key.
    pub key: Digest,
    /// The digest of the execution.
    pub exec: Digest,
    /// The number of the snapshot that it made, or `EMPTY_TREE`.
    pub snapshot: i64,
    /// What is shown of the step.
    pub description: String,
    /// `regular` or `source.local`.
    pub kind: &'static str,
    /// What explains it, as JSON, and the names it is found by.
    pub record: (Vec<String>, String),
}

/// The results of one root.
#[derive(Debug)]
pub struct Results {
    db: Arc<Db>,
}

impl Results {
    /// The results in this database.
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// The results with a key, the newest first.
    pub fn find(&self, key: &Digest) -> Result<Vec<i64>> {
        self.db.read("find results", |c| {
            let mut rows = c.prepare_cached("SELECT id FROM results WHERE key = ? ORDER BY id DESC")?;
            let ids = rows.query_map([key.to_string()], |row| row.get(0))?;
            ids.collect()
        })
    }

    /// Notes that a result serves once more; the number of its snapshot, or `EMPTY_TREE`; None if it has none.
    pub fn take(&self, id: i64) -> Result<Option<i64>> {
        self.db.write("use a result", |tx| {
            let found = tx
                .query_row("SELECT snapshot FROM results WHERE id = ?", [id], |row| {
                    row.get::<_, Option<i64>>(0)
                })
                .optional()?
                .flatten();
            tx.execute(
                "UPDATE results SET used = ?, uses = uses + 1 WHERE id = ?",
                params![to_nanos(SystemTime::now()), id],
            )?;
            Ok(found)
        })
    }

    /// Drops a result and its contents.
    pub fn forget(&self, id: i64) -> Result<()> {
        self.db.write("forget a result", |tx| delete(tx, id))
    }

    /// Drops results that may be many, in batches that let others have their turn.
    pub(crate) fn forget_all(&self, ids: &[i64]) -> Result<()> {
        for some in ids.chunks(db::BATCH) {
            let began = std::time::Instant::now();
            self.db.write_durable("forget results", |tx| some.iter().try_for_each(|id| delete(tx, *id)))?;
            db::give_way(began);
        }
        self.db.write_durable("forget what explains results", |tx| {
            tx.execute(
                "DELETE FROM records WHERE key IN
                 (SELECT key FROM records ORDER BY random() LIMIT max(0, (SELECT count(*) FROM records) - ?))",
                [MAX_RECORDS],
            )?;
            Ok(())
        })
    }

    /// Remembers results, all or none; their ids.
    pub fn save(&self, rows: &[NewRow]) -> Result<Vec<i64>> {
        self.db.write("save results", |tx| {
            let now = to_nanos(SystemTime::now());
            let mut ids = Vec::new();
            for new in rows {
                tx.execute(
                    "INSERT INTO results (key, exec, snapshot, description, created, used, kind)
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                    params![
                        new.key.to_string(),
                        new.exec.to_string(),
                        new.snapshot,
                        new.description,
                        now,
                        now,
                        new.kind
                    ],
                )?;
                ids.push(tx.last_insert_rowid());
                let (names, record) = &new.record;
                for name in names {
                    tx.execute("INSERT OR REPLACE INTO records VALUES (?, ?)", [name, record])?;
                }
            }
            Ok(ids)
        })
    }

    /// The digest of what a selector picks of a result.
    pub fn content(&self, id: i64, selector: &str) -> Result<Option<Digest>> {
        let text: Option<String> = self.db.read("find a content digest", |c| {
            c.query_row(
                "SELECT digest FROM contents WHERE result = ? AND selector = ?",
                params![id, selector],
                |row| row.get(0),
            )
            .optional()
        })?;
        Ok(text.map(|text| text.parse()).transpose()?)
    }

    /// Remembers that digest.
    pub fn set_content(&self, id: i64, selector: &str, digest: &Digest) -> Result<()> {
        self.db.write("save a content digest", |tx| {
            tx.execute(
                "INSERT OR REPLACE INTO contents VALUES (?, ?, ?)",
                params![id, selector, digest.to_string()],
            )?;
            Ok(())
        })
    }

    /// The key that stands for another one.
    pub fn canonical(&self, key: &Digest) -> Result<Option<Digest>> {
        let text: Option<String> = self.db.read("find an alias", |c| {
            c.query_row("SELECT canonical FROM aliases WHERE key = ?", [key.to_string()], |row| row.get(0))
                .optional()
        })?;
        Ok(text.map(|text| text.parse()).transpose()?)
    }

    /// Remembers that key.
    pub fn set_alias(&self, key: &Digest, canonical: &Digest) -> Result<()> {
        self.db.write("save an alias", |tx| {
            tx.execute(
                "INSERT OR REPLACE INTO aliases VALUES (?, ?)",
                [key.to_string(), canonical.to_string()],
            )?;
            Ok(())
        })
    }

    /// What explains an execution, as it was saved.
    pub fn record(&self, name: &str) -> Result<Option<String>> {
        self.db.read("find a record", |c| {
            c.query_row("SELECT record FROM records WHERE key = ?", [name], |row| row.get(0)).optional()
        })
    }
}

fn delete(tx: &Connection, id: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM contents WHERE result = ?")?.execute([id])?;
    tx.prepare_cached("DELETE FROM results WHERE id = ?")?.execute([id])?;
    Ok(())
}

/// Drops the results whose snapshots are in the table `snapshots`, with their contents.
pub(crate) fn forget_snapshots(tx: &Transaction<'_>, snapshots: &str) -> rusqlite::Result<()> {
    tx.execute_batch(&format!(
        "DELETE FROM contents WHERE result IN (SELECT id FROM results WHERE snapshot IN {snapshots});
         DELETE FROM results WHERE snapshot IN {snapshots};"
    ))
}
