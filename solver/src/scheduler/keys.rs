//! Keys: what a vertex is keyed by, from what is known of its inputs.
//!
//! An estimate is for the first look into the cache, and needs no input made whose content is known. The settled key follows
//! from the pinned inputs; only that one has results saved under it.
//!
//! # Sources
//! design cache-model.md, "Algorithm" 2, 3 and 5.

use std::sync::Arc;

use buildd_oci::digest::Digest;
use futures::future::{FutureExt, try_join_all};

use super::{
    SolveError,
    memo::Exec,
    walk::{Call, Walk},
};
use crate::{
    cache_key,
    graph::{Edge, Vertex},
    op::{CacheMap, Freshness, InputKey},
    result::{OpResult, ResultId},
};

impl Walk<'_> {
    /// `ignore_cache`, or an input by definition that is forced. Needs the cache maps, so it asks for them.
    pub(super) async fn forced(&self, vertex: &Vertex) -> bool {
        let cell = self.job.state().forced.entry(vertex.digest).or_default().clone();
        *cell.get_or_init(|| self.ask(|to| Call::Forced(vertex.digest, to))).await
    }

    /// Answers `forced`.
    pub(super) async fn is_forced(&self, vertex: &Digest) -> Result<bool, SolveError> {
        let vertex = self.job.vertex(vertex);
        if vertex.metadata.ignore_cache {
            return Ok(true);
        }
        let map = self.job.cache_map(&vertex).await?;
        for (input, edge) in map.inputs.iter().zip(&vertex.inputs) {
            if *input == InputKey::Definition && self.forced(&self.job.vertex(&edge.vertex)).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `exec(v)` from what is known when it is first asked for, as long as no pin says otherwise.
    pub(super) async fn estimate(&self, vertex: &Vertex) -> Arc<Exec> {
        let cell = self.job.state().estimates.entry(vertex.digest).or_default().clone();
        let ask = || async { Arc::new(self.ask(|to| Call::Estimate(vertex.digest, to)).await) };
        cell.get_or_init(ask).await.clone()
    }

    /// `exec(v)` from its inputs' results, which are made if need be: this key stays.
    pub(super) async fn settled(&self, vertex: &Vertex) -> Result<Arc<Exec>, SolveError> {
        let cell = self.job.state().settled.entry(vertex.digest).or_default().clone();
        let settle = || async {
            self.materialise_all(&vertex.inputs).await;
            Ok(Arc::new(self.exec(vertex).await?))
        };
        cell.get_or_try_init(settle).await.cloned()
    }

    /// `exec(v)` from what is known; inputs are made only where their content is not.
    pub(super) async fn exec(&self, vertex: &Vertex) -> Result<Exec, SolveError> {
        let map = self.job.cache_map(vertex).await?;
        if vertex.inputs.is_empty() {
            let key = self.source_key(vertex, &map).boxed().await?;
            return Ok(Exec { key, op: key, inputs: Vec::new(), read: Vec::new() });
        }
        let inputs =
            map.inputs.iter().zip(&vertex.inputs).enumerate().map(|(number, (input, edge))| async move {
                match input {
                    InputKey::Definition => Ok((self.key(*edge).await, None)),
                    InputKey::Content { selector } => {
                        let (digest, id) = self.content(vertex, number, *edge, selector).await?;
                        Ok::<_, SolveError>((cache_key::content(&digest), Some(id)))
                    }
                }
            });
        let (inputs, read): (Vec<_>, Vec<_>) = try_join_all(inputs).await?.into_iter().unzip();
        Ok(Exec { key: cache_key::exec(&map.digest, &inputs), op: map.digest, inputs, read })
    }

    /// A source's key: the canonical one of the first alias that has one.
    async fn source_key(&self, vertex: &Vertex, map: &CacheMap) -> Result<Digest, SolveError> {
        let fail = |error| self.job.failed(vertex, error);
        let store = &self.job.solver.store;
        let own = cache_key::source(&map.digest, 0);
        let mut names = vec![own];
        names.extend(map.aliases.iter().map(|alias| cache_key::source(alias, 0)));
        for name in &names {
            if let Some(canonical) = store.canonical(name).await.map_err(fail)? {
                return Ok(canonical);
            }
        }
        for alias in &names[1..] {
            store.set_alias(alias, &own).await.map_err(fail)?;
        }
        Ok(own)
    }

    async fn key(&self, edge: Edge) -> Digest {
        if let Some(pinned) = self.job.state().pinned(edge) {
            return pinned.key;
        }
        self.estimate(&self.job.vertex(&edge.vertex)).await.output(edge.output)
    }

    /// Digest of what `vertex` reads of an input: of the pinned result, else of any result that has a memo; and of which result.
    async fn content(
        &self,
        vertex: &Vertex,
        number: usize,
        edge: Edge,
        selector: &str,
    ) -> Result<(Digest, ResultId), SolveError> {
        let fail = |error| self.job.failed(vertex, error);
        let store = &self.job.solver.store;
        let pinned = self.job.state().pinned(edge);
        let input = self.job.vertex(&edge.vertex);
        if pinned.is_none() && !self.forced(&input).await {
            let newest = store.results(&self.key(edge).await).await.map_err(fail)?;
            if let Some(newest) = newest.first()
                && let Some(digest) = store.content(*newest, selector).await.map_err(fail)?
            {
                return Ok((digest, *newest));
            }
        }
        let pinned = match pinned {
            Some(pinned) => pinned,
            None => self.materialise(edge).await,
        };
        if let Some(digest) = store.content(pinned.id, selector).await.map_err(fail)? {
            return Ok((digest, pinned.id));
        }
        let digest = self.content_digest(vertex, number, &pinned.result).boxed().await?;
        store.set_content(pinned.id, selector, &digest).await.map_err(fail)?;
        Ok((digest, pinned.id))
    }

    async fn content_digest(
        &self,
        vertex: &Vertex,
        number: usize,
        result: &OpResult,
    ) -> Result<Digest, SolveError> {
        let job = self.job;
        let cx = job.context(vertex, Freshness::Any);
        let digest = job.op(vertex)?.content_digest(&cx, number, result).await;
        if let Err(error) = &digest {
            // The step never began: its failure is shown as its own all the same.
            let started = job.begin(vertex).await;
            job.end(vertex, started, Some(error)).await;
        }
        digest.map_err(|error| job.failed(vertex, error))
    }
}
