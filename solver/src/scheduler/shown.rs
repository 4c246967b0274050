//! Shown: what a job tells about its vertices: begun, ended, cached, and why not.
//!
//! A vertex is shown once as work or once as cached; events go to the job's own channel, in order.

use std::time::SystemTime;

use futures::future::{BoxFuture, FutureExt};

use super::{Job, SolveError};
use crate::{
    explain::{self, Earlier, Record},
    graph::Vertex,
    op::{Freshness, OpError},
    progress::{Event, VertexEvent},
};

impl Job {
    /// Why a vertex has to run, if the job wants to know.
    pub(super) async fn reason(
        &self,
        vertex: &Vertex,
        record: &Record,
        freshness: Freshness,
    ) -> Result<Option<String>, SolveError> {
        if !self.state().explains {
            return Ok(None);
        }
        if freshness == Freshness::Forced {
            return Ok(Some(explain::forced(vertex).to_owned()));
        }
        let fail = |error| self.failed(vertex, error);
        let mut found = Vec::new();
        for of in record.found_by() {
            found.push(self.solver.store.record(&of).await.map_err(fail)?);
        }
        let mut found = found.into_iter();
        let mut next = || found.next().flatten();
        let earlier = Earlier { same: next(), alike: next(), beside: next() };
        let map = self.cache_map(vertex).await?;
        let names = vertex.inputs.iter().map(|edge| self.vertex(&edge.vertex).name());
        let inputs: Vec<_> = names.zip(map.inputs.iter().cloned()).collect();
        Ok(Some(explain::missed(record, &earlier, &inputs)))
    }

    fn event(&self, vertex: &Vertex) -> VertexEvent {
        VertexEvent {
            digest: Some(vertex.digest),
            inputs: vertex.inputs.iter().map(|edge| edge.vertex).collect(),
            name: vertex.name(),
            ..VertexEvent::default()
        }
    }

    pub(super) async fn begin(&self, vertex: &Vertex) -> SystemTime {
        let started = SystemTime::now();
        self.state().shown.insert(vertex.digest);
        self.send(Event::Vertex(VertexEvent { started: Some(started), ..self.event(vertex) })).await;
        started
    }

    pub(super) async fn end(&self, vertex: &Vertex, started: SystemTime, error: Option<&OpError>) {
        let event = VertexEvent {
            started: Some(started),
            completed: Some(SystemTime::now()),
            error: error.map(ToString::to_string).unwrap_or_default(),
            ..self.event(vertex)
        };
        self.send(Event::Vertex(event)).await;
    }

    /// Shows a vertex, and what it stands on, as answered from the cache.
    pub(super) fn show_cached<'a>(&'a self, vertex: &'a Vertex) -> BoxFuture<'a, ()> {
        async move {
            if !self.state().shown.insert(vertex.digest) {
                return;
            }
            for input in &vertex.inputs {
                self.show_cached(&self.vertex(&input.vertex)).await;
            }
            let now = Some(SystemTime::now());
            let event = VertexEvent { cached: true, started: now, completed: now, ..self.event(vertex) };
            self.send(Event::Vertex(event)).await;
        }
        .boxed()
    }
}
