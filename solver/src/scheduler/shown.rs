//! Shown: what a job tells about its vertices: begun, ended, cached, and why not.
//!
//! A vertex is shown once as work or once as cached; events go to the job's own channel, in order.

use std::{sync::Arc, time::SystemTime};

use buildd_oci::digest::Digest;

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

    /// Shows a vertex, and what it stands on, as answered from the cache: inputs first.
    pub(super) async fn show_cached(&self, vertex: &Vertex) {
        let mut path = Vec::new();
        let mut next = self.first_shown(vertex.digest);
        loop {
            if let Some(vertex) = next.take() {
                path.push((vertex, 0));
            }
            let Some((vertex, input)) = path.last_mut() else { return };
            if let Some(edge) = vertex.inputs.get(*input) {
                *input += 1;
                next = self.first_shown(edge.vertex);
                continue;
            }
            let now = Some(SystemTime::now());
            let event = VertexEvent { cached: true, started: now, completed: now, ..self.event(vertex) };
            path.pop();
            self.send(Event::Vertex(event)).await;
        }
    }

    /// A vertex that nothing was shown of so far; from now on something is.
    fn first_shown(&self, digest: Digest) -> Option<Arc<Vertex>> {
        let mut state = self.state();
        state.shown.insert(digest).then(|| state.vertices[&digest].clone())
    }
}
