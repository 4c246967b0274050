//! Scheduler: builds what is asked for, once, and only what nothing answers.
//!
//! A `Job` is one client's build. Within it every vertex has one key and one result; across jobs, equal executions are
//! one flight. The algorithm is that of design cache-model.md: keys from the leaves up, contents from the memo, inputs
//! made only when needed, and the key computed again from the inputs as they are before anything runs under it.
//!
//! `walk` is the order in which vertices are visited, `keys` what they are keyed by, `execute` how a result is found or made, `flight` one
//! execution, `memo` the tables that a job keeps, `shown` what its client sees.
//!
//! # Concurrency
//! A job's work is the futures of its walks: dropping a walk leaves every flight that nobody else holds, and a flight that
//! nobody holds is cancelled. A flight saves its results before it answers.
//!
//! A vertex's state is in cells, each written once: cache map, whether it is forced, its keys, pin of each output, run. The cells of a
//! vertex wait for those of its inputs only, so nothing waits in a circle. A
//! cell whose writer is dropped is empty again, and the next in line writes it. An enum of states would need an owner that polls; the
//! simulations (`tests/sim.rs`, `tests/crowd.rs`) drop builds at any of their awaits to hold this form to its word.
//!
//! # Errors
//! `SolveError` names the vertex. A load that fails is not one: the result is forgotten and the step runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buildd_api::buildkit::pb;
use buildd_oci::digest::Digest;
use futures::future::FutureExt;
use tokio::sync::{Semaphore, mpsc};

use crate::{
    cache::CacheStore,
    graph::{Graph, GraphError, Vertex},
    op::{CacheMap, Freshness, Op, OpContext, OpError, OpResolver, SessionGroup},
    progress::{Event, QUEUE, VertexProgress},
    result::OpResult,
};

mod execute;
mod flight;
mod keys;
mod memo;
mod shown;
mod walk;

use flight::Flights;
use memo::State;

/// A build that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SolveError {
    /// The definition is wrong.
    #[error("load the definition")]
    Definition(#[source] Arc<GraphError>),
    /// A vertex failed.
    #[error("{name}")]
    Vertex {
        /// Which.
        vertex: Digest,
        /// Its name for people.
        name: String,
        /// What went wrong.
        #[source]
        error: OpError,
    },
    /// A vertex has no such output.
    #[error("{name} has no output {output}")]
    Output {
        /// Its name for people.
        name: String,
        /// What was asked for.
        output: u32,
    },
}

/// How to solve.
#[derive(Debug)]
pub struct SolverOptions {
    /// What was built before.
    pub store: Arc<dyn CacheStore>,
    /// The work behind vertices.
    pub resolver: Arc<dyn OpResolver>,
    /// How many steps may run at once.
    pub max_parallelism: usize,
}

/// Builds for any number of jobs.
#[derive(Debug)]
pub struct Solver {
    store: Arc<dyn CacheStore>,
    resolver: Arc<dyn OpResolver>,
    places: Semaphore,
    max_parallelism: usize,
    flights: Flights,
}

impl Solver {
    /// A solver without jobs.
    pub fn new(options: SolverOptions) -> Arc<Self> {
        let max_parallelism = options.max_parallelism.max(1);
        Arc::new(Self {
            store: options.store,
            resolver: options.resolver,
            places: Semaphore::new(max_parallelism),
            max_parallelism,
            flights: Flights::default(),
        })
    }

    /// Begins a build for a client. The receiver must be drained while the job builds.
    pub fn job(self: &Arc<Self>, session: &str) -> (Arc<Job>, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(QUEUE);
        let job = Job {
            solver: self.clone(),
            sessions: SessionGroup::new(session),
            share: Arc::new(Semaphore::new(self.max_parallelism)),
            events,
            state: Mutex::default(),
        };
        (Arc::new(job), receiver)
    }
}

/// One client's build: every vertex has one result for the whole of it.
#[derive(Debug)]
pub struct Job {
    solver: Arc<Solver>,
    sessions: Arc<SessionGroup>,
    share: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
    state: Mutex<State>,
}

impl Job {
    /// Builds a definition; None if it asks for nothing. May be called again and again: what the job built, it keeps.
    pub async fn build(&self, definition: &pb::Definition) -> Result<Option<OpResult>, SolveError> {
        let graph = Graph::load(definition).map_err(|error| SolveError::Definition(Arc::new(error)))?;
        let Some(graph) = graph else { return Ok(None) };
        self.state().take(graph.vertices).map_err(|error| SolveError::Definition(Arc::new(error)))?;
        Ok(Some(self.walk(graph.target).await?.result))
    }

    /// From now on each vertex that runs says in a warning why the cache had nothing for it.
    pub fn explain(&self) {
        self.state().explains = true;
    }

    /// From now on an error holds the trees of the step that failed.
    pub fn keep_failed(&self) {
        self.state().keeps_failed = true;
    }

    /// A progress channel for work of the job's owner that should show as a vertex.
    pub fn progress(&self, vertex: Digest) -> VertexProgress {
        VertexProgress::new(vertex, self.events.clone())
    }

    /// Tells the client something.
    pub async fn send(&self, event: Event) {
        let _ = self.events.send(event).await;
    }

    /// The client's sessions.
    pub fn sessions(&self) -> &Arc<SessionGroup> {
        &self.sessions
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vertex(&self, digest: &Digest) -> Arc<Vertex> {
        self.state().vertices.get(digest).cloned().expect("Graph::load checked every edge")
    }

    fn op(&self, vertex: &Vertex) -> Result<Arc<dyn Op>, SolveError> {
        if let Some(op) = self.state().ops.get(&vertex.digest) {
            return Ok(op.clone());
        }
        let op = self.solver.resolver.resolve(vertex).map_err(|error| self.failed(vertex, error))?;
        self.state().ops.insert(vertex.digest, op.clone());
        Ok(op)
    }

    fn failed(&self, vertex: &Vertex, error: OpError) -> SolveError {
        SolveError::Vertex { vertex: vertex.digest, name: vertex.name(), error }
    }

    fn context(&self, vertex: &Vertex, freshness: Freshness) -> OpContext {
        OpContext { freshness, ..self.context_of(vertex.digest) }
    }

    /// The surroundings of work of the job's owner that shows as vertex `digest`.
    pub fn context_of(&self, digest: Digest) -> OpContext {
        OpContext {
            sessions: self.sessions.clone(),
            progress: self.progress(digest),
            vertex: digest,
            freshness: Freshness::Any,
            keeps_failed: self.state().keeps_failed,
        }
    }

    async fn cache_map(&self, vertex: &Vertex) -> Result<Arc<CacheMap>, SolveError> {
        let cell = self.state().maps.entry(vertex.digest).or_default().clone();
        // Boxed: a vertex that waits for others, of which there may be very many, does not carry the room for this.
        cell.get_or_try_init(|| self.compute_cache_map(vertex).boxed()).await.cloned()
    }

    async fn compute_cache_map(&self, vertex: &Vertex) -> Result<Arc<CacheMap>, SolveError> {
        let op = self.op(vertex)?;
        let cx = self.context(vertex, Freshness::Any);
        if !vertex.inputs.is_empty() {
            return Ok(Arc::new(op.cache_map(&cx).await.map_err(|error| self.failed(vertex, error))?));
        }
        // A source does its work here: it is shown.
        let started = self.begin(vertex).await;
        let outcome = op.cache_map(&cx).await;
        self.end(vertex, started, outcome.as_ref().err()).await;
        outcome.map(Arc::new).map_err(|error| self.failed(vertex, error))
    }
}

#[cfg(test)]
mod tests;
