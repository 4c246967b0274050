//! Cache: results by key, and the memo of what they contain.
//!
//! The store holds four tables: results (many for a key, the newest usable wins), contents (digest of selected paths of
//! a result, which outlives the result's bytes), aliases (keys that mean the same) and records (what keys were made of).
//!
//! # Sources
//! design cache-model.md, "Model".

use async_trait::async_trait;
use buildd_oci::digest::Digest;

use crate::{
    explain::{Record, RecordOf},
    op::OpError,
    result::{OpResult, ResultId},
};

pub mod memory;
pub mod testsuite;

/// A result to remember.
#[derive(Clone, Debug)]
pub struct NewResult {
    /// `key(v, o)`.
    pub key: Digest,
    /// `exec(v)`.
    pub exec: Digest,
    /// What `exec` was made of, and the name that people see.
    pub record: Record,
    /// The result.
    pub result: OpResult,
}

/// Where results are remembered.
#[async_trait]
pub trait CacheStore: Send + Sync + std::fmt::Debug {
    /// The results of a key, newest first.
    async fn results(&self, key: &Digest) -> Result<Vec<ResultId>, OpError>;
    /// A result's bytes; None if they are gone while the row is still a memo.
    async fn load(&self, id: ResultId) -> Result<Option<OpResult>, OpError>;
    /// Forgets a result whose bytes cannot be loaded.
    async fn forget(&self, id: ResultId) -> Result<(), OpError>;
    /// Remembers results together or not at all, and their records as the newest.
    async fn save(&self, results: Vec<NewResult>) -> Result<Vec<ResultId>, OpError>;
    /// Digest of what `selector` selects of a result.
    async fn content(&self, id: ResultId, selector: &str) -> Result<Option<Digest>, OpError>;
    /// Remembers such a digest.
    async fn set_content(&self, id: ResultId, selector: &str, digest: &Digest) -> Result<(), OpError>;
    /// The key that `key` is another name of.
    async fn canonical(&self, key: &Digest) -> Result<Option<Digest>, OpError>;
    /// Makes `key` another name of `canonical`.
    async fn set_alias(&self, key: &Digest, canonical: &Digest) -> Result<(), OpError>;
    /// The newest record of an op or a name.
    async fn record(&self, of: &RecordOf) -> Result<Option<Record>, OpError>;
}
