//! Worker: the parts joined: it finds the work behind vertices, resolves images and exports what was built.
//!
//! The daemon owns one and gives it to the solver as `OpResolver`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::Read,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use buildd_api::buildkit::pb;
use buildd_fs::path::{open_in_root, open_root};
use buildd_oci::{ErrorKind, platform::Platform};
use buildd_runtime::{
    device::Devices,
    step::{Executor, Network, StepLimits},
};
use buildd_solver::{
    graph::Vertex,
    op::{Op, OpError, OpResolver},
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
use rustix::fs::{Mode, OFlags};

use crate::{
    error::{Error, Result},
    listing::Listing,
    ops,
    session::Sessions,
    snapshot_ref::SnapshotRef,
    source,
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
    pub(crate) cache_locks: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Client trees of earlier builds.
    pub(crate) contexts: source::Contexts,
    /// Itself, for the ops it makes.
    me: std::sync::Weak<Worker>,
}

impl Worker {
    /// Joins the parts.
    pub fn new(options: WorkerOptions) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            store: options.store,
            executor: options.executor,
            sessions: options.sessions,
            namespace: options.namespace,
            registries: options.registries,
            default_network: options.default_network,
            limits: options.limits,
            proxies: options.proxies,
            devices: options.devices,
            cache_locks: Mutex::default(),
            contexts: source::Contexts::default(),
            me: me.clone(),
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

    /// The lock of a cache mount.
    pub(crate) fn cache_lock(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.cache_locks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(id.to_owned())
            .or_default()
            .clone()
    }
}

impl OpResolver for Worker {
    fn resolve(&self, vertex: &Vertex) -> std::result::Result<Arc<dyn Op>, OpError> {
        let worker = self.me.upgrade().expect("resolved through a live worker");
        match &vertex.op.op {
            Some(pb::op::Op::Source(op)) => source::resolve(worker, op, vertex.op.platform.as_ref()),
            Some(pb::op::Op::Exec(op)) => ops::exec::resolve(worker, op, vertex),
            Some(pb::op::Op::File(op)) => ops::file::resolve(worker, op, vertex),
            Some(pb::op::Op::Merge(_)) => Ok(ops::merge::resolve(worker, vertex.inputs.len())),
            Some(pb::op::Op::Diff(_)) => Err(refused("diff")),
            Some(pb::op::Op::Build(_)) => Err(refused("build")),
            None => Err(refused("unknown")),
        }
    }
}

/// Reads a file below a folder of the host, links resolved inside that; at most `limit` bytes, and only regular files.
pub fn read_below(root: &Path, path: &str, limit: usize) -> Result<Vec<u8>> {
    let fail = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound { what: "file", name: path.to_owned() },
        _ => Error::File { operation: "read", path: path.into(), source },
    };
    let root = open_root(root).map_err(fail)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = File::from(
        open_in_root(std::os::fd::AsFd::as_fd(&root), Path::new(path), flags, Mode::empty()).map_err(fail)?,
    );
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() {
        let reason = "it is not a regular file".to_owned();
        return Err(Error::Invalid { what: "file", name: path.to_owned(), reason });
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() > limit {
        return Err(Error::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

fn refused(what: &'static str) -> OpError {
    OpError::new(ErrorKind::Unimplemented, Unsupported { what: format!("LLB op {what:?}") })
}

/// Something that this worker does not offer.
#[derive(Debug, thiserror::Error)]
#[error("{what} is not supported yet")]
pub(crate) struct Unsupported {
    /// What.
    pub(crate) what: String,
}

/// A failure of the worker as the solver knows it.
pub(crate) fn op_error(error: impl Into<Error>) -> OpError {
    let error = error.into();
    let (kind, hint) = (error.kind(), error.hint());
    OpError::new(kind, error).with_hint(hint)
}
