//! Usage: what the build cache remembers, and how it is forgotten.
//!
//! A record is a result of the cache; its size is of the layer that it adds. Layers that images or containers share stay when their records
//! go.
//!
//! # Sources
//! BuildKit `cache/manager.go` (`Prune`, `DiskUsage`) and its filters: containerd's language over `id`, `type`, `description`, `inuse`,
//! `mutable`, `shared`, `private`, `parents`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use buildd_api::buildkit::moby::buildkit::v1::{PruneRequest, UsageRecord};
use buildd_runtime::cache_store::{CachedResult, Limit, SqliteCacheStore};
use tonic::Status;

use super::{Builds, event::timestamp};
use crate::{
    containerd::filter::{Fields, Filters},
    status,
};

/// The kind of all our records.
const REGULAR: &str = "regular";

struct Record<'a>(&'a CachedResult, BTreeMap<String, String>);

impl Fields for Record<'_> {
    fn field(&self, name: &str) -> Option<String> {
        let Self(result, _) = self;
        let word = |yes: bool| yes.then(|| "true".to_owned());
        match name {
            "id" => Some(result.id.to_string()),
            "type" => Some(REGULAR.to_owned()),
            "description" => Some(result.description.clone()),
            "parents" => result.parent.map(|parent| parent.to_string()),
            "inuse" => word(result.in_use),
            "shared" => word(result.shared),
            "private" => word(!result.shared),
            _ => None,
        }
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.1
    }
}

fn wire(result: CachedResult) -> UsageRecord {
    UsageRecord {
        id: result.id.to_string(),
        size: i64::try_from(result.size).unwrap_or(i64::MAX),
        parents: result.parent.iter().map(ToString::to_string).collect(),
        in_use: result.in_use,
        shared: result.shared,
        description: result.description,
        created_at: Some(timestamp(result.created)),
        last_used_at: Some(timestamp(result.used)),
        record_type: REGULAR.to_owned(),
        ..UsageRecord::default()
    }
}

/// What the cache holds.
pub(crate) async fn list(builds: &Builds, filter: &[String]) -> Result<Vec<UsageRecord>, Status> {
    let filters = Filters::parse(filter)?;
    let cache = SqliteCacheStore::new(Arc::clone(&builds.worker.store));
    let results = buildd_fs::blocking::run(move || cache.list()).await.map_err(|error| status::of(&error))?;
    let wanted = results.into_iter().filter(|result| filters.matches(&Record(result, BTreeMap::new())));
    Ok(wanted.map(wire).collect())
}

/// Forgets what a request names, and collects what nothing else needs; what was forgotten.
pub(crate) async fn prune(builds: &Builds, request: &PruneRequest) -> Result<Vec<UsageRecord>, Status> {
    let filters = Filters::parse(&request.filter)?;
    let some = |bytes: i64| u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
    let free = some(request.min_free_space);
    let cache = SqliteCacheStore::new(Arc::clone(&builds.worker.store));
    let root = builds.worker.store.root().to_owned();
    let mut limit = Limit {
        keep_duration: some(request.keep_duration).map(Duration::from_nanos),
        max_used: some(request.max_used_space),
        reserved: some(request.reserved_space),
    };
    let work = move || {
        if let Some(wanted) = free {
            let used = cache.list()?.iter().map(|result| result.size).sum::<u64>();
            let lacking = wanted.saturating_sub(crate::config::disk(&root).free);
            let most = used.saturating_sub(lacking);
            limit.max_used = Some(limit.max_used.map_or(most, |max| max.min(most)));
        }
        cache.prune(&limit, &|result| filters.matches(&Record(result, BTreeMap::new())))
    };
    let forgotten = buildd_fs::blocking::run(work).await.map_err(|error| status::of(&error))?;
    builds.collector.now().await.map_err(|error| status::of(&error))?;
    Ok(forgotten.into_iter().map(wire).collect())
}
