//! Cache locks: which folder each cache mount of a step shows, and the locks that the step takes for them.
//!
//! `gather` takes all of them before it prepares the first mount.
//!
//! # Invariants
//! A step has one folder for an id (and one of its own for those mounts that share it with no other step), and takes one lock for it, however many
//! of its mounts name it. Locks that are waited for are taken in the order of their ids, so that no two steps wait for each other.
//!
//! # Sources
//! moby/buildkit `solver/llbsolver/mounts/mount.go`, `getRefCacheDir`.

use std::collections::{BTreeMap, BTreeSet};

use buildd_api::buildkit::pb;
use buildd_solver::op::Freshness;
use tokio::sync::OwnedMutexGuard;

use crate::worker::Worker;

/// A mount's id and how it is shared, if that makes it another folder.
type Name = (String, bool);

/// The cache mounts of a step, locked.
#[derive(Debug, Default)]
pub(super) struct CacheLocks {
    /// What stands for an id: one of our own where it is private, or fresh.
    ids: BTreeMap<Name, String>,
    /// Held as long as the step runs.
    locks: Vec<OwnedMutexGuard<()>>,
}

impl CacheLocks {
    /// The id of the folder that a mount shows.
    pub(super) fn id(&self, mount: &pb::Mount) -> String {
        let name = name(mount);
        self.ids.get(&name).cloned().unwrap_or(name.0)
    }
}

fn sharing(mount: &pb::Mount) -> pb::CacheSharingOpt {
    mount.cache_opt.as_ref().map(pb::CacheOpt::sharing).unwrap_or_default()
}

fn name(mount: &pb::Mount) -> Name {
    let id = mount.cache_opt.as_ref().map(|options| options.id.clone()).unwrap_or_default();
    (id, sharing(mount) == pb::CacheSharingOpt::Private)
}

/// Locks the cache mounts of a step: waits for ids that are `locked`, and takes another folder than one in use for those that are `private`.
pub(super) async fn lock(worker: &Worker, mounts: &[pb::Mount], freshness: Freshness) -> CacheLocks {
    let mut taken = CacheLocks::default();
    let caches = || mounts.iter().filter(|mount| mount.mount_type() == pb::MountType::Cache);
    if freshness == Freshness::Forced {
        // `--no-cache` gives fresh cache mounts, which no other step knows.
        for name in caches().map(name).collect::<BTreeSet<_>>() {
            let fresh = format!("{}\0fresh {:032x}", name.0, rand::random::<u128>());
            taken.ids.insert(name, fresh);
        }
        return taken;
    }
    let locked = caches().filter(|mount| sharing(mount) == pb::CacheSharingOpt::Locked);
    for (id, _) in locked.map(name).collect::<BTreeSet<_>>() {
        taken.locks.push(worker.cache_lock(&id).lock_owned().await);
    }
    let private = caches().filter(|mount| sharing(mount) == pb::CacheSharingOpt::Private);
    for name in private.map(name).collect::<BTreeSet<_>>() {
        let mut numbers = (0..).map(|number: u64| format!("{}\0private {number}", name.0));
        let free = numbers.find_map(|own| Some((worker.cache_lock(&own).try_lock_owned().ok()?, own)));
        let (lock, own) = free.expect("there is always one more number");
        taken.locks.push(lock);
        taken.ids.insert(name, own);
    }
    taken
}
