//! Memo: what a job knows of its vertices.
//!
//! Every table is filled once for a vertex or an edge, however many ways lead to it. Only the keys of vertices whose inputs are not pinned
//! are estimates: they follow from the newest results that the store had, so a pin that is another result drops the estimates
//! that follow from it, and they are computed again if anyone still asks.
//!
//! # Invariants
//! A vertex has an estimate only if each of its inputs has one or is pinned: dropping estimates ends where there is none.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use buildd_oci::digest::Digest;
use tokio::sync::OnceCell;

use crate::{
    cache_key,
    graph::{Edge, GraphError, MAX_VERTICES, Vertex},
    op::{CacheMap, Op},
    result::{OpResult, ResultId},
};

/// A result that a job holds on to, and the key it was loaded or saved under: another build may meanwhile save newer results below it, and
/// what is made from this one must not go under keys that follow from those.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    pub(super) key: Digest,
    pub(super) id: ResultId,
    pub(super) result: OpResult,
}

/// `exec(v)` and what it is made of.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) key: Digest,
    pub(super) op: Digest,
    /// `x_i` of each input.
    pub(super) inputs: Vec<Digest>,
    /// Of each content input: whose content `x_i` is.
    pub(super) read: Vec<Option<ResultId>>,
}

impl Exec {
    /// Whether it would be the same with input number `input` pinned so.
    fn agrees(&self, input: usize, pinned: &Pinned) -> bool {
        match self.read.get(input).copied().flatten() {
            Some(id) => id == pinned.id,
            None => self.inputs.get(input) == Some(&pinned.key),
        }
    }

    /// `key(v, o)`.
    pub(super) fn output(&self, output: u32) -> Digest {
        cache_key::output(&self.key, output)
    }
}

/// Written once; who finds it empty fills it, and the others wait.
pub(super) type Cell<T> = Arc<OnceCell<T>>;

/// A job's tables.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) vertices: HashMap<Digest, Arc<Vertex>>,
    /// Who reads an edge, and as which input.
    readers: BTreeMap<Edge, Vec<(Digest, usize)>>,
    pub(super) ops: HashMap<Digest, Arc<dyn Op>>,
    pub(super) maps: HashMap<Digest, Cell<Arc<CacheMap>>>,
    /// Whether results of before may not serve for a vertex.
    pub(super) forced: HashMap<Digest, Cell<bool>>,
    /// `exec(v)` from what is known.
    pub(super) estimates: HashMap<Digest, Cell<Arc<Exec>>>,
    /// `exec(v)` from pinned inputs; it stays.
    pub(super) settled: HashMap<Digest, Cell<Arc<Exec>>>,
    pins: HashMap<Edge, Cell<Pinned>>,
    pub(super) runs: HashMap<Digest, Cell<Arc<Vec<Pinned>>>>,
    pub(super) shown: HashSet<Digest>,
    pub(super) explains: bool,
    pub(super) keeps_failed: bool,
}

impl State {
    /// Takes the vertices of a definition. All that a job ever had are kept, and told to whoever listens late: they are bounded (RES-11).
    pub(super) fn take(&mut self, vertices: HashMap<Digest, Arc<Vertex>>) -> Result<(), GraphError> {
        let new = vertices.keys().filter(|digest| !self.vertices.contains_key(digest)).count();
        let count = self.vertices.len() + new;
        if count > MAX_VERTICES {
            return Err(GraphError::TooManyInAll { count, limit: MAX_VERTICES });
        }
        for (digest, vertex) in vertices {
            let Some(known) = self.vertices.get(&digest) else {
                for (number, input) in vertex.inputs.iter().enumerate() {
                    self.readers.entry(*input).or_default().push((digest, number));
                }
                self.vertices.insert(digest, vertex);
                continue;
            };
            // Metadata is not in the digest: a definition that forces a vertex forces it for the rest of the job.
            if vertex.metadata.ignore_cache {
                if !known.metadata.ignore_cache {
                    self.forced.clear();
                    self.estimates.clear();
                }
                self.vertices.insert(digest, vertex);
            }
        }
        Ok(())
    }

    /// The cell of an edge's result.
    pub(super) fn pin(&mut self, edge: Edge) -> Cell<Pinned> {
        self.pins.entry(edge).or_default().clone()
    }

    /// The result of an edge, if the job has it.
    pub(super) fn pinned(&self, edge: Edge) -> Option<Pinned> {
        self.pins.get(&edge).and_then(|cell| cell.get().cloned())
    }

    /// Drops the estimates that do not follow from an edge's result: those of its readers that took another one for it, and of theirs.
    pub(super) fn settle(&mut self, edge: Edge, pinned: &Pinned) {
        let Some(readers) = self.readers.get(&edge) else { return };
        // One that is being computed may have read anything.
        let differs = |(reader, input): &(Digest, usize)| {
            let estimate = self.estimates.get(reader)?;
            let agrees = estimate.get().is_some_and(|exec| exec.agrees(*input, pinned));
            (!agrees).then_some(*reader)
        };
        let mut stale: Vec<Digest> = readers.iter().filter_map(differs).collect();
        while let Some(vertex) = stale.pop() {
            if self.estimates.remove(&vertex).is_some() {
                let outputs = Edge { vertex, output: 0 }..=Edge { vertex, output: u32::MAX };
                let readers = self.readers.range(outputs).flat_map(|(_, readers)| readers);
                stale.extend(readers.map(|(reader, _)| *reader).filter(|r| self.estimates.contains_key(r)));
            }
        }
    }
}
