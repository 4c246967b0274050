//! Layers: the blobs of a snapshot's layers, made once and then found again.
//!
//! A layer that came in as a blob goes out as that blob. One that a step wrote is packed when an export first asks; its
//! diff_id is then known, and a compressed form carries it as a label.

use std::io::{BufWriter, Read, Write};

use buildd_oci::{
    compress::{self, Compression},
    descriptor::Descriptor,
    digest::Digest,
    media_type,
};

use super::Attributes;
use crate::{
    content::Labels,
    error::{Error, Result},
    layer::{ExportOptions, write_tar},
    snapshot::{Layer, SnapshotId},
    worker::Worker,
};

/// Label of a compressed blob with the digest of its content.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
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
    let form = format!("{} {:?} {:?}", attributes.compression.as_str(), attributes.level, attributes.epoch);
    for info in content.list(ns)? {
        let of = info.labels.get(UNCOMPRESSED).and_then(|text| text.parse().ok());
        let same = layer.diff_id.is_some() && (of == layer.diff_id || Some(info.digest) == layer.diff_id);
        let made_so = info.labels.get(FORM).is_none_or(|made| *made == form);
        if let Some(diff_id) = layer.diff_id.filter(|_| same && made_so) {
            let mut head = Vec::new();
            content
                .open_blob(&info.digest)?
                .take(4)
                .read_to_end(&mut head)
                .map_err(|source| Error::ReadLayer { source })?;
            let media_type = media_type::layer(Compression::detect(&head), attributes.family);
            return Ok(Packed { descriptor: Descriptor::new(media_type, info.digest, info.size), diff_id });
        }
    }
    let (reader, writer) = std::io::pipe().map_err(Error::file("open", "pipe"))?;
    let path = worker.store.snapshots.layer_path(layer.id);
    let options = ExportOptions { epoch: attributes.epoch };
    let (compression, level) = (attributes.compression, attributes.level);
    let packing = std::thread::spawn(move || -> Result<Digest> {
        let fail = |source| Error::WriteLayer { entry: "its compressed form".to_owned(), source };
        let buffered = BufWriter::with_capacity(256 << 10, writer);
        let mut compressed = compress::Writer::new(buffered, compression, level).map_err(fail)?;
        let (diff_id, _) = write_tar(&path, &mut compressed, options)?;
        compressed.finish().and_then(|mut inner| inner.flush()).map_err(fail)?;
        Ok(diff_id)
    });
    let labels = Labels::from([(FORM.to_owned(), form)]);
    let stored = content.put(ns, &mut { reader }, &labels);
    let diff_id = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let (digest, size) = stored?;
    let mut labels = content.info(ns, &digest)?.labels;
    labels.insert(UNCOMPRESSED.to_owned(), diff_id.to_string());
    content.set_labels(ns, &digest, &labels)?;
    if attributes.epoch.is_none() {
        worker.store.snapshots.set_diff_id(layer.id, &diff_id)?;
    }
    let media_type = media_type::layer(compression, attributes.family);
    Ok(Packed { descriptor: Descriptor::new(media_type, digest, size), diff_id })
}
