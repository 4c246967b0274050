//! Builds: `Control.Solve` from its request to its answer, and the way for other calls to find a running build.
//!
//! ```text
//! request -> entitlements -> frontend (ours, the client, or a plain definition) -> definitions -> solver -> results -> exporters
//! ```
//!
//! # Concurrency
//! A build is one future, that of the `Solve` call: a client that leaves drops it, and with it the job and its steps. `Status` may come
//! before and after; what a build told is kept for the last [`KEPT`] builds.

mod bridge;
mod build;
mod entitlement;
pub(crate) mod event;
mod export;
mod failure;
pub(crate) mod files;
mod frontend_container;
pub(crate) mod gateway_frontend;
pub(crate) mod image;
mod missing;
mod progress;
pub(crate) mod sandbox;
mod stage;
mod step_log;
pub(crate) mod usage;
pub(crate) mod worker_record;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buildd_api::buildkit::{
    moby::buildkit::v1::{SolveRequest, StatusResponse},
    pb,
};
use buildd_frontend::{FrontendResult, REQUEST_OPTION};
use buildd_solver::{result::OpResult, scheduler::Solver};
use futures::future::BoxFuture;
use gateway_frontend::{GatewayFrontend, Returned};
use prost::Message as _;
use step_log::StepLogs;
use tokio::{
    io::DuplexStream,
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};
use tonic::Status;

use crate::{collect::Collector, session::Sessions, worker::Worker};

pub(crate) use build::Build;
pub(crate) use progress::Progress;

/// How long a call waits for the build it names: BuildKit's figure.
const WAIT: Duration = Duration::from_secs(6);
/// Ended builds whose progress can still be asked for.
const KEPT: usize = 64;
/// Bytes of logs of all of them; those of the latest are kept whatever it wrote.
const KEPT_BYTES: usize = 64 << 20;
/// The option by which a client asks why steps were not cached.
const EXPLAIN: &str = "explain-cache";
/// Bytes of a build's id.
const MAX_ID: usize = 256;

/// What all builds share.
#[derive(Debug)]
pub(crate) struct Builds {
    /// Clients to call back.
    pub(crate) sessions: Arc<Sessions>,
    /// Who works.
    pub(crate) worker: Arc<Worker>,
    /// The same on both APIs.
    pub(crate) uuid: String,
    /// The worker's labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Who removes what nothing needs.
    pub(crate) collector: Collector,
    solver: Arc<Solver>,
    entitlements: Vec<String>,
    table: Mutex<Table>,
    arrivals: watch::Sender<u64>,
    serve_frontend: ServeFrontend,
}

/// What builds need of the rest of the daemon.
#[derive(Debug)]
pub(crate) struct BuildsOptions {
    /// See [`Builds::sessions`].
    pub(crate) sessions: Arc<Sessions>,
    /// See [`Builds::worker`].
    pub(crate) worker: Arc<Worker>,
    /// The graph's engine.
    pub(crate) solver: Arc<Solver>,
    /// What may be granted.
    pub(crate) entitlements: Vec<String>,
    /// See [`Builds::uuid`].
    pub(crate) uuid: String,
    /// See [`Builds::labels`].
    pub(crate) labels: BTreeMap<String, String>,
    /// See [`Builds::collector`].
    pub(crate) collector: Collector,
    /// See [`ServeFrontend`].
    pub(crate) serve_frontend: ServeFrontend,
}

/// Serves `LLBBridge` to the program of a frontend on a connection of its own, until it has returned. The services above `solve` give it.
pub(crate) type ServeFrontend =
    fn(DuplexStream, &Arc<Build>, &Arc<GatewayFrontend>) -> Result<BoxFuture<'static, ()>, Status>;

#[derive(Debug, Default)]
struct Table {
    running: HashMap<String, Arc<Build>>,
    told: HashMap<String, Arc<Progress>>,
    ended: VecDeque<String>,
}

