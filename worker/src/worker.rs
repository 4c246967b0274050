//! Worker: what is kept, what runs steps, and who the clients are, joined for those that build: ops, sources and exporters.
//!
//! The daemon owns one; `resolver` gives it to the ops that the solver asks for.

use std::{ffi::OsString, sync::Arc};

use buildd_oci::platform::Platform;
use buildd_runtime::{
    device::Devices,
    step::{Executor, Network, StepLimits},
};
use buildd_solver::{
    op::{OpContext, OpError},
    result::OpResult,
};
use buildd_store::{
    root::Store,
    snapshot::{Reading, SnapshotId},
    transfer::{
        registries::Registries,
        unpack::{self, FoundImage},
    },
};

use crate::{
    cache_locks::CacheLocks,
    contexts::Contexts,
    error::Result,
    listing::Listing,
    session::{SessionError, Sessions},
    snapshot_ref::SnapshotRef,
};

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerOptions {
    /// Everything on disk.
    pub store: Arc<Store>,
    /// Runs steps.
    pub executor: Arc<Executor>,
    /// The clients.
    pub sessions: Arc<dyn Sessions>,
    /// Where images are looked for and exported to.
    pub namespace: String,
    /// Where images come from that are not here.
    pub registries: Arc<Registries>,
    /// The network of steps that name none.
    pub default_network: Network,
    /// What one step may take of the machine.
    pub limits: StepLimits,
    /// The variables that lead git through proxies.
    pub proxies: Vec<(OsString, OsString)>,
    /// What steps may ask for with `--device`.
    pub devices: Devices,
}

/// The worker.
#[derive(Debug)]
pub struct Worker {
    /// Everything on disk.
    pub store: Arc<Store>,
    /// Runs steps.
    pub executor: Arc<Executor>,
    /// The clients.
    pub sessions: Arc<dyn Sessions>,
    /// Where images are looked for and exported to.
    pub namespace: String,
    /// Where images come from that are not here.
    pub registries: Arc<Registries>,
    /// The network of steps that name none.
    pub default_network: Network,
    /// What one step may take of the machine.
    pub limits: StepLimits,
    /// The variables that lead git through proxies.
    pub proxies: Vec<(OsString, OsString)>,
    /// What steps may ask for with `--device`.
    pub devices: Devices,
    /// One lock for each cache mount in use.
    cache_locks: CacheLocks,
    /// Client trees of earlier builds.
    pub(crate) contexts: Contexts,
}

impl Worker {
    /// Joins the parts.
    pub fn new(options: WorkerOptions) -> Arc<Self> {
        Arc::new(Self {
            store: options.store,
            executor: options.executor,
            sessions: options.sessions,
            namespace: options.namespace,
            registries: options.registries,
            default_network: options.default_network,
            limits: options.limits,
            proxies: options.proxies,
            devices: options.devices,
            cache_locks: CacheLocks::default(),
            contexts: Contexts::default(),
        })
    }

    /// Finds an image by its canonical name in our own store.
    pub fn find_image(&self, name: &str, platform: &Platform) -> Result<FoundImage> {
        Ok(unpack::find(&self.store, &self.namespace, name, platform)?)
    }

    /// The tree of a result, for reading.
    pub fn reading(&self, result: Option<&OpResult>) -> Result<Reading> {
        let snapshot = result.map(SnapshotRef::of).transpose()?.and_then(|r| r.id());
        Ok(self.store.snapshots.reading(snapshot)?)
    }

    /// A stack to be hashed or copied from; of a client's files, what is known of them serves.
    pub(crate) fn listing(&self, snapshot: Option<SnapshotId>) -> Result<Listing> {
        let synced = snapshot.and_then(|id| self.contexts.tree(id));
        Listing::stack(self.store.snapshots.reading(snapshot)?, synced)
    }

    /// The lock of a cache mount; everybody who asks while somebody has it, locked or not, gets the same one.
    pub(crate) fn cache_lock(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.cache_locks.get(id)
    }

    /// A secret of a client that takes part; None if that client has none of this id.
    pub(crate) async fn secret(&self, cx: &OpContext, id: &str) -> Result<Option<Vec<u8>>, OpError> {
        let fail = |error: SessionError| OpError::new(error.kind, error);
        let session = self.sessions.any(&cx.sessions.ids()).await.map_err(fail)?;
        session.secret(id).await.map_err(fail)
    }
}
