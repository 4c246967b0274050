//! Cache store: the solver's memory in the database.
//!
//! A result's row outlives its snapshot as a memo of contents; a row whose snapshot is gone loads as None.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use buildd_oci::digest::Digest;
use buildd_solver::{
    cache::{CacheStore, NewResult},
    explain::{Record, RecordOf},
    op::OpError,
    result::{OpResult, ResultId},
};
use rusqlite::{OptionalExtension, params};

use crate::{
    db::to_nanos,
    error::{Error, Result},
    snapshot::SnapshotId,
    snapshot_ref::SnapshotRef,
    store::Store,
    worker::op_error,
};

/// Snapshot number of the empty tree in a result's row.
const EMPTY: i64 = 0;

/// The database as the solver's cache.
#[derive(Debug)]
pub struct SqliteCacheStore {
    store: Arc<Store>,
}

impl SqliteCacheStore {
    /// The cache in this store.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Runs database work where it may block.
    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, OpError> {
        let store = self.store.clone();
        buildd_fs::blocking::run(move || work(&store)).await.map_err(op_error)
    }
}

fn optional_digest(text: Option<String>) -> Result<Option<Digest>> {
    Ok(text.map(|text| text.parse()).transpose()?)
}

#[async_trait]
impl CacheStore for SqliteCacheStore {
    async fn results(&self, key: &Digest) -> std::result::Result<Vec<ResultId>, OpError> {
        let key = key.to_string();
        self.on(move |store| {
            store.db.read("find results", |c| {
                let mut rows = c.prepare_cached("SELECT id FROM results WHERE key = ? ORDER BY id DESC")?;
                let ids = rows.query_map([key], |row| row.get(0).map(ResultId))?;
                ids.collect()
            })
        })
        .await
    }

    async fn load(&self, id: ResultId) -> std::result::Result<Option<OpResult>, OpError> {
        self.on(move |store| {
            let snapshot: Option<i64> = store.db.write("use a result", |tx| {
                let found = tx
                    .query_row("SELECT snapshot FROM results WHERE id = ?", [id.0], |row| {
                        row.get::<_, Option<i64>>(0)
                    })
                    .optional()?
                    .flatten();
                tx.execute(
                    "UPDATE results SET used = ?, uses = uses + 1 WHERE id = ?",
                    params![to_nanos(SystemTime::now()), id.0],
                )?;
                Ok(found)
            })?;
            match snapshot {
                None => Ok(None),
                Some(EMPTY) => Ok(Some(SnapshotRef::result(None))),
                Some(number) => {
                    let Some(id) = store.snapshots.by_number(number)? else { return Ok(None) };
                    match store.snapshots.hold(id) {
                        // Collected this very moment.
                        Err(Error::NotFound { .. }) => Ok(None),
                        held => Ok(Some(SnapshotRef::result(Some(held?)))),
                    }
                }
            }
        })
        .await
    }

    async fn forget(&self, id: ResultId) -> std::result::Result<(), OpError> {
        self.on(move |store| {
            store.db.write("forget a result", |tx| {
                tx.execute("DELETE FROM contents WHERE result = ?", [id.0])?;
                tx.execute("DELETE FROM results WHERE id = ?", [id.0])
            })?;
            Ok(())
        })
        .await
    }

    async fn save(&self, results: Vec<NewResult>) -> std::result::Result<Vec<ResultId>, OpError> {
        self.on(move |store| {
            let made: Vec<&SnapshotRef> =
                results.iter().map(|new| SnapshotRef::of(&new.result)).collect::<Result<_>>()?;
            store.db.write("save results", |tx| {
                let now = to_nanos(SystemTime::now());
                let mut ids = Vec::new();
                for (new, made) in results.iter().zip(made) {
                    tx.execute(
                        "INSERT INTO results (key, exec, snapshot, description, created, used, kind)
                         VALUES (?, ?, ?, ?, ?, ?, ?)",
                        params![
                            new.key.to_string(),
                            new.exec.to_string(),
                            made.id().map_or(EMPTY, SnapshotId::number),
                            new.record.name,
                            now,
                            now,
                            made.kind().word()
                        ],
                    )?;
                    ids.push(ResultId(tx.last_insert_rowid()));
                    let record = serde_json::to_string(&new.record).expect("digests have a JSON form");
                    for of in new.record.found_by() {
                        tx.execute("INSERT OR REPLACE INTO records VALUES (?, ?)", [&of.row(), &record])?;
                    }
                }
                Ok(ids)
            })
        })
        .await
    }

    async fn content(&self, id: ResultId, selector: &str) -> std::result::Result<Option<Digest>, OpError> {
        let selector = selector.to_owned();
        self.on(move |store| {
            let text = store.db.read("find a content digest", |c| {
                c.query_row(
                    "SELECT digest FROM contents WHERE result = ? AND selector = ?",
                    params![id.0, selector],
                    |row| row.get(0),
                )
                .optional()
            })?;
            optional_digest(text)
        })
        .await
    }

    async fn set_content(
        &self,
        id: ResultId,
        selector: &str,
        digest: &Digest,
    ) -> std::result::Result<(), OpError> {
        let (selector, digest) = (selector.to_owned(), digest.to_string());
        self.on(move |store| {
            store.db.write("save a content digest", |tx| {
                tx.execute(
                    "INSERT OR REPLACE INTO contents VALUES (?, ?, ?)",
                    params![id.0, selector, digest],
                )
            })?;
            Ok(())
        })
        .await
    }

    async fn canonical(&self, key: &Digest) -> std::result::Result<Option<Digest>, OpError> {
        let key = key.to_string();
        self.on(move |store| {
            let text = store.db.read("find an alias", |c| {
                c.query_row("SELECT canonical FROM aliases WHERE key = ?", [key], |row| row.get(0)).optional()
            })?;
            optional_digest(text)
        })
        .await
    }

    async fn set_alias(&self, key: &Digest, canonical: &Digest) -> std::result::Result<(), OpError> {
        let (key, canonical) = (key.to_string(), canonical.to_string());
        self.on(move |store| {
            store.db.write("save an alias", |tx| {
                tx.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?)", [key, canonical])
            })?;
            Ok(())
        })
        .await
    }

    async fn record(&self, of: &RecordOf) -> std::result::Result<Option<Record>, OpError> {
        let key = of.row();
        self.on(move |store| {
            let text: Option<String> = store.db.read("find a record", |c| {
                c.query_row("SELECT record FROM records WHERE key = ?", [key], |row| row.get(0)).optional()
            })?;
            // A record of another form explains nothing, and nothing depends on it.
            Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::SqliteCacheStore;
    use crate::{snapshot_ref::SnapshotRef, store::Store};

    #[tokio::test]
    async fn it_behaves_as_a_store_must() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = SqliteCacheStore::new(Store::open(dir.path()).expect("a store") as Arc<_>);
        buildd_solver::cache::testsuite::run(&store, &|_| SnapshotRef::result(None)).await;
    }
}
