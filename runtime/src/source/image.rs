//! Image source: `docker-image://`, from the images of our own store.
//!
//! Its pin is the manifest's digest; the chain id of its layers is another name of the same result, so that a base that
//! was packed anew still hits. Layers are unpacked once and verified against their diff_ids.

use std::sync::Arc;

use async_trait::async_trait;
use buildd_oci::{
    blob::Provider,
    compress,
    config::{ImageConfig, chain_ids},
    digest::Digest,
    platform::Platform,
};
use buildd_solver::{
    op::{CacheMap, Op, OpContext, OpError},
    result::OpResult,
};

use crate::{
    error::{Error, Result},
    snapshot::SnapshotId,
    snapshot_ref::SnapshotRef,
    worker::{FoundImage, Worker, op_error},
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
        let id = buildd_fs::blocking::run(move || unpack(&worker, &found)).await.map_err(op_error)?;
        Ok(vec![SnapshotRef::result(id)])
    }

    fn is_heavy(&self) -> bool {
        false
    }
}

/// The snapshot of an image's layers; those that are there already are not unpacked again.
pub(crate) fn unpack(worker: &Worker, found: &FoundImage) -> Result<Option<SnapshotId>> {
    let config = ImageConfig::parse(&found.config)?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != found.manifest.layers.len() {
        let reason = format!("{} layers but {} diff_ids", found.manifest.layers.len(), diff_ids.len());
        return Err(Error::Invalid { what: "image", name: found.name.clone(), reason });
    }
    let chain = chain_ids(diff_ids);
    let mut below = None;
    for ((layer, diff_id), chain_id) in found.manifest.layers.iter().zip(diff_ids).zip(&chain) {
        if let Some(known) = worker.store.snapshots.by_chain_id(chain_id)? {
            below = Some(known);
            continue;
        }
        let blob = worker.store.content.in_namespace(&worker.namespace).open(layer)?;
        let mut stream = compress::reader(blob).map_err(|source| Error::ReadLayer { source })?;
        let (id, _) = worker.store.snapshots.apply(below, &mut stream, Some(*diff_id))?;
        worker.store.snapshots.set_chain_id(id, chain_id)?;
        below = Some(id);
    }
    Ok(below)
}
