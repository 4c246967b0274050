//! Upload source: `http://buildkit-session/<path>`, what the client streams once: a tar on standard input, or a Dockerfile.
//!
//! It is pulled when the key is asked for, into one file of a layer; its content is the pin.
//!
//! # Sources
//! BuildKit `source/http` and `session/upload`.

use std::{collections::HashMap, fs::File, sync::Arc};

use async_trait::async_trait;
use buildd_oci::{ErrorKind, digest::Digest};
use buildd_solver::{
    op::{CacheMap, Op, OpContext, OpError},
    result::OpResult,
};
use buildd_store::snapshot::SnapshotPin;
use tokio::sync::OnceCell;

use super::SourceRequest;
use crate::{
    checksum,
    error::{Error, Result, op_error},
    session::SessionError,
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

/// The host that means "the client of this build".
pub(super) const HOST: &str = "http://buildkit-session/";

/// A client's stream as a source.
#[derive(Debug)]
pub(super) struct UploadSource {
    worker: Arc<Worker>,
    path: String,
    filename: String,
    pulled: OnceCell<(SnapshotPin, Digest)>,
}

/// A client's stream, for the list of sources.
pub(super) fn make(request: &SourceRequest<'_>) -> std::result::Result<Arc<dyn Op>, OpError> {
    let source = UploadSource::new(Arc::clone(request.worker), request.name, &request.attrs);
    Ok(Arc::new(source.map_err(op_error)?))
}

impl UploadSource {
    pub(super) fn new(worker: Arc<Worker>, path: &str, attrs: &HashMap<String, String>) -> Result<Self> {
        let filename = attrs.get("http.filename").map_or("context", String::as_str);
        if filename.is_empty() || filename.contains(['/', '\0']) || filename.starts_with('.') {
            let reason = "it is not a plain file name".to_owned();
            return Err(Error::Invalid { what: "http.filename", name: filename.to_owned(), reason });
        }
        let (path, filename) = (path.to_owned(), filename.to_owned());
        Ok(Self { worker, path, filename, pulled: OnceCell::new() })
    }

    async fn pull(&self, cx: &OpContext) -> std::result::Result<(SnapshotPin, Digest), OpError> {
        let fail = |error: SessionError| OpError::new(error.kind, error);
        let client = self.worker.sessions.any(&cx.sessions.ids()).await.map_err(fail)?;
        let scratch = self.worker.store.snapshots.scratch().map_err(op_error)?;
        let path = scratch.path().join(&self.filename);
        let file = File::create(&path).map_err(|error| op_error(Error::file("create", &path)(error)))?;
        client.pull(&self.path, file).await.map_err(fail)?;
        let worker = self.worker.clone();
        let work = move || -> Result<_> {
            let epoch = rustix::fs::Timespec::default();
            let times = rustix::fs::Timestamps { last_access: epoch, last_modification: epoch };
            let file = File::open(&path).map_err(Error::file("open", &path))?;
            rustix::fs::futimens(&file, &times)
                .map_err(|error| Error::file("set the time of", &path)(error.into()))?;
            let digest = checksum::tree(scratch.path())?;
            Ok((worker.store.snapshots.commit_folder(None, scratch.path(), None)?, digest))
        };
        buildd_fs::blocking::run(work).await.map_err(op_error)
    }
}

#[async_trait]
impl Op for UploadSource {
    async fn cache_map(&self, cx: &OpContext) -> std::result::Result<CacheMap, OpError> {
        let (_, digest) = self.pulled.get_or_try_init(|| self.pull(cx)).await?;
        let digest = Digest::of(format!("upload {digest}").as_bytes());
        Ok(CacheMap { digest, aliases: Vec::new(), inputs: Vec::new() })
    }

    async fn exec(&self, _: &OpContext, _: &[OpResult]) -> std::result::Result<Vec<OpResult>, OpError> {
        let (held, _) = self.pulled.get().ok_or_else(|| {
            let reason = "was never pulled".to_owned();
            OpError::new(
                ErrorKind::Internal,
                Error::Precondition { what: "upload", name: self.path.clone(), reason },
            )
        })?;
        Ok(vec![SnapshotRef::local(held.clone())])
    }

    fn is_heavy(&self) -> bool {
        false
    }
}
