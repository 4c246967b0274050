//! Image: config, manifest and index over packed layers.
//!
//! `created` is the time of the newest layer, so that a build that was cached throughout is the same image.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buildd_oci::{
    config::{History, ImageConfig, chain_ids},
    descriptor::Descriptor,
    digest::Digest,
    manifest::{Index, Manifest},
    media_type::{self, Family},
    platform::Platform,
    time,
};
use buildd_store::{
    label::Labels,
    snapshot::named::SNAPSHOTTERS,
    transfer::unpack::{self, CONTENT_LABEL},
};

use super::{Attributes, ExportRequest, ExportTree, annotations::Level, layers};
use crate::{
    error::{Error, Result},
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

/// A finished image, not yet named.
#[derive(Clone, Debug)]
pub(super) struct CreatedImage {
    /// Its manifest or index.
    pub(super) target: Descriptor,
    /// Its config, if it has one platform.
    pub(super) config: Option<Digest>,
}

/// Writes the blobs of an image.
pub(super) fn make(
    worker: &Worker,
    request: &ExportRequest,
    attributes: &Attributes,
) -> Result<CreatedImage> {
    let mut made = Vec::new();
    for tree in &request.trees {
        made.push(one(worker, tree, attributes)?);
    }
    let (on_index, on_entry) = (
        attributes.annotations.of_index(Level::Index),
        attributes.annotations.of_index(Level::IndexDescriptor),
    );
    if let [(descriptor, config)] = made.as_slice() {
        if let Some((key, _)) = on_index.iter().chain(&on_entry).next() {
            let reason = "a note on the index, but an image of one platform has none".to_owned();
            return Err(Error::Invalid { what: "annotation", name: key.clone(), reason });
        }
        return Ok(CreatedImage { target: descriptor.clone(), config: Some(*config) });
    }
    if made.is_empty() {
        return Err(Error::Invalid {
            what: "image",
            name: request.kind.clone(),
            reason: "it has no platform".to_owned(),
        });
    }
    if request.kind == "docker" {
        let reason = "docker exporter does not currently support exporting manifest lists".to_owned();
        return Err(Error::Invalid { what: "exporter", name: request.kind.clone(), reason });
    }
    let mut index = Index::new(made.into_iter().map(|(descriptor, _)| descriptor).collect());
    index.annotations = on_index;
    let mut target =
        put(worker, media_type::OCI_INDEX, &index.to_bytes(), children("m", index.manifests.iter()))?;
    target.annotations = on_entry;
    Ok(CreatedImage { target, config: None })
}

/// Labels by which a document keeps what it points at; `kind` is m for manifests, l for layers.
///
/// Compat: by these names `ctr content prune references` knows what a container needs no more once it is unpacked.
fn children<'a>(kind: &str, descriptors: impl Iterator<Item = &'a Descriptor>) -> Labels {
    let label = |(n, d): (usize, &Descriptor)| (format!("{CONTENT_LABEL}{kind}.{n}"), d.digest.to_string());
    descriptors.enumerate().map(label).collect()
}

fn put(worker: &Worker, media_type: &str, bytes: &[u8], labels: Labels) -> Result<Descriptor> {
    let (digest, size) = worker.store.content.put(&worker.namespace, &mut { bytes }, &labels)?;
    Ok(Descriptor::new(media_type, digest, size))
}

fn one(worker: &Worker, tree: &ExportTree, attributes: &Attributes) -> Result<(Descriptor, Digest)> {
    let id = tree.result.as_ref().map(SnapshotRef::of).transpose()?.and_then(|result| result.id());
    let packed = layers::pack(worker, id, attributes)?;
    let newest = match (attributes.epoch, id) {
        (Some(epoch), _) => UNIX_EPOCH + Duration::from_secs(u64::try_from(epoch).unwrap_or_default()),
        (None, Some(id)) => worker.store.snapshots.created(id)?,
        (None, None) => UNIX_EPOCH,
    };
    let mut config = match &tree.config {
        Some(bytes) => ImageConfig::parse(bytes)?,
        None => {
            let host = Platform::host();
            ImageConfig { os: host.os, architecture: host.architecture, ..ImageConfig::default() }
        }
    };
    finish(&mut config, packed.iter().map(|layer| layer.diff_id).collect(), newest);
    let types = match attributes.family {
        Family::Oci => (media_type::OCI_CONFIG, media_type::OCI_MANIFEST),
        Family::Docker => (media_type::DOCKER_CONFIG, media_type::DOCKER_MANIFEST),
    };
    let platform = config.platform();
    let top = chain_ids(&config.rootfs.diff_ids).pop();
    let keeps = |top: &Digest| (format!("{}{}", unpack::SNAPSHOT_LABEL, SNAPSHOTTERS[0]), top.to_string());
    let stored = put(worker, types.0, &config.to_bytes(), top.iter().map(keeps).collect())?;
    let digest = stored.digest;
    let mut manifest =
        Manifest::new(types.1, stored, packed.into_iter().map(|layer| layer.descriptor).collect());
    manifest.annotations = attributes.annotations.of(Level::Manifest, &platform);
    let mut labels = children("l", manifest.layers.iter());
    labels.insert(format!("{CONTENT_LABEL}config"), manifest.config.digest.to_string());
    let mut target = put(worker, types.1, &manifest.to_bytes(), labels)?;
    target.annotations = attributes.annotations.of(Level::ManifestDescriptor, &platform);
    if !tree.platform.is_empty() {
        target.platform = Some(platform);
    }
    if let Some(id) = id {
        worker.store.snapshots.make_durable(id)?;
        if let Some(top) = &top {
            worker.store.snapshots.set_chain_id(id, top)?;
        }
    }
    Ok((target, digest))
}

/// Fills in what only the layers tell; the history has one entry that is not empty for each layer.
fn finish(config: &mut ImageConfig, diff_ids: Vec<Digest>, created: SystemTime) {
    let created = time::format(created);
    config.created = Some(created.clone());
    let mut left = diff_ids.len();
    for entry in &mut config.history {
        entry.created.get_or_insert_with(|| created.clone());
        if !entry.empty_layer {
            entry.empty_layer = left == 0;
            left = left.saturating_sub(1);
        }
    }
    for _ in 0..left {
        let created = Some(created.clone());
        config.history.push(History {
            created,
            comment: "buildkit.exporter.image.v0".to_owned(),
            ..History::default()
        });
    }
    config.rootfs.diff_ids = diff_ids;
}

/// Lets a name point at an image.
pub(super) fn publish(worker: &Worker, name: &str, made: &CreatedImage) -> Result<()> {
    worker.store.images.put(&worker.namespace, name, &made.target, &Labels::new())?;
    Ok(())
}
