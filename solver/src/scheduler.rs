//! Scheduler: builds what is asked for, once, and only what nothing answers.
//!
//! A `Job` is one client's build. Within it every vertex has one key and one result; across jobs, equal executions are
//! one flight. The algorithm is that of design cache-model.md: keys from the leaves up, contents from the memo, inputs
//! made only when needed, and the key computed again from the inputs as they are before anything runs under it.
//!
//! # Concurrency
//! A job's work is one tree of futures: dropping it leaves every flight that nobody else holds, and a flight that
//! nobody holds is cancelled. A flight saves its results before it answers.
//!
//! A vertex's state is in cells, each written once: cache map, pin of each output, run. They are filled in this order and only
//! forwards, so no state is invalid; the cells of a vertex wait for those of its inputs only, so nothing waits in a circle. A
//! cell whose writer is dropped is empty again, and the next in line writes it. An enum of states would need an owner that polls; the
//! simulations (`tests/sim.rs`, `tests/crowd.rs`) drop builds at any of their awaits to hold this form to its word.
//!
//! # Errors
//! `SolveError` names the vertex. A load that fails is not one: the result is forgotten and the step runs.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use buildd_api::buildkit::pb;
use buildd_oci::digest::Digest;
use futures::future::{BoxFuture, FutureExt, try_join_all};
use tokio::sync::{OnceCell, Semaphore, mpsc};

use crate::{
    cache::CacheStore,
    cache_key,
    explain::Record,
    graph::{Edge, Graph, GraphError, MAX_VERTICES, Vertex},
    op::{CacheMap, Freshness, InputKey, Op, OpContext, OpError, OpResolver, SessionGroup},
    progress::{Event, QUEUE, VertexProgress},
    result::{OpResult, ResultId},
};

mod flight;
mod shown;

use flight::Flights;

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

/// A result that a job holds on to, and the key it was loaded or saved under: another build may meanwhile save newer results below it, and
/// what is made from this one must not go under keys that follow from those.
#[derive(Clone, Debug)]
struct Pinned {
    key: Digest,
    id: ResultId,
    result: OpResult,
}

/// `exec(v)` and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exec {
    key: Digest,
    op: Digest,
    inputs: Vec<Digest>,
}

type Cell<T> = Arc<OnceCell<T>>;

