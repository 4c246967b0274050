//! Layers: the blobs of a snapshot's layers, made once and then found again.
//!
//! A layer that came in as a blob goes out as that blob. One that a step wrote is packed when an export first asks; its
//! diff_id is then known, and a compressed form carries it as a label.

use std::io::Read;

use buildd_oci::{compress::Compression, descriptor::Descriptor, digest::Digest, media_type};
use buildd_store::{
    label::Labels,
    layer::ExportOptions,
    snapshot::{Layer, SnapshotId},
    transfer::pack::{self, Form, UNCOMPRESSED},
};

use super::Attributes;
use crate::{error::Result, worker::Worker};

/// Label of a blob with the form it was made in, so that another level or epoch makes another blob.
const FORM: &str = "buildd.io/form";

/// A layer as an image names it.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Digest,
}

/// The blobs of a snapshot, lowest layer first.
pub(super) fn pack(worker: &Worker, id: Option<SnapshotId>, attributes: &Attributes) -> Result<Vec<Packed>> {
    let layers = id.map(|id| worker.store.snapshots.layers(id)).transpose()?.unwrap_or_default();
    layers.iter().map(|layer| pack_one(worker, layer, attributes)).collect()
}

fn pack_one(worker: &Worker, layer: &Layer, attributes: &Attributes) -> Result<Packed> {
    let ns = &worker.namespace;
    let content = &worker.store.content;
    let epoch = attributes.epoch.filter(|_| attributes.rewrite_timestamp != Some(false));
    let form = format!("{} {:?} {:?}", attributes.compression.as_str(), attributes.level, epoch);
    if let Some(diff_id) = layer.diff_id
        && let Some(packed) = stored(worker, diff_id, &form, attributes)?
    {
        return Ok(packed);
    }
    let plain = attributes.compression == Compression::Uncompressed && epoch.is_none();
    if let Some(diff_id) = layer.diff_id.filter(|_| plain) {
        // The layer itself is the blob, if it is a file.
        let labels =
            Labels::from([(FORM.to_owned(), form.clone()), (UNCOMPRESSED.to_owned(), diff_id.to_string())]);
        if let Some(size) = content.adopt_layer(ns, &diff_id, layer.id, &labels)? {
            let media_type = media_type::layer(Compression::Uncompressed, attributes.family);
            return Ok(Packed { descriptor: Descriptor::new(media_type, diff_id, size), diff_id });
        }
    }
    let (snapshots, id) = (&worker.store.snapshots, layer.id);
    let options = ExportOptions { epoch };
    let form_of = Form { compression: attributes.compression, level: attributes.level };
    let labels = Labels::from([(FORM.to_owned(), form)]);
    let packed = pack::pack(content, ns, form_of, &labels, |out| snapshots.write_layer(id, out, options))?;
    if epoch.is_none() {
        worker.store.snapshots.set_diff_id(layer.id, &packed.diff_id)?;
    }
    let media_type = media_type::layer(attributes.compression, attributes.family);
    let descriptor = Descriptor::new(media_type, packed.digest, packed.size);
    Ok(Packed { descriptor, diff_id: packed.diff_id })
}

/// The blob that has these bytes already: packed by us in this very form, or come in as it is unless the attributes want
/// all layers in one form.
fn stored(worker: &Worker, diff_id: Digest, form: &str, attributes: &Attributes) -> Result<Option<Packed>> {
    let content = &worker.store.content;
    let rewritten = attributes.rewrite_timestamp == Some(true);
    for info in content.of_tar(&worker.namespace, &diff_id)? {
        if !info.labels.get(FORM).map_or(!rewritten, |made| made == form) {
            continue;
        }
        let mut head = Vec::new();
        content
            .open_blob(&info.digest)?
            .take(4)
            .read_to_end(&mut head)
            .map_err(|source| buildd_store::Error::ReadLayer { source })?;
        let compression = Compression::detect(&head);
        if attributes.force_compression && compression != attributes.compression {
            continue;
        }
        let media_type = media_type::layer(compression, attributes.family);
        return Ok(Some(Packed { descriptor: Descriptor::new(media_type, info.digest, info.size), diff_id }));
    }
    Ok(None)
}
