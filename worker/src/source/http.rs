//! HTTP source: `http://` and `https://`, one file of a server, as a tree with that file in it.
//!
//! Its pin is the digest of the file with its name, mode, owner and time. What a server said of a file it sent (`ETag`, `Last-Modified`) is
//! kept: the next build asks whether it is still so, and brings no bytes if it is. With a checksum nothing is asked until something needs the
//! bytes, and what comes must have it.
//!
//! # Sources
//! BuildKit `source/http`; spec solver 2.1 and 2.2; RFC 9110 "conditional requests".

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use buildd_oci::digest::Digest;
use buildd_solver::{
    op::{CacheMap, Op, OpContext, OpError},
    result::OpResult,
};
use buildd_store::snapshot::SnapshotPin;
use download::{Fetched, download};
use tokio::sync::OnceCell;
use wanted::HttpRequest;

use super::SourceRequest;
use crate::{
    error::{Error, Result, op_error},
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

mod download;
mod known;
mod wanted;

/// A file of a server as a source.
#[derive(Debug)]
pub(super) struct HttpSource {
    worker: Arc<Worker>,
    wanted: HttpRequest,
    pin: OnceCell<Pin>,
}

/// What the URL meant when it was first asked for.
#[derive(Clone, Debug)]
struct Pin {
    digest: Digest,
    /// Digest of what the tree is beside the file's bytes.
    key: Digest,
    /// The tree, if the file came.
    held: Option<SnapshotPin>,
}

/// A file of a server, for the list of sources.
pub(super) fn make(request: &SourceRequest<'_>) -> std::result::Result<Arc<dyn Op>, OpError> {
    let source = HttpSource::new(Arc::clone(request.worker), request.identifier, &request.attrs);
    Ok(Arc::new(source.map_err(op_error)?))
}

impl HttpSource {
    pub(super) fn new(worker: Arc<Worker>, url: &str, attrs: &HashMap<String, String>) -> Result<Self> {
        Ok(Self { worker, wanted: HttpRequest::parse(url, attrs)?, pin: OnceCell::new() })
    }

    async fn find(&self, cx: &OpContext) -> std::result::Result<Pin, OpError> {
        let wanted = &self.wanted;
        if let Some(digest) = wanted.checksum {
            return Ok(self.pinned(digest, &wanted.name(None), "", None));
        }
        let known = known::find(&self.worker.store, wanted).map_err(op_error)?;
        let validators = known.as_ref().map(known::Known::validators).unwrap_or_default();
        match (download(&self.worker, cx, wanted, validators).await?, known) {
            (Some(fetched), _) => {
                known::keep(&self.worker.store, wanted, &fetched).map_err(op_error)?;
                let Fetched { digest, name, modified, held, .. } = fetched;
                Ok(self.pinned(digest, &name, &modified, Some(held)))
            }
            (None, Some(known)) => Ok(self.pinned(known.digest, &known.name, &known.modified, None)),
            (None, None) => Err(op_error(wanted.not_whole("it sent no file"))),
        }
    }

    fn pinned(&self, digest: Digest, name: &str, modified: &str, held: Option<SnapshotPin>) -> Pin {
        let HttpRequest { mode, uid, gid, .. } = &self.wanted;
        let key = serde_json::json!(["http", digest.to_string(), name, mode, uid, gid, modified]);
        Pin { digest, key: Digest::of(key.to_string().as_bytes()), held }
    }
}

#[async_trait]
impl Op for HttpSource {
    async fn cache_map(&self, cx: &OpContext) -> std::result::Result<CacheMap, OpError> {
        let pin = self.pin.get_or_try_init(|| self.find(cx)).await?;
        Ok(CacheMap { digest: pin.key, aliases: Vec::new(), inputs: Vec::new() })
    }

    async fn exec(&self, cx: &OpContext, _: &[OpResult]) -> std::result::Result<Vec<OpResult>, OpError> {
        let pin = self.pin.get_or_try_init(|| self.find(cx)).await?;
        if let Some(held) = &pin.held {
            return Ok(vec![SnapshotRef::result(Some(held.clone()))]);
        }
        let fetched = download(&self.worker, cx, &self.wanted, Vec::new()).await?;
        let fetched = fetched.ok_or_else(|| op_error(self.wanted.not_whole("it sent no file")))?;
        if fetched.digest != pin.digest {
            return Err(op_error(Error::WrongContent {
                what: self.wanted.shown(),
                expected: pin.digest.to_string(),
                actual: fetched.digest.to_string(),
            }));
        }
        Ok(vec![SnapshotRef::result(Some(fetched.held))])
    }

    fn is_heavy(&self) -> bool {
        false
    }
}
