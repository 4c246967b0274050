//! One build: its job in the solver, what its frontend may ask, and what it made.
//!
//! A frontend is the daemon's own, which calls through `Bridge`, or the client, which calls through `LLBBridge`: both end here.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::AtomicUsize},
};

use buildd_api::{
    buildkit::{
        moby::buildkit::v1::{SolveRequest, StatusResponse},
        pb,
    },
    error_detail::{Detail, FailedStep},
};
use buildd_frontend::{
    FrontendRequest, FrontendResult,
    dockerfile::syntax::is_ours,
    request::{DOCKERFILE_FRONTEND, GATEWAY_FRONTEND, SOURCE_OPTION},
};
use buildd_oci::digest::Digest;
use buildd_solver::{
    op::OpContext,
    result::OpResult,
    scheduler::{Job, SolveError},
};
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::Status;

use super::{
    Builds,
    entitlement::Granted,
    failure, frontend_container,
    gateway_frontend::{GatewayFrontend, Returned},
    missing,
    progress::Progress,
    stage::Stage,
};
use crate::worker::Worker;

/// Results that one gateway build may hold: stops a client from filling memory.
const MAX_REFS: usize = 10_000;

/// What a gateway client knows by a name.
#[derive(Debug, Clone)]
enum Kept {
    /// To be built when something needs its bytes.
    Definition(pb::Definition),
    /// Built already.
    Tree(Option<OpResult>),
}

/// A running build.
#[derive(Debug)]
pub(crate) struct Build {
    /// The client's name for it.
    pub(crate) id: String,
    /// The session of its client.
    pub(crate) session: String,
    /// The client's place, for builds whose frontend it is.
    pub(crate) client: Arc<GatewayFrontend>,
    builds: Weak<Builds>,
    /// Who works.
    pub(crate) worker: Arc<Worker>,
    progress: Arc<Progress>,
    job: Arc<Job>,
    granted: Granted,
    refs: Mutex<HashMap<String, Kept>>,
    /// Images that run as frontends now.
    pub(super) frontend_containers: AtomicUsize,
}

impl Build {
    /// A build about to begin; the receiver is for builds whose frontend is the client.
    pub(super) fn new(
        request: &SolveRequest,
        builds: &Arc<Builds>,
        job: Arc<Job>,
        granted: Granted,
        progress: Arc<Progress>,
    ) -> (Self, oneshot::Receiver<Returned>) {
        let (client, receiver) =
            GatewayFrontend::new(0, request.frontend_inputs.clone().into_iter().collect());
        let build = Self {
            id: request.r#ref.clone(),
            session: request.session.clone(),
            client: Arc::new(client),
            builds: Arc::downgrade(builds),
            worker: Arc::clone(&builds.worker),
            progress,
            job,
            granted,
            refs: Mutex::default(),
            frontend_containers: AtomicUsize::new(0),
        };
        (build, receiver)
    }

    /// Runs a frontend by its name, for one that is `depth` deep.
    pub(crate) async fn frontend(
        self: &Arc<Self>,
        name: &str,
        opts: BTreeMap<String, String>,
        inputs: BTreeMap<String, pb::Definition>,
        depth: usize,
    ) -> Result<FrontendResult, Status> {
        let ours = match name {
            DOCKERFILE_FRONTEND => true,
            GATEWAY_FRONTEND => opts.get(SOURCE_OPTION).is_some_and(|source| is_ours(source)),
            _ => {
                return Err(Status::unimplemented(format!(
                    "frontend {name:?} is none of {DOCKERFILE_FRONTEND}, {GATEWAY_FRONTEND}"
                )));
            }
        };
        match ours {
            true => self.dockerfile(opts, inputs, depth).await,
            false => frontend_container::run(self, opts, inputs, depth).await,
        }
    }

