//! Worker: what does the work, put together from the configuration.

use std::{path::Path, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use buildd_oci::ErrorKind;
use buildd_runtime::store::Store;
use buildd_solver::{
    cache::memory::MemoryStore,
    graph::Vertex,
    op::{Op, OpError, OpResolver},
    scheduler::{Solver, SolverOptions},
};

use crate::{buildkit::session::Sessions, config::Config};

/// The parts that do the work.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) worker: Arc<Worker>,
    pub(crate) solver: Arc<Solver>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) uuid: String,
}

#[derive(Debug)]
pub(crate) struct Worker;

#[derive(Debug, Default)]
pub(crate) struct Tasks;

impl Tasks {
    pub(crate) fn any_running(&self) -> bool {
        false
    }
}

#[derive(Debug, thiserror::Error)]
#[error("this operation is not supported yet")]
struct Missing;

impl OpResolver for Worker {
    fn resolve(&self, _: &Vertex) -> Result<Arc<dyn Op>, OpError> {
        Err(OpError::new(ErrorKind::Unimplemented, Missing))
    }
}

/// Puts the parts together.
pub(crate) async fn assemble(config: &Config, _store: Arc<Store>, _sessions: Arc<Sessions>) -> Result<Parts> {
    let worker = Arc::new(Worker);
    let resolver: Arc<dyn OpResolver> = Arc::clone(&worker) as _;
    let solver = Solver::new(SolverOptions {
        store: Arc::new(MemoryStore::default()),
        resolver,
        max_parallelism: config.worker.oci.max_parallelism.unwrap_or(4),
    });
    let uuid = identity(&config.root)?;
    Ok(Parts { worker, solver, tasks: Arc::default(), uuid })
}

/// The name of this root, made once: both APIs tell it, so that clients see that they talk to one daemon.
fn identity(root: &Path) -> Result<String> {
    let path = root.join("uuid");
    if let Ok(uuid) = std::fs::read_to_string(&path) {
        return Ok(uuid.trim().to_owned());
    }
    let bytes: u128 = rand::random();
    let hex = format!("{bytes:032x}");
    let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    std::fs::write(&path, &uuid).with_context(|| format!("write {}", path.display()))?;
    Ok(uuid)
}

/// Runs a hidden subcommand, if this process was started for one.
pub(crate) fn helper() -> Option<ExitCode> {
    None
}

/// Says what the machine offers.
pub(crate) fn doctor() -> Result<()> {
    Ok(())
}
