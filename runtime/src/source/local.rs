//! Local source: `local://`, files of the client through its session.
//!
//! The files are synced when the key is asked for: their content is the pin. Ownership was taken off by the client.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use buildd_oci::{ErrorKind, digest::Digest};
use buildd_solver::{
    op::{CacheMap, Op, OpContext, OpError},
    result::OpResult,
};
use tokio::sync::OnceCell;

use crate::{
    checksum,
    error::Error,
    session::{SyncRequest, TreeSink},
    snapshot::SnapshotId,
    snapshot_ref::SnapshotRef,
    worker::{Worker, op_error},
};

/// A client's folder as a source.
#[derive(Debug)]
pub(super) struct LocalSource {
    worker: Arc<Worker>,
    request: SyncRequest,
    session: Option<String>,
    synced: OnceCell<(SnapshotId, Digest)>,
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
        let session = attrs.get("local.session").cloned();
        Ok(Self { worker, request, session, synced: OnceCell::new() })
    }

    async fn sync(&self, cx: &OpContext) -> Result<(SnapshotId, Digest), OpError> {
        let fail = |error: crate::session::SessionError| OpError::new(error.kind, error);
        let mut ids = cx.sessions.ids();
        ids.splice(0..0, self.session.clone());
        let session = self.worker.sessions.any(&ids).await.map_err(fail)?;
        let folder = self.worker.store.snapshots.scratch().map_err(op_error)?;
        let sink = TreeSink::new(&folder).map_err(op_error)?;
        let sink = session.sync_files(self.request.clone(), sink).await.map_err(fail)?;
        let worker = self.worker.clone();
        let work = move || -> crate::error::Result<_> {
            sink.finish()?;
            let digest = checksum::tree(&folder)?;
            Ok((worker.store.snapshots.commit_folder(None, &folder, None)?, digest))
        };
        buildd_fs::blocking::run(work).await.map_err(op_error)
    }
}

#[async_trait]
impl Op for LocalSource {
    async fn cache_map(&self, cx: &OpContext) -> Result<CacheMap, OpError> {
        let (_, digest) = self.synced.get_or_try_init(|| self.sync(cx)).await?;
        Ok(CacheMap {
            digest: Digest::of(format!("local {digest}").as_bytes()),
            aliases: Vec::new(),
            inputs: Vec::new(),
        })
    }

    async fn content_digest(&self, cx: &OpContext, _: usize, _: &OpResult) -> Result<Digest, OpError> {
        Ok(cx.vertex)
    }

    async fn exec(&self, _: &OpContext, _: &[OpResult]) -> Result<Vec<OpResult>, OpError> {
        match self.synced.get() {
            Some((id, _)) => Ok(vec![SnapshotRef::result(Some(*id))]),
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