impl Table {
    /// Forgets the oldest of what ended builds told, if it is too much.
    fn forget(&mut self) {
        let bytes = |id: &String| self.told.get(id).map_or(0, |progress| progress.log_bytes());
        let mut kept: usize = self.ended.iter().map(bytes).sum();
        while (self.ended.len() > KEPT || kept > KEPT_BYTES && self.ended.len() > 1)
            && let Some(oldest) = self.ended.pop_front()
        {
            let forgotten = self.told.remove(&oldest).map_or(0, |progress| progress.log_bytes());
            kept = kept.saturating_sub(forgotten);
        }
    }
}

/// A build in the table, until dropped.
#[derive(Debug)]
struct Running {
    builds: Arc<Builds>,
    build: Arc<Build>,
    progress: Arc<Progress>,
}

impl Builds {
    /// No builds yet.
    pub(crate) fn new(options: BuildsOptions) -> Arc<Self> {
        Arc::new(Self {
            sessions: options.sessions,
            worker: options.worker,
            uuid: options.uuid,
            labels: options.labels,
            collector: options.collector,
            solver: options.solver,
            entitlements: options.entitlements,
            serve_frontend: options.serve_frontend,
            table: Mutex::default(),
            arrivals: watch::Sender::new(0),
        })
    }

    /// Builds what a client asks for; the answer's values.
    pub(crate) async fn solve(
        self: &Arc<Self>,
        request: SolveRequest,
    ) -> Result<HashMap<String, String>, Status> {
        check(&request)?;
        let granted = entitlement::grant(&request.entitlements, &self.entitlements)?;
        let (running, returned) = self.begin(&request, granted)?;
        let build = &running.build;
        let gone = self.sessions.live(&request.session).map(|session| session.gone.clone());
        let work = async {
            let result = frontend(build, &request, returned).await?;
            if request.frontend_attrs.contains_key(REQUEST_OPTION) {
                return Ok(answer_of(&result));
            }
            let lazy = !request.frontend.is_empty() && export::wanted(&request).is_empty();
            let built = realise(build, &result, lazy).await?;
            export::export(build, &request, &result, built).await
        };
        tokio::select! {
            answer = work => answer,
            () = cancelled(gone) => Err(Status::cancelled("the client's session has ended")),
        }
    }