    /// Runs the frontend that is built in.
    async fn dockerfile(
        self: &Arc<Self>,
        opts: BTreeMap<String, String>,
        inputs: BTreeMap<String, pb::Definition>,
        depth: usize,
    ) -> Result<FrontendResult, Status> {
        let request = FrontendRequest { opts, inputs, session_id: self.session.clone() };
        let bridge = super::bridge::BuildBridge::new(Arc::clone(self), depth);
        let result = buildd_frontend::dockerfile::solve(&request, &bridge).await;
        let error = match result {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        if error.location().is_none()
            && let Some(failure) = bridge.failure()
        {
            return Err(failure);
        }
        let hint = missing::dockerfile_hint(&error, &*self.worker.sessions, &self.session).await;
        Err(failure::of_frontend(&error, hint))
    }

    /// Builds a definition; None is the empty tree.
    pub(crate) async fn solve(&self, definition: &pb::Definition) -> Result<Option<OpResult>, Status> {
        self.granted.check(definition, &self.worker.devices)?;
        match self.job.build(definition).await {
            Ok(result) => Ok(result),
            Err(error) => {
                let hint = missing::hint(&error, definition, &*self.worker.sessions, &self.session).await;
                Err(failure::of_solver(&error, definition, hint, self.remains(&error, definition)))
            }
        }
    }

    /// Keeps the trees of a step that failed; their names and the step, for a debugger.
    fn remains(&self, error: &SolveError, definition: &pb::Definition) -> Option<Detail> {
        let SolveError::Vertex { vertex, error, .. } = error else { return None };
        let remains = error.remains.as_ref()?;
        let op = definition.def.iter().find(|bytes| Digest::of(bytes) == *vertex)?;
        let step = pb::Op::decode(op.as_slice()).ok().as_ref().and_then(FailedStep::of).map(Box::new);
        let name = |tree: &Option<OpResult>| self.remember(Kept::Tree(tree.clone())).ok();
        let inputs = remains.inputs.iter().map(|input| name(&Some(input.clone())));
        let mount_ids = remains.mounts.iter().map(name).collect::<Option<_>>()?;
        Some(Detail::Solve { input_ids: inputs.collect::<Option<_>>()?, mount_ids, step })
    }

    /// All builds.
    pub(crate) fn all(&self) -> Result<Arc<Builds>, Status> {
        self.builds.upgrade().ok_or_else(|| Status::cancelled("the daemon is leaving"))
    }

    /// What a container or a process in it may do, as the steps of definitions may.
    pub(crate) fn granted(&self) -> &Granted {
        &self.granted
    }

    /// The surroundings of a container of the frontend.
    pub(crate) fn context(&self, container: &str) -> OpContext {
        self.job.context_of(Digest::of(container.as_bytes()))
    }

    /// Keeps a definition for later calls of a gateway client; its name.
    pub(crate) fn keep(&self, definition: pb::Definition) -> Result<String, Status> {
        self.granted.check(&definition, &self.worker.devices)?;
        self.remember(Kept::Definition(definition))
    }

    fn remember(&self, kept: Kept) -> Result<String, Status> {
        let mut refs = self.refs.lock().unwrap_or_else(PoisonError::into_inner);
        if refs.len() >= MAX_REFS {
            return Err(Status::resource_exhausted("too many results in one build"));
        }
        let id = format!("{:032x}", rand::random::<u128>());
        refs.insert(id.clone(), kept);
        Ok(id)
    }

    fn find(&self, id: &str) -> Result<Kept, Status> {
        if id.is_empty() {
            return Ok(Kept::Tree(None));
        }
        let refs = self.refs.lock().unwrap_or_else(PoisonError::into_inner);
        refs.get(id).cloned().ok_or_else(|| Status::not_found(format!("no such ref: {id}")))
    }

    /// A kept definition; the empty name is the empty tree.
    pub(crate) fn kept(&self, id: &str) -> Result<Option<pb::Definition>, Status> {
        match self.find(id)? {
            Kept::Definition(definition) => Ok(Some(definition)),
            Kept::Tree(None) => Ok(None),
            Kept::Tree(Some(_)) => Err(Status::failed_precondition(format!(
                "ref {id} is what a failed step left: it is no result"
            ))),
        }
    }

    /// The tree behind a name, built now if it is not yet.
    pub(crate) async fn tree(&self, id: &str) -> Result<Option<OpResult>, Status> {
        match self.find(id)? {
            Kept::Definition(definition) => self.solve(&definition).await,
            Kept::Tree(tree) => Ok(tree),
        }
    }

    /// Tells the build's watchers something.
    pub(crate) fn tell(&self, message: StatusResponse) {
        self.progress.tell(message);
    }

    /// Shows work that is no vertex of a definition as one.
    pub(crate) async fn stage<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let stage = Stage::begin(&self.progress, name);
        let result = work.await;
        stage.end(result.as_ref().err());
        result
    }

    /// The same for work that has something to say meanwhile.
    pub(super) fn begin(&self, name: &str) -> Stage {
        Stage::begin(&self.progress, name)
    }
}
