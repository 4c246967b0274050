//! Image source: `docker-image://`, from our own store or a registry.
//!
//! Its pin is the manifest's digest; the chain id of its layers is another name of the same result, so that a base that
//! was packed anew still hits. Only documents are brought for the key; layers come when something needs the tree, once, verified
//! against their diff_ids.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use buildd_oci::{
    config::{ImageConfig, chain_ids},
    digest::Digest,
    platform::Platform,
    reference::Reference,
};
use buildd_solver::{
    op::{CacheMap, Op, OpContext, OpError},
    result::OpResult,
};
use buildd_store::transfer::unpack::FoundImage;
use tokio::sync::OnceCell;

use super::SourceRequest;
use crate::{
    base::ResolveMode,
    error::{Error, op_error},
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

/// An image as a source.
#[derive(Debug)]
pub(super) struct ImageSource {
    worker: Arc<Worker>,
    reference: Reference,
    platform: Platform,
    mode: ResolveMode,
    /// What the name meant when it was first asked.
    pin: OnceCell<FoundImage>,
}

/// An image, for the list of sources.
pub(super) fn make(request: &SourceRequest<'_>) -> std::result::Result<Arc<dyn Op>, OpError> {
    let reference = Reference::parse(request.name).map_err(op_error)?.with_default_tag();
    let worker = Arc::clone(request.worker);
    Ok(Arc::new(ImageSource::new(worker, reference, request.platform.clone(), &request.attrs)?))
}

impl ImageSource {
    pub(super) fn new(
        worker: Arc<Worker>,
        reference: Reference,
        platform: Platform,
        attrs: &HashMap<String, String>,
    ) -> Result<Self, OpError> {
        let mode = attrs.get("image.resolvemode").map_or("", String::as_str);
        let mode = ResolveMode::parse(mode).ok_or_else(|| {
            op_error(Error::Invalid {
                what: "image.resolvemode",
                name: reference.to_string(),
                reason: format!("{mode:?} is none of default, pull, local"),
            })
        })?;
        Ok(Self { worker, reference, platform, mode, pin: OnceCell::new() })
    }

    async fn find(&self, cx: &OpContext) -> Result<&FoundImage, OpError> {
        let (reference, platform) = (&self.reference, &self.platform);
        let sessions = cx.sessions.ids();
        let resolve = || self.worker.resolve_base(reference, platform, self.mode, &sessions);
        self.pin.get_or_try_init(resolve).await.map_err(op_error)
    }
}

/// The key of an image, wherever it comes from.
pub(super) fn cache_map(found: &FoundImage, platform: &Platform) -> Result<CacheMap, Error> {
    let config = ImageConfig::parse(&found.config)?;
    let digest = Digest::of(format!("image {} {platform}", found.manifest_digest).as_bytes());
    let chain =
        chain_ids(&config.rootfs.diff_ids).last().map(|id| Digest::of(format!("chain {id}").as_bytes()));
    Ok(CacheMap { digest, aliases: chain.into_iter().collect(), inputs: Vec::new() })
}

#[async_trait]
impl Op for ImageSource {
    async fn cache_map(&self, cx: &OpContext) -> Result<CacheMap, OpError> {
        let found = self.find(cx).await?;
        cache_map(found, &self.platform).map_err(op_error)
    }

    async fn exec(&self, cx: &OpContext, _: &[OpResult]) -> Result<Vec<OpResult>, OpError> {
        let found = self.find(cx).await?.clone();
        let sessions = cx.sessions.ids();
        let obtain = self.worker.obtain_base(&self.reference, &self.platform, found, &sessions, &cx.progress);
        Ok(vec![SnapshotRef::result(obtain.await.map_err(op_error)?)])
    }

    fn is_heavy(&self) -> bool {
        false
    }
}
