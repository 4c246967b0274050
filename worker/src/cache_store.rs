//! Cache store: the solver's memory over the store's rows of results.
//!
//! A row whose snapshot is gone loads as None.

use std::sync::Arc;

use async_trait::async_trait;
use buildd_oci::{ErrorKind, digest::Digest};
use buildd_solver::{
    cache::{CacheStore, NewResult},
    explain::{Record, RecordOf},
    op::OpError,
    result::{OpResult, ResultId},
};
use buildd_store::{
    cache::results::{EMPTY_TREE, NewRow},
    root::Store,
    snapshot::SnapshotId,
};

use crate::{
    error::{Result, op_error},
    snapshot_ref::SnapshotRef,
};

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

#[async_trait]
impl CacheStore for SqliteCacheStore {
    async fn results(&self, key: &Digest) -> std::result::Result<Vec<ResultId>, OpError> {
        let key = *key;
        self.on(move |store| Ok(store.results.find(&key)?.into_iter().map(ResultId).collect())).await
    }

    async fn load(&self, id: ResultId) -> std::result::Result<Option<OpResult>, OpError> {
        self.on(move |store| match store.results.take(id.0)? {
            None => Ok(None),
            Some(EMPTY_TREE) => Ok(Some(SnapshotRef::result(None))),
            Some(number) => {
                let Some(id) = store.snapshots.by_number(number)? else { return Ok(None) };
                match store.snapshots.pin(id) {
                    // Collected this very moment.
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    held => Ok(Some(SnapshotRef::result(Some(held?)))),
                }
            }
        })
        .await
    }

    async fn forget(&self, id: ResultId) -> std::result::Result<(), OpError> {
        self.on(move |store| Ok(store.results.forget(id.0)?)).await
    }

    async fn save(&self, results: Vec<NewResult>) -> std::result::Result<Vec<ResultId>, OpError> {
        self.on(move |store| {
            let rows: Vec<NewRow> = results.iter().map(row).collect::<Result<_>>()?;
            Ok(store.results.save(&rows)?.into_iter().map(ResultId).collect())
        })
        .await
    }

    async fn content(&self, id: ResultId, selector: &str) -> std::result::Result<Option<Digest>, OpError> {
        let selector = selector.to_owned();
        self.on(move |store| Ok(store.results.content(id.0, &selector)?)).await
    }

    async fn set_content(
        &self,
        id: ResultId,
        selector: &str,
        digest: &Digest,
    ) -> std::result::Result<(), OpError> {
        let (selector, digest) = (selector.to_owned(), *digest);
        self.on(move |store| Ok(store.results.set_content(id.0, &selector, &digest)?)).await
    }

    async fn canonical(&self, key: &Digest) -> std::result::Result<Option<Digest>, OpError> {
        let key = *key;
        self.on(move |store| Ok(store.results.canonical(&key)?)).await
    }

    async fn set_alias(&self, key: &Digest, canonical: &Digest) -> std::result::Result<(), OpError> {
        let (key, canonical) = (*key, *canonical);
        self.on(move |store| Ok(store.results.set_alias(&key, &canonical)?)).await
    }

    async fn record(&self, of: &RecordOf) -> std::result::Result<Option<Record>, OpError> {
        let name = of.row();
        self.on(move |store| {
            let text = store.results.record(&name)?;
            // A record of another version explains nothing, and nothing depends on it.
            Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
        })
        .await
    }
}

/// A result as its row.
fn row(new: &NewResult) -> Result<NewRow> {
    let made = SnapshotRef::of(&new.result)?;
    let record = serde_json::to_string(&new.record).expect("digests have a JSON form");
    Ok(NewRow {
        key: new.key,
        exec: new.exec,
        snapshot: made.id().map_or(EMPTY_TREE, SnapshotId::number),
        description: new.record.name.clone(),
        kind: made.kind().word(),
        record: (new.record.found_by().into_iter().map(|of| of.row()).collect(), record),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use buildd_store::root::Store;

    use super::SqliteCacheStore;
    use crate::snapshot_ref::SnapshotRef;

    #[tokio::test]
    async fn it_behaves_as_a_store_must() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = SqliteCacheStore::new(Store::open(dir.path()).expect("a store") as Arc<_>);
        buildd_solver::cache::testsuite::run(&store, &|_| SnapshotRef::result(None)).await;
    }
}
