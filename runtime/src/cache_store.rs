//! Cache store: the solver's memory in the database.
//!
//! A result's row outlives its snapshot as a memo of contents; a row whose snapshot is gone loads as None.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use buildd_oci::digest::Digest;
use buildd_solver::{
    cache::{CacheStore, NewResult},
    op::OpError,
    result::{OpResult, ResultId},
};
use rusqlite::{OptionalExtension, params};

use crate::{
    db::{from_nanos, to_nanos},
    error::{Error, Result},
    snapshot::{LayerId, SnapshotId},
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
                    "UPDATE results SET used = ? WHERE id = ?",
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
            let snapshots: Vec<Option<SnapshotId>> =
                results.iter().map(|new| Ok(SnapshotRef::of(&new.result)?.id())).collect::<Result<_>>()?;
            store.db.write("save results", |tx| {
                let now = to_nanos(SystemTime::now());
                let mut ids = Vec::new();
                for (new, snapshot) in results.iter().zip(snapshots) {
                    tx.execute(
                        "INSERT INTO results (key, exec, snapshot, description, created, used) VALUES (?, ?, ?, ?, ?, ?)",
                        params![
                            new.key.to_string(),
                            new.exec.to_string(),
                            snapshot.map_or(EMPTY, SnapshotId::number),
                            new.description,
                            now,
                            now
                        ],
                    )?;
                    ids.push(ResultId(tx.last_insert_rowid()));
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
}

impl SqliteCacheStore {
    /// Every result with what people see of it. Sizes are of the layer that a result adds.
    pub fn list(&self) -> Result<Vec<CachedResult>> {
        let snapshots = &self.store.snapshots;
        let held = snapshots.while_held(<[i64]>::to_vec);
        let mut results = self.store.db.read("list results", |c| {
            let mut rows = c.prepare(
                "SELECT r.id, r.description, r.created, r.used, r.snapshot, s.layer,
                    (SELECT max(p.id) FROM results p WHERE p.snapshot = s.parent),
                    EXISTS (SELECT 1 FROM named_snapshots n WHERE n.snapshot = r.snapshot)
                 FROM results r LEFT JOIN snapshots s ON s.id = r.snapshot ORDER BY r.id",
            )?;
            let results = rows.query_map([], |row| {
                Ok(CachedResult {
                    id: row.get(0)?,
                    description: row.get(1)?,
                    created: from_nanos(row.get(2)?),
                    used: from_nanos(row.get(3)?),
                    in_use: row.get::<_, Option<i64>>(4)?.is_some_and(|snapshot| held.contains(&snapshot)),
                    layer: row.get::<_, Option<i64>>(5)?.map(LayerId::of_row),
                    parent: row.get(6)?,
                    shared: row.get(7)?,
                    size: 0,
                })
            })?;
            results.collect::<rusqlite::Result<Vec<CachedResult>>>()
        })?;
        let mut counted = HashSet::new();
        for result in &mut results {
            // Several results may share a layer: its bytes count once.
            if let Some(layer) = result.layer.filter(|layer| counted.insert(*layer)) {
                result.size = snapshots.layer_size(layer)?;
            }
        }
        Ok(results)
    }

    /// Forgets results that match until a limit is kept, those first whose last use is longest ago; what was forgotten. Those in use stay.
    /// Their layers go with the next collection, unless something else needs them.
    pub fn prune(&self, limit: &Limit, matches: &dyn Fn(&CachedResult) -> bool) -> Result<Vec<CachedResult>> {
        let mut results = self.list()?;
        results.sort_by_key(|result| result.used);
        let mut total: u64 = results.iter().map(|result| result.size).sum();
        let now = SystemTime::now();
        let mut forgotten = Vec::new();
        for result in results {
            let young = limit
                .keep_duration
                .is_some_and(|keep| now.duration_since(result.used).is_ok_and(|unused| unused < keep));
            let enough = limit.max_used.is_some_and(|most| total <= most)
                || limit.reserved.is_some_and(|least| total.saturating_sub(result.size) < least);
            if result.in_use || young || enough || !matches(&result) {
                continue;
            }
            total = total.saturating_sub(result.size);
            forgotten.push(result);
        }
        self.store.db.write_durable("forget results", |tx| {
            for result in &forgotten {
                tx.execute("DELETE FROM contents WHERE result = ?", [result.id])?;
                tx.execute("DELETE FROM results WHERE id = ?", [result.id])?;
            }
            Ok(())
        })?;
        Ok(forgotten)
    }
}

/// What a pruning leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// What was used within this time.
    pub keep_duration: Option<Duration>,
    /// At most this many bytes are left.
    pub max_used: Option<u64>,
    /// At least this many bytes are left.
    pub reserved: Option<u64>,
}

/// A remembered result.
#[derive(Clone, Debug)]
pub struct CachedResult {
    /// Its number.
    pub id: i64,
    /// The step that made it.
    pub description: String,
    /// When.
    pub created: SystemTime,
    /// When it served last.
    pub used: SystemTime,
    /// Whether a build works with it.
    pub in_use: bool,
    /// Whether a snapshot of a client or an image has the same layers.
    pub shared: bool,
    /// A result that it stands on.
    pub parent: Option<i64>,
    /// Bytes of its own layer; 0 if another result counts them.
    pub size: u64,
    layer: Option<LayerId>,
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
