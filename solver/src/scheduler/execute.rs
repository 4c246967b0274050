//! Execute: finds the result of an output in the cache, or makes it.
//!
//! # Sources
//! design cache-model.md, "Algorithm" 4 to 6.

use std::sync::Arc;

use futures::future::{FutureExt, join_all};

use super::{
    SolveError, flight,
    memo::{Exec, Pinned},
    walk::{Call, Walk},
};
use crate::{
    explain::Record,
    graph::{Edge, Vertex},
    op::Freshness,
    result::{OpResult, ResultId},
};

impl Walk<'_> {
    /// The result of an output, from the cache or made now; the job keeps it.
    pub(super) async fn materialise(&self, edge: Edge) -> Pinned {
        let cell = self.job.state().pin(edge);
        let obtain = || async {
            let pinned = self.ask(|to| Call::Obtain(edge, to)).await;
            self.job.state().settle(edge, &pinned);
            pinned
        };
        cell.get_or_init(obtain).await.clone()
    }

    /// The results of several outputs, made at the same time.
    pub(super) async fn materialise_all(&self, edges: &[Edge]) -> Vec<Pinned> {
        join_all(edges.iter().map(|edge| self.materialise(*edge))).await
    }

    /// Answers `materialise`.
    pub(super) async fn obtain(&self, edge: Edge) -> Result<Pinned, SolveError> {
        let vertex = self.job.vertex(&edge.vertex);
        let forced = self.forced(&vertex).await;
        let exec = self.estimate(&vertex).await;
        if !forced && let Some(hit) = self.load(&vertex, edge, &exec).await? {
            return Ok(hit);
        }
        let exec = self.settled(&vertex).await?;
        // Another build may have come first while the inputs were made.
        if !(forced || vertex.inputs.is_empty())
            && let Some(hit) = self.load(&vertex, edge, &exec).await?
        {
            return Ok(hit);
        }
        self.run(&vertex, edge, &exec, forced).await
    }

    /// The newest result of a key that can be loaded.
    async fn load(&self, vertex: &Vertex, edge: Edge, exec: &Exec) -> Result<Option<Pinned>, SolveError> {
        let key = exec.output(edge.output);
        let fail = |error| self.job.failed(vertex, error);
        let store = &self.job.solver.store;
        for id in store.results(&key).await.map_err(fail)? {
            match store.load(id).await {
                Ok(Some(result)) => {
                    self.job.show_cached(vertex).boxed().await;
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

    async fn run(
        &self,
        vertex: &Vertex,
        edge: Edge,
        exec: &Exec,
        forced: bool,
    ) -> Result<Pinned, SolveError> {
        let cell = self.job.state().runs.entry(vertex.digest).or_default().clone();
        let freshness = if forced { Freshness::Forced } else { Freshness::Any };
        let outputs = cell.get_or_try_init(|| self.execute(vertex, exec, freshness).boxed()).await?;
        let index = usize::try_from(edge.output).unwrap_or(usize::MAX);
        outputs
            .get(index)
            .cloned()
            .ok_or_else(|| SolveError::Output { name: vertex.name(), output: edge.output })
    }

    /// Runs a vertex whose inputs are pinned, or waits for an equal run; all its outputs.
    async fn execute(
        &self,
        vertex: &Vertex,
        exec: &Exec,
        freshness: Freshness,
    ) -> Result<Arc<Vec<Pinned>>, SolveError> {
        let job = self.job;
        let inputs = self.materialise_all(&vertex.inputs).await;
        let inputs: Vec<OpResult> = inputs.into_iter().map(|pinned| pinned.result).collect();
        let parts = job.op(vertex)?.parts(&inputs).await;
        let record = Record { name: vertex.name(), op: exec.op, inputs: exec.inputs.clone(), parts };
        let reason = job.reason(vertex, &record, freshness).await?;
        let started = job.begin(vertex).await;
        if let Some(reason) = reason {
            let short = format!("{}: not cached: {reason}", record.name);
            job.progress(vertex.digest).warn(&short, Vec::new()).await;
        }
        let order = flight::Order {
            op: job.op(vertex)?,
            cx: job.context(vertex, freshness),
            inputs,
            exec: exec.key,
            record,
            share: job.share.clone(),
        };
        let outcome = job.solver.fly(order, &job.events).await;
        job.end(vertex, started, outcome.as_ref().err()).await;
        let made = outcome.map_err(|error| job.failed(vertex, error))?;
        let pin = |(output, (id, result)): (u32, &(ResultId, OpResult))| Pinned {
            key: exec.output(output),
            id: *id,
            result: result.clone(),
        };
        Ok(Arc::new((0..).zip(made.iter()).map(pin).collect()))
    }
}
