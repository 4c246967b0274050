//! Memory: the store of tests and simulations.
//!
//! It behaves as the one on disk does; `drop_bytes` plays garbage collection.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use buildd_oci::digest::Digest;

use super::{CacheStore, NewResult};
use crate::{
    op::OpError,
    result::{OpResult, ResultId},
};

#[derive(Debug, Default)]
struct Tables {
    /// The newest number; none is used again, or memos of a forgotten result would stick to another.
    last: i64,
    results: BTreeMap<ResultId, (Digest, Option<OpResult>)>,
    contents: HashMap<(ResultId, String), Digest>,
    aliases: HashMap<Digest, Digest>,
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

#[async_trait]
impl CacheStore for MemoryStore {
    async fn results(&self, key: &Digest) -> Result<Vec<ResultId>, OpError> {
        let tables = self.tables();
        Ok(tables.results.iter().rev().filter(|(_, (of, _))| of == key).map(|(id, _)| *id).collect())
    }

    async fn load(&self, id: ResultId) -> Result<Option<OpResult>, OpError> {
        Ok(self.tables().results.get(&id).and_then(|(_, result)| result.clone()))
    }

    async fn forget(&self, id: ResultId) -> Result<(), OpError> {
        self.tables().results.remove(&id);
        Ok(())
    }

    async fn save(&self, results: Vec<NewResult>) -> Result<Vec<ResultId>, OpError> {
        let mut tables = self.tables();
        let mut ids = Vec::new();
        for new in results {
            tables.last += 1;
            let id = ResultId(tables.last);
            tables.results.insert(id, (new.key, Some(new.result)));
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
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;

    #[tokio::test]
    async fn it_behaves_as_a_store_must() {
        crate::cache::testsuite::run(&MemoryStore::default(), &|n| crate::cache::testsuite::number(n)).await;
    }
}
