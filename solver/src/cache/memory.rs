//! Memory: the store of tests and simulations.
//!
//! It behaves as the one on disk does; `drop_bytes` plays garbage collection.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use buildd_oci::{ErrorKind, digest::Digest};

use super::{CacheStore, NewResult};
use crate::{
    explain::{Record, RecordOf},
    op::OpError,
    result::{OpResult, ResultId},
};

#[derive(Debug, thiserror::Error)]
#[error("load result {0:?}: its bytes are damaged")]
struct Damaged(ResultId);

#[derive(Debug, Default)]
struct Tables {
    /// The newest number; none is used again, or memos of a forgotten result would stick to another.
    last: i64,
    damaged: BTreeSet<ResultId>,
    results: BTreeMap<ResultId, (Digest, Option<OpResult>)>,
    /// The results of a key, oldest first.
    keys: HashMap<Digest, Vec<ResultId>>,
    contents: HashMap<(ResultId, String), Digest>,
    aliases: HashMap<Digest, Digest>,
    records: HashMap<String, Record>,
}

/// A store that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the bytes of every result for which `gone` says so; the rows stay as memos.
    pub fn drop_bytes(&self, gone: impl Fn(&OpResult) -> bool) {
        for (_, result) in self.tables().results.values_mut() {
            if result.as_ref().is_some_and(&gone) {
                *result = None;
            }
        }
    }
}

impl MemoryStore {
    /// Makes every result fail to load from now on; those saved later are sound.
    pub fn break_results(&self) {
        let mut tables = self.tables();
        tables.damaged = tables.results.keys().copied().collect();
    }
}

#[async_trait]
impl CacheStore for MemoryStore {
    async fn results(&self, key: &Digest) -> Result<Vec<ResultId>, OpError> {
        Ok(self.tables().keys.get(key).into_iter().flatten().rev().copied().collect())
    }

    async fn load(&self, id: ResultId) -> Result<Option<OpResult>, OpError> {
        let tables = self.tables();
        if tables.damaged.contains(&id) {
            return Err(OpError::new(ErrorKind::DataLoss, Damaged(id)));
        }
        Ok(tables.results.get(&id).and_then(|(_, result)| result.clone()))
    }

    async fn forget(&self, id: ResultId) -> Result<(), OpError> {
        let mut tables = self.tables();
        if let Some((key, _)) = tables.results.remove(&id) {
            tables.keys.entry(key).or_default().retain(|of_key| *of_key != id);
        }
        tables.contents.retain(|(of, _), _| *of != id);
        Ok(())
    }

    async fn save(&self, results: Vec<NewResult>) -> Result<Vec<ResultId>, OpError> {
        let mut tables = self.tables();
        let mut ids = Vec::new();
        for new in results {
            tables.last += 1;
            let id = ResultId(tables.last);
            tables.results.insert(id, (new.key, Some(new.result)));
            tables.keys.entry(new.key).or_default().push(id);
            for of in new.record.found_by() {
                tables.records.insert(of.row(), new.record.clone());
            }
            ids.push(id);
        }
        Ok(ids)
    }

    async fn content(&self, id: ResultId, selector: &str) -> Result<Option<Digest>, OpError> {
        Ok(self.tables().contents.get(&(id, selector.to_owned())).copied())
    }

    async fn set_content(&self, id: ResultId, selector: &str, digest: &Digest) -> Result<(), OpError> {
        self.tables().contents.insert((id, selector.to_owned()), *digest);
        Ok(())
    }

    async fn canonical(&self, key: &Digest) -> Result<Option<Digest>, OpError> {
        Ok(self.tables().aliases.get(key).copied())
    }

    async fn set_alias(&self, key: &Digest, canonical: &Digest) -> Result<(), OpError> {
        self.tables().aliases.insert(*key, *canonical);
        Ok(())
    }

    async fn record(&self, of: &RecordOf) -> Result<Option<Record>, OpError> {
        Ok(self.tables().records.get(&of.row()).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;

    #[tokio::test]
    async fn it_behaves_as_a_store_must() {
        crate::cache::testsuite::run(&MemoryStore::default(), &|n| crate::cache::testsuite::number(n)).await;
    }
}
