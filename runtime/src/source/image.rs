//! Image source: `docker-image://`, from the images of our own store.
//!
//! Its pin is the manifest's digest; the chain id of its layers is another name of the same result, so that a base that
//! was packed anew still hits. Layers are unpacked once and verified against their diff_ids.

use std::sync::Arc;

use async_trait::async_trait;
use buildd_oci::{
    config::{ImageConfig, chain_ids},
    digest::Digest,
    platform::Platform,
};
use buildd_solver::{
    op::{CacheMap, Op, OpContext, OpError},
    result::OpResult,
};

use crate::{
    error::Error,
    snapshot_ref::SnapshotRef,
    unpack::{FoundImage, unpack},
    worker::{Worker, op_error},
};

/// An image as a source.
#[derive(Debug)]
pub(super) struct ImageSource {
    worker: Arc<Worker>,
    name: String,
    platform: Platform,
}

impl ImageSource {
    pub(super) fn new(worker: Arc<Worker>, name: String, platform: Platform) -> Self {
        Self { worker, name, platform }
    }

    async fn find(&self) -> Result<FoundImage, OpError> {
        let (worker, name, platform) = (self.worker.clone(), self.name.clone(), self.platform.clone());
        let found = buildd_fs::blocking::run(move || worker.find_image(&name, &platform)).await;
        found.map_err(|error| {
            let hint = format!(
                "no registry is asked yet: import it with `buildctl image import`, or build it as {}",
                self.name
            );
            match &error {
                Error::NotFound { what: "image", .. } => op_error(error).with_hint(Some(hint)),
                _ => op_error(error),
            }
        })
    }
}

#[async_trait]
impl Op for ImageSource {
    async fn cache_map(&self, _: &OpContext) -> Result<CacheMap, OpError> {
        let found = self.find().await?;
        let config = ImageConfig::parse(&found.config).map_err(|error| op_error(error.into()))?;
        let digest = Digest::of(format!("image {} {}", found.manifest_digest, self.platform).as_bytes());
        let chain =
            chain_ids(&config.rootfs.diff_ids).last().map(|id| Digest::of(format!("chain {id}").as_bytes()));
        Ok(CacheMap { digest, aliases: chain.into_iter().collect(), inputs: Vec::new() })
    }

    async fn content_digest(&self, cx: &OpContext, _: usize, _: &OpResult) -> Result<Digest, OpError> {
        Ok(cx.vertex)
    }

    async fn exec(&self, _: &OpContext, _: &[OpResult]) -> Result<Vec<OpResult>, OpError> {
        let found = self.find().await?;
        let worker = self.worker.clone();
        let id = buildd_fs::blocking::run(move || unpack(&worker.store, &worker.namespace, &found))
            .await
            .map_err(op_error)?;
        Ok(vec![SnapshotRef::result(id)])
    }

    fn is_heavy(&self) -> bool {
        false
    }
}
