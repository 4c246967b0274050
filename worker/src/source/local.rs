//! Local source: `local://`, files of the client through its session.
//!
//! The files are synced when the key is asked for: their content is the pin. Ownership was taken off by the client. The tree of a client's
//! last build is kept in mind, so that only what changed is sent.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use buildd_oci::{ErrorKind, digest::Digest};
use buildd_solver::{
    op::{CacheMap, Op, OpContext, OpError},
    result::OpResult,
};
use buildd_store::snapshot::{Scratch, SnapshotPin};
use tokio::sync::OnceCell;

use super::SourceRequest;
use crate::{
    contexts::Context,
    error::{Error, op_error},
    session::{Session, SyncRequest, SyncedTree, TreeSink},
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

/// How often the number of bytes is shown.
const SHOW_INTERVAL: Duration = Duration::from_millis(150);

/// A client's folder as a source.
#[derive(Debug)]
pub(super) struct LocalSource {
    worker: Arc<Worker>,
    request: SyncRequest,
    session: Option<String>,
    /// `local.differ=none`: all is sent, whatever an earlier build left.
    afresh: bool,
    synced: OnceCell<(SnapshotPin, Context)>,
}

/// A client's folder, for the list of sources.
pub(super) fn make(request: &SourceRequest<'_>) -> std::result::Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(LocalSource::new(Arc::clone(request.worker), request.name, &request.attrs)?))
}

impl LocalSource {
    pub(super) fn new(
        worker: Arc<Worker>,
        name: &str,
        attrs: &HashMap<String, String>,
    ) -> Result<Self, OpError> {
        let list = |key: &str| match attrs.get(key) {
            None => Ok(Vec::new()),
            Some(text) => serde_json::from_str(text).map_err(|error| {
                let reason = format!("it is not a JSON list: {error}");
                op_error(Error::Invalid { what: "attribute", name: key.to_owned(), reason })
            }),
        };
        let request = SyncRequest {
            name: name.to_owned(),
            include: list("local.includepattern")?,
            exclude: list("local.excludepatterns")?,
            follow: list("local.followpaths")?,
        };
        let afresh = match attrs.get("local.differ").map_or("metadata", String::as_str) {
            "none" => true,
            "metadata" | "" => false,
            other => {
                let reason = format!("{other:?} is neither none nor metadata");
                return Err(op_error(Error::Invalid {
                    what: "attribute",
                    name: "local.differ".into(),
                    reason,
                }));
            }
        };
        let session = attrs.get("local.session").cloned();
        Ok(Self { worker, request, session, afresh, synced: OnceCell::new() })
    }

    async fn sync(&self, cx: &OpContext) -> Result<(SnapshotPin, Context), OpError> {
        let fail = |error: crate::session::SessionError| OpError::new(error.kind, error);
        let mut ids = cx.sessions.ids();
        ids.splice(0..0, self.session.clone());
        let session = self.worker.sessions.any(&ids).await.map_err(fail)?;
        let key = (session.shared_key().to_owned(), self.request.clone());
        // A client that names no key may be any: its descriptions prove nothing.
        let known = if key.0.is_empty() { None } else { self.worker.contexts.find(&key) };
        if known.is_some() {
            match self.receive(cx, &*session, known).await {
                Ok((held, synced)) => return Ok((held, self.worker.contexts.keep(key, synced))),
                // The earlier tree may be gone; what the client can send is there still.
                Err(error) if error.kind == ErrorKind::NotFound => {
                    tracing::debug!(%error, "sync without the earlier tree");
                }
                Err(error) => return Err(error),
            }
        }
        let (held, synced) = self.receive(cx, &*session, None).await?;
        Ok((held, self.worker.contexts.keep(key, synced)))
    }

    /// Receives the tree; if it is the one that is known, that is given.
    async fn receive(
        &self,
        cx: &OpContext,
        session: &dyn Session,
        known: Option<Context>,
    ) -> Result<(SnapshotPin, Context), OpError> {
        let base = known.as_ref().filter(|_| !self.afresh).map(|known| known.tree.clone());
        let (scratch, sink) = self.place(base).map_err(op_error)?;
        let sink = self.transfer(cx, session, sink).await?;
        let worker = self.worker.clone();
        let work = move || -> crate::error::Result<_> {
            let (snapshots, place) = (&worker.store.snapshots, scratch.path());
            match (sink.finish()?, known) {
                (None, Some(known)) => Ok((snapshots.pin(known.id)?, known)),
                (None, None) => Err(Error::NotFound { what: "tree", name: place.display().to_string() }),
                (Some(tree), known) => {
                    // All came again, and is as it was.
                    if let Some(known) = known.filter(|known| known.tree.is_as(&tree))
                        && let Ok(held) = snapshots.pin(known.id)
                    {
                        return Ok((held, known));
                    }
                    let digest = tree.digest();
                    let held = snapshots.commit_folder(None, place, None)?;
                    let stored = snapshots.layers(held.id())?.pop().map(|layer| snapshots.stored(layer.id));
                    let tree = Arc::new(tree.at(stored.unwrap_or_else(|| place.to_owned())));
                    Ok((held.clone(), Context { id: held.id(), digest, tree }))
                }
            }
        };
        buildd_fs::blocking::run(work).await.map_err(op_error)
    }
}

impl LocalSource {
    /// Where the files go, in the form of new layers.
    fn place(&self, base: Option<Arc<SyncedTree>>) -> crate::error::Result<(Scratch, TreeSink)> {
        let snapshots = &self.worker.store.snapshots;
        if snapshots.makes_files() {
            let scratch = snapshots.scratch_file();
            let sink = TreeSink::file(scratch.path(), base)?;
            return Ok((scratch, sink));
        }
        let scratch = snapshots.scratch()?;
        let sink = TreeSink::folder(scratch.path(), base)?;
        Ok((scratch, sink))
    }

    /// Takes the files, and shows how much has come.
    async fn transfer(
        &self,
        cx: &OpContext,
        session: &dyn Session,
        sink: TreeSink,
    ) -> Result<TreeSink, OpError> {
        let (title, started) = (format!("transferring {}:", self.request.name), SystemTime::now());
        let received = sink.received();
        let show = |completed| {
            cx.progress.status(&title, received.load(Ordering::Relaxed), 0, started, completed);
        };
        let mut ticks = tokio::time::interval(SHOW_INTERVAL);
        let mut files = session.sync_files(self.request.clone(), sink);
        let sink = loop {
            tokio::select! {
                done = &mut files => break done,
                _ = ticks.tick() => show(None),
            }
        };
        show(Some(SystemTime::now()));
        sink.map_err(|error| OpError::new(error.kind, error))
    }
}

#[async_trait]
impl Op for LocalSource {
    async fn cache_map(&self, cx: &OpContext) -> Result<CacheMap, OpError> {
        let (_, Context { digest, .. }) = self.synced.get_or_try_init(|| self.sync(cx)).await?;
        Ok(CacheMap {
            digest: Digest::of(format!("local {digest}").as_bytes()),
            aliases: Vec::new(),
            inputs: Vec::new(),
        })
    }

    async fn exec(&self, _: &OpContext, _: &[OpResult]) -> Result<Vec<OpResult>, OpError> {
        match self.synced.get() {
            Some((held, _)) => Ok(vec![SnapshotRef::local(held.clone())]),
            None => Err(OpError::new(
                ErrorKind::Internal,
                Error::Precondition {
                    what: "source",
                    name: self.request.name.clone(),
                    reason: "was never synced".into(),
                },
            )),
        }
    }

    fn is_heavy(&self) -> bool {
        false
    }
}
