//! Sandboxes: the containers that a frontend of a build has open.
//!
//! They end with the frontend at the latest, and their processes with them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use buildd_api::buildkit::{moby::buildkit::v1::frontend::NewContainerRequest, pb};
use buildd_worker::sandbox::{Sandbox, SandboxRequest};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Build, failure};

/// Containers that one build may have open: stops a client from filling the machine.
const MAX_SANDBOXES: usize = 64;

/// The containers of one frontend, by its names.
#[derive(Debug, Default)]
pub(crate) struct Sandboxes {
    live: Mutex<HashMap<String, Arc<Sandbox>>>,
    /// Cancelled when the frontend is done.
    closed: CancellationToken,
}

impl Sandboxes {
    /// Opens a container.
    pub(crate) async fn open(&self, build: &Build, request: NewContainerRequest) -> Result<(), Status> {
        let id = request.container_id.clone();
        let network = request.network();
        build.granted().check_step(network, pb::SecurityMode::Sandbox)?;
        {
            let live = self.live();
            if live.contains_key(&id) {
                return Err(Status::already_exists(format!("container {id} exists")));
            }
            if live.len() >= MAX_SANDBOXES {
                return Err(Status::resource_exhausted("too many containers in one build"));
            }
        }
        let mut wanted = SandboxRequest {
            network: network.into(),
            extra_hosts: request.extra_hosts,
            hostname: request.hostname,
            ..SandboxRequest::default()
        };
        for mut mount in request.mounts {
            mount.input = -1;
            mount.output = -1;
            if let Some(tree) = build.tree(&mount.result_id).await? {
                mount.input = i64::try_from(wanted.inputs.len()).unwrap_or(-1);
                wanted.inputs.push(tree);
            }
            mount.result_id.clear();
            wanted.mounts.push(mount);
        }
        let worker = Arc::clone(&build.worker);
        let sandbox = Sandbox::new(worker, &build.context(&id), wanted).await;
        let sandbox = sandbox.map_err(|error| failure::of_op(&error))?;
        let mut live = self.live();
        if self.closed.is_cancelled() {
            return Err(Status::cancelled("the build has ended"));
        }
        live.insert(id, Arc::new(sandbox));
        Ok(())
    }

    /// An open container.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<Sandbox>, Status> {
        let found = self.live().get(id).cloned();
        found.ok_or_else(|| Status::not_found(format!("no such container: {id}")))
    }

    /// Closes a container; its mounts go with its last process.
    pub(crate) fn release(&self, id: &str) -> Result<(), Status> {
        let released = self.live().remove(id);
        released.map(drop).ok_or_else(|| Status::not_found(format!("no such container: {id}")))
    }

    /// Closes all containers, for good.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        let all = std::mem::take(&mut *self.live());
        drop(all);
    }

    /// Cancelled when the build ends: processes end then.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Arc<Sandbox>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