    fn begin(
        self: &Arc<Self>,
        request: &SolveRequest,
        granted: entitlement::Granted,
    ) -> Result<(Running, oneshot::Receiver<Returned>), Status> {
        let (job, mut events) = self.solver.job(&request.session);
        if request.frontend_attrs.get(EXPLAIN).is_some_and(|value| value != "false") {
            job.explain();
        }
        if request.frontend.is_empty() {
            // The client is the frontend: it may open a container where a step failed.
            job.keep_failed();
        }
        let progress = Arc::new(Progress::default());
        let (build, returned) = Build::new(request, self, job, granted, Arc::clone(&progress));
        let build = Arc::new(build);
        {
            let mut table = self.table();
            if table.told.contains_key(&request.r#ref) {
                return Err(Status::already_exists(format!("job ID {} exists", request.r#ref)));
            }
            table.running.insert(request.r#ref.clone(), Arc::clone(&build));
            table.told.insert(request.r#ref.clone(), Arc::clone(&progress));
        }
        self.arrivals.send_modify(|count| *count += 1);
        let listener = Arc::clone(&progress);
        let mut logs = StepLogs::new(self.worker.store.root(), &request.r#ref);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let messages;
                (logs, messages) = pass(logs, event::message(event)).await;
                messages.into_iter().for_each(|message| listener.tell(message));
            }
            listener.end();
        });
        Ok((Running { builds: Arc::clone(self), build, progress }, returned))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A running build, as soon as it is there.
    pub(crate) async fn running(&self, id: &str) -> Result<Arc<Build>, Status> {
        self.wait(id, |table| table.running.get(id).cloned()).await
    }

    /// What a build told, running or ended, as soon as it is there.
    pub(crate) async fn progress(&self, id: &str) -> Result<Arc<Progress>, Status> {
        self.wait(id, |table| table.told.get(id).cloned()).await
    }

    async fn wait<T>(&self, id: &str, find: impl Fn(&Table) -> Option<T>) -> Result<T, Status> {
        let missing = || Status::not_found(format!("no such job {id}"));
        let deadline = Instant::now() + WAIT;
        let mut arrivals = self.arrivals.subscribe();
        loop {
            arrivals.mark_unchanged();
            if let Some(found) = find(&self.table()) {
                return Ok(found);
            }
            let arrival = timeout_at(deadline, arrivals.changed()).await;
            arrival.map_err(|_| missing())?.map_err(|_| missing())?;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.builds.collector.built();
        self.build.client.sandboxes.close();
        let mut table = self.builds.table();
        table.running.remove(&self.build.id);
        table.ended.push_back(self.build.id.clone());
        table.forget();
        drop(table);
        // A gateway call may still hold the build: its watchers must not wait for it.
        if Arc::strong_count(&self.build) > 1 {
            self.progress.end();
        }
    }
}

/// What watchers see of a message; where that means writing, not on a thread that others wait for.
async fn pass(mut logs: StepLogs, message: StatusResponse) -> (StepLogs, Vec<StatusResponse>) {
    let blocks = logs.blocks(&message);
    let work = move || {
        let messages = logs.pass(message);
        (logs, messages)
    };
    if blocks { buildd_fs::blocking::run(work).await } else { work() }
}

async fn cancelled(token: Option<tokio_util::sync::CancellationToken>) {
    match token {
        Some(token) => token.cancelled_owned().await,
        None => std::future::pending().await,
    }
}

/// Refuses what is not there yet, by name.
fn check(request: &SolveRequest) -> Result<(), Status> {
    if request.r#ref.is_empty() || request.r#ref.len() > MAX_ID {
        return Err(Status::invalid_argument("a build needs a ref of at most 256 bytes"));
    }
    let cache = request.cache.clone().unwrap_or_default();
    if let Some(entry) = cache.exports.iter().chain(&cache.imports).next() {
        return Err(Status::unimplemented(format!("cache of type {:?} is not supported yet", entry.r#type)));
    }
    if request.source_policy.is_some() || !request.source_policy_session.is_empty() {
        return Err(Status::unimplemented("source policies are not supported yet"));
    }
    Ok(())
}

/// What is to be built, as the frontend says: ours, a plain definition, or the client.
async fn frontend(
    build: &Arc<Build>,
    request: &SolveRequest,
    returned: oneshot::Receiver<Returned>,
) -> Result<FrontendResult, Status> {
    if !request.frontend.is_empty() {
        let opts = request.frontend_attrs.clone().into_iter().collect();
        return build.frontend(&request.frontend, opts, build.client.inputs.clone(), 0).await;
    }
    if let Some(definition) = &request.definition {
        return Ok(FrontendResult {
            refs: vec![(String::new(), Some(definition.clone()))],
            metadata: BTreeMap::new(),
        });
    }
    returned.await.map_err(|_| Status::cancelled("the client left without a result"))?
}

/// What a frontend answered to a question.
fn answer_of(result: &FrontendResult) -> HashMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    result.metadata.iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

/// A built platform: its id, and its tree unless it is empty.
pub(crate) type Built = (String, Option<OpResult>);

/// Builds all platforms, at once; a lazy one leaves the layers of a base where they are if that is all it is.
async fn realise(build: &Arc<Build>, result: &FrontendResult, lazy: bool) -> Result<Vec<Built>, Status> {
    let platforms = result.refs.iter().map(|(platform, definition)| async move {
        let tree = match definition {
            // The frontend has looked the image up, and nobody asks for a file of it.
            Some(definition) if lazy && is_bare_image(definition) => None,
            Some(definition) => realise_one(build, definition).await?,
            None => None,
        };
        Ok::<_, Status>((platform.clone(), tree))
    });
    futures::future::try_join_all(platforms).await
}

/// Whether a definition is an image as it is.
fn is_bare_image(definition: &pb::Definition) -> bool {
    // The op, and the mark of the end.
    let [source, _] = definition.def.as_slice() else { return false };
    match pb::Op::decode(source.as_slice()).map(|op| op.op) {
        Ok(Some(pb::op::Op::Source(source))) => source.identifier.starts_with("docker-image://"),
        _ => false,
    }
}

async fn realise_one(build: &Build, definition: &pb::Definition) -> Result<Option<OpResult>, Status> {
    if definition.def.is_empty() {
        return Ok(None);
    }
    build.solve(definition).await
}