#[derive(Debug, Default)]
struct State {
    vertices: HashMap<Digest, Arc<Vertex>>,
    ops: HashMap<Digest, Arc<dyn Op>>,
    maps: HashMap<Digest, Cell<Arc<CacheMap>>>,
    pins: HashMap<Edge, Cell<Pinned>>,
    runs: HashMap<Digest, Cell<Arc<Vec<Pinned>>>>,
    shown: HashSet<Digest>,
    explains: bool,
    keeps_failed: bool,
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
        self.take(graph.vertices).map_err(|error| SolveError::Definition(Arc::new(error)))?;
        Ok(Some(self.materialise(graph.target).await?.result))
    }

    /// Takes the vertices of a definition. All that a job ever had are kept, and told to whoever listens late: they are bounded (RES-11).
    fn take(&self, vertices: HashMap<Digest, Arc<Vertex>>) -> Result<(), GraphError> {
        let mut state = self.state();
        let new = vertices.keys().filter(|digest| !state.vertices.contains_key(digest)).count();
        let count = state.vertices.len() + new;
        if count > MAX_VERTICES {
            return Err(GraphError::TooManyInAll { count, limit: MAX_VERTICES });
        }
        for (digest, vertex) in vertices {
            // Metadata is not in the digest: a definition that forces a vertex forces it for the rest of the job.
            if vertex.metadata.ignore_cache || !state.vertices.contains_key(&digest) {
                state.vertices.insert(digest, vertex);
            }
        }
        Ok(())
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

    /// `ignore_cache`, or an input by definition that is forced. Needs the cache maps, so it asks for them.
    fn forced<'a>(&'a self, vertex: &'a Vertex) -> BoxFuture<'a, Result<bool, SolveError>> {
        async move {
            if vertex.metadata.ignore_cache {
                return Ok(true);
            }
            let map = self.cache_map(vertex).await?;
            for (input, edge) in map.inputs.iter().zip(&vertex.inputs) {
                if *input == InputKey::Definition && self.forced(&self.vertex(&edge.vertex)).await? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        .boxed()
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
        let compute = || async {
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
        };
        cell.get_or_try_init(compute).await.cloned()
    }

    /// `exec(v)` from what is known; inputs are made only where their content is not.
    fn exec<'a>(&'a self, vertex: &'a Vertex) -> BoxFuture<'a, Result<Exec, SolveError>> {
        async move {
            let map = self.cache_map(vertex).await?;
            if vertex.inputs.is_empty() {
                let key = self.source_key(vertex, &map).await?;
                return Ok(Exec { key, op: key, inputs: Vec::new() });
            }
            let inputs =
                map.inputs.iter().zip(&vertex.inputs).enumerate().map(|(number, (input, edge))| async move {
                    match input {
                        InputKey::Definition => self.key(*edge).await,
                        InputKey::Content { selector } => {
                            let digest = self.content(vertex, number, *edge, selector).await?;
                            Ok::<_, SolveError>(cache_key::content(&digest))
                        }
                    }
                });
            let inputs = try_join_all(inputs).await?;
            Ok(Exec { key: cache_key::exec(&map.digest, &inputs), op: map.digest, inputs })
        }
        .boxed()
    }

    /// A source's key: the canonical one of the first alias that has one.
    async fn source_key(&self, vertex: &Vertex, map: &CacheMap) -> Result<Digest, SolveError> {
        let fail = |error| self.failed(vertex, error);
        let own = cache_key::source(&map.digest, 0);
        let mut names = vec![own];
        names.extend(map.aliases.iter().map(|alias| cache_key::source(alias, 0)));
        for name in &names {
            if let Some(canonical) = self.solver.store.canonical(name).await.map_err(fail)? {
                return Ok(canonical);
            }
        }
        for alias in &names[1..] {
            self.solver.store.set_alias(alias, &own).await.map_err(fail)?;
        }
        Ok(own)
    }

    async fn key(&self, edge: Edge) -> Result<Digest, SolveError> {
        if let Some(pinned) = self.pinned(edge) {
            return Ok(pinned.key);
        }
        let exec = self.exec(&self.vertex(&edge.vertex)).await?;
        Ok(cache_key::output(&exec.key, edge.output))
    }

    fn pinned(&self, edge: Edge) -> Option<Pinned> {
        self.state().pins.get(&edge).and_then(|cell| cell.get().cloned())
    }

    /// Digest of what `vertex` reads of an input: of the pinned result, else of any result that has a memo.
    async fn content(
        &self,
        vertex: &Vertex,
        number: usize,
        edge: Edge,
        selector: &str,
    ) -> Result<Digest, SolveError> {
        let fail = |error| self.failed(vertex, error);
        let store = &self.solver.store;
        let pinned = self.pinned(edge);
        let input = self.vertex(&edge.vertex);
        if pinned.is_none() && !self.forced(&input).await? {
            let newest = store.results(&self.key(edge).await?).await.map_err(fail)?;
            if let Some(newest) = newest.first()
                && let Some(digest) = store.content(*newest, selector).await.map_err(fail)?
            {
                return Ok(digest);
            }
        }
        let pinned = match pinned {
            Some(pinned) => pinned,
            None => self.materialise(edge).await?,
        };
        if let Some(digest) = store.content(pinned.id, selector).await.map_err(fail)? {
            return Ok(digest);
        }
        let cx = self.context(vertex, Freshness::Any);
        let digest = self.op(vertex)?.content_digest(&cx, number, &pinned.result).await;
        if let Err(error) = &digest {
            // The step never began: its failure is shown as its own all the same.
            let started = self.begin(vertex).await;
            self.end(vertex, started, Some(error)).await;
        }
        let digest = digest.map_err(fail)?;
        store.set_content(pinned.id, selector, &digest).await.map_err(fail)?;
        Ok(digest)
    }

    /// The result of an output, from the cache or made now; the job keeps it.
    fn materialise(&self, edge: Edge) -> BoxFuture<'_, Result<Pinned, SolveError>> {
        async move {
            let cell = self.state().pins.entry(edge).or_default().clone();
            cell.get_or_try_init(|| self.obtain(edge)).await.cloned()
        }
        .boxed()
    }

    async fn obtain(&self, edge: Edge) -> Result<Pinned, SolveError> {
        let vertex = self.vertex(&edge.vertex);
        let forced = self.forced(&vertex).await?;
        let exec = self.exec(&vertex).await?;
        if !forced && let Some(hit) = self.load(&vertex, edge, &exec).await? {
            return Ok(hit);
        }
        try_join_all(vertex.inputs.iter().map(|input| self.materialise(*input))).await?;
        // All inputs are pinned: this key stays. Another build may have come first while they were made.
        let exec = self.exec(&vertex).await?;
        if !(forced || vertex.inputs.is_empty())
            && let Some(hit) = self.load(&vertex, edge, &exec).await?
        {
            return Ok(hit);
        }
        self.run(&vertex, edge, exec, forced).await
    }

    /// The newest result of a key that can be loaded.
    async fn load(&self, vertex: &Vertex, edge: Edge, exec: &Exec) -> Result<Option<Pinned>, SolveError> {
        let key = cache_key::output(&exec.key, edge.output);
        let fail = |error| self.failed(vertex, error);
        let store = &self.solver.store;
        for id in store.results(&key).await.map_err(fail)? {
            match store.load(id).await {
                Ok(Some(result)) => {
                    self.show_cached(vertex).await;
                    return Ok(Some(Pinned { key, id, result }));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%key, %error, "load a cached result");
                    store.forget(id).await.map_err(fail)?;
                }
            }
        }
        Ok(None)
    }

    async fn run(&self, vertex: &Vertex, edge: Edge, exec: Exec, forced: bool) -> Result<Pinned, SolveError> {
        let cell = self.state().runs.entry(vertex.digest).or_default().clone();
        let freshness = if forced { Freshness::Forced } else { Freshness::Any };
        let fly = || async {
            let inputs = try_join_all(vertex.inputs.iter().map(|input| self.materialise(*input))).await?;
            let inputs: Vec<OpResult> = inputs.into_iter().map(|pinned| pinned.result).collect();
            let parts = self.op(vertex)?.parts(&inputs).await;
            let record = Record { name: vertex.name(), op: exec.op, inputs: exec.inputs.clone(), parts };
            let reason = self.reason(vertex, &record, freshness).await?;
            let started = self.begin(vertex).await;
            if let Some(reason) = reason {
                let short = format!("{}: not cached: {reason}", record.name);
                self.progress(vertex.digest).warn(&short, Vec::new()).await;
            }
            let order = flight::Order {
                op: self.op(vertex)?,
                cx: self.context(vertex, freshness),
                inputs,
                exec: exec.key,
                record,
                share: self.share.clone(),
            };
            let outcome = self.solver.fly(order, &self.events).await;
            self.end(vertex, started, outcome.as_ref().err()).await;
            let made = outcome.map_err(|error| self.failed(vertex, error))?;
            let pin = |(output, (id, result)): (u32, &(ResultId, OpResult))| {
                let key = cache_key::output(&exec.key, output);
                Pinned { key, id: *id, result: result.clone() }
            };
            Ok(Arc::new((0..).zip(made.iter()).map(pin).collect::<Vec<_>>()))
        };
        let outputs = cell.get_or_try_init(fly).await?;
        let index = usize::try_from(edge.output).unwrap_or(usize::MAX);
        outputs
            .get(index)
            .cloned()
            .ok_or_else(|| SolveError::Output { name: vertex.name(), output: edge.output })
    }
}

#[cfg(test)]
mod tests;
