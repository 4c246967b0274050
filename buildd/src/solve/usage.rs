//! Usage: what the build cache holds, and how it is cut back, in BuildKit's words.
//!
//! # Sources
//! BuildKit `control/control.go` (`DiskUsage`, `Prune`) and its filters: containerd's language over `id`, `type`, `description`, `inuse`,
//! `mutable`, `immutable`, `shared`, `private`, `parents`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use buildd_api::buildkit::moby::buildkit::v1::{DiskUsageRequest, PruneRequest, UsageRecord};
use buildd_store::usage::{self, Policy, Record};
use tonic::Status;

use super::{Builds, event::timestamp};
use crate::{
    filter::{Fields, Filters},
    status,
};

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

impl Fields for Record {
    fn field(&self, name: &str) -> Option<String> {
        let word = |yes: bool| yes.then(|| "true".to_owned());
        match name {
            "id" => Some(self.id.clone()),
            "type" => Some(self.kind.clone()),
            "description" => Some(self.description.clone()),
            "parents" => self.parent.clone(),
            "inuse" => word(self.in_use),
            "mutable" => word(self.mutable),
            "immutable" => word(!self.mutable),
            "shared" => word(self.shared),
            "private" => word(!self.shared),
            _ => None,
        }
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &NO_LABELS
    }
}

fn wire(record: Record) -> UsageRecord {
    UsageRecord {
        id: record.id,
        size: i64::try_from(record.size).unwrap_or(i64::MAX),
        parents: record.parent.into_iter().collect(),
        mutable: record.mutable,
        in_use: record.in_use,
        shared: record.shared,
        description: record.description,
        created_at: Some(timestamp(record.created)),
        last_used_at: Some(timestamp(record.used)),
        usage_count: record.uses,
        record_type: record.kind,
        ..UsageRecord::default()
    }
}

/// Nanoseconds or bytes of a request; 0 says nothing.
fn some(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

/// What the cache holds.
pub(crate) async fn list(builds: &Builds, request: &DiskUsageRequest) -> Result<Vec<UsageRecord>, Status> {
    let filters = Filters::parse(&request.filter)?;
    let store = Arc::clone(&builds.worker.store);
    let mut records =
        buildd_fs::blocking::run(move || usage::list(&store)).await.map_err(|error| status::of(&error))?;
    if let Some(age) = some(request.age_limit).map(Duration::from_nanos) {
        let now = SystemTime::now();
        records.retain(|record| now.duration_since(record.used).is_ok_and(|unused| unused >= age));
    }
    Ok(records.into_iter().filter(|record| filters.matches(record)).map(wire).collect())
}

/// Forgets what a request names, and collects what nothing else needs; what was forgotten.
pub(crate) async fn prune(builds: &Builds, request: &PruneRequest) -> Result<Vec<UsageRecord>, Status> {
    let filters = Filters::parse(&request.filter)?;
    let policy = Policy {
        all: request.all,
        keep_duration: some(request.keep_duration).map(Duration::from_nanos),
        reserved: some(request.reserved_space),
        max_used: some(request.max_used_space),
        min_free: some(request.min_free_space),
    };
    let store = Arc::clone(&builds.worker.store);
    let work = move || usage::prune(&store, &policy, &|record| filters.matches(record));
    let forgotten = buildd_fs::blocking::run(work).await.map_err(|error| status::of(&error))?;
    builds.collector.now().await.map_err(|error| status::of(&error))?;
    Ok(forgotten.into_iter().map(wire).collect())
}
