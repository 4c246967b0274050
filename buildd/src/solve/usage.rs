//! Usage: what the build cache remembers, and how it is forgotten.
//!
//! Records name the steps; the bytes of layers are shared with images and are not yet counted by record.

use std::sync::Arc;

use buildd_api::buildkit::moby::buildkit::v1::{PruneRequest, UsageRecord};
use buildd_runtime::cache_store::SqliteCacheStore;
use tonic::Status;

use super::event::timestamp;
use crate::{status, worker::Worker};

/// What the cache holds.
pub(crate) async fn list(worker: &Worker, filter: &[String]) -> Result<Vec<UsageRecord>, Status> {
    if !filter.is_empty() {
        return Err(Status::unimplemented("filters on the build cache are not supported yet"));
    }
    let cache = SqliteCacheStore::new(Arc::clone(&worker.store));
    let results = buildd_fs::blocking::run(move || cache.list()).await.map_err(|error| status::of(&error))?;
    let record = |result: buildd_runtime::cache_store::CachedResult| UsageRecord {
        id: result.id.to_string(),
        description: result.description,
        created_at: Some(timestamp(result.created)),
        last_used_at: Some(timestamp(result.used)),
        record_type: "regular".to_owned(),
        ..UsageRecord::default()
    };
    Ok(results.into_iter().map(record).collect())
}

/// Forgets the whole cache; what was forgotten. Policies are refused by name.
pub(crate) async fn prune(worker: &Worker, request: &PruneRequest) -> Result<Vec<UsageRecord>, Status> {
    let policy = request.keep_duration != 0 || request.max_used_space != 0 || request.reserved_space != 0;
    if policy || request.min_free_space != 0 {
        return Err(Status::unimplemented("prune keeps nothing back yet: call it without a policy"));
    }
    let records = list(worker, &request.filter).await?;
    let cache = SqliteCacheStore::new(Arc::clone(&worker.store));
    buildd_fs::blocking::run(move || cache.clear()).await.map_err(|error| status::of(&error))?;
    Ok(records)
}
