//! Unpack: from an image's name to the snapshot of its layers.
//!
//! A build's FROM, an import and a transfer come here. A layer whose chain id is known is not unpacked again; one that is new is verified
//! against the diff_id that the config gives it.

use buildd_oci::{
    blob::{Provider, read_document},
    compress,
    config::{ImageConfig, chain_ids},
    descriptor::Descriptor,
    digest::Digest,
    manifest::{Index, Manifest},
    media_type,
    platform::Platform,
};

use crate::{
    error::{Error, Result},
    snapshot::SnapshotId,
    store::Store,
};

/// An image found in the store.
#[derive(Clone, Debug)]
pub struct FoundImage {
    /// Its canonical name.
    pub name: String,
    /// What the name points at: index or manifest.
    pub target: Digest,
    /// The manifest for the platform.
    pub manifest: Manifest,
    /// The manifest's digest.
    pub manifest_digest: Digest,
    /// The bytes of its config.
    pub config: Vec<u8>,
}

/// Finds an image by its canonical name.
pub fn find(store: &Store, ns: &str, name: &str, platform: &Platform) -> Result<FoundImage> {
    let (bare, pin) = name.split_once('@').map_or((name, None), |(bare, pin)| (bare, Some(pin)));
    let image = store.images.get(ns, name).or_else(|_| store.images.get(ns, bare))?;
    if pin.is_some_and(|pin| pin != image.target.digest.to_string()) {
        return Err(Error::NotFound { what: "image", name: name.to_owned() });
    }
    let content = store.content.in_namespace(ns);
    let mut descriptor: Descriptor = image.target.clone();
    // An index may point at another one; more levels are nobody's intention.
    for _ in 0..4 {
        let bytes = read_document(&content, &descriptor)?;
        if !media_type::is_index(&descriptor.media_type) {
            let manifest = Manifest::parse(&bytes)?;
            let config = read_document(&content, &manifest.config)?;
            return Ok(FoundImage {
                name: image.name,
                target: image.target.digest,
                manifest,
                manifest_digest: descriptor.digest,
                config,
            });
        }
        let fits = |d: &&Descriptor| d.platform.as_ref().is_none_or(|p| platform.matches(p));
        descriptor = Index::parse(&bytes)?.manifests.iter().find(fits).cloned().ok_or_else(|| {
            Error::NotFound { what: "image", name: format!("{name} for platform {platform}") }
        })?;
    }
    Err(Error::Invalid {
        what: "image",
        name: name.to_owned(),
        reason: "indexes nested too deeply".to_owned(),
    })
}

/// The snapshot of an image's layers; those that are there already are not unpacked again.
pub fn unpack(store: &Store, ns: &str, found: &FoundImage) -> Result<Option<SnapshotId>> {
    let config = ImageConfig::parse(&found.config)?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != found.manifest.layers.len() {
        let reason = format!("{} layers but {} diff_ids", found.manifest.layers.len(), diff_ids.len());
        return Err(Error::Invalid { what: "image", name: found.name.clone(), reason });
    }
    let chain = chain_ids(diff_ids);
    let mut below = None;
    for ((layer, diff_id), chain_id) in found.manifest.layers.iter().zip(diff_ids).zip(&chain) {
        if let Some(known) = store.snapshots.by_chain_id(chain_id)? {
            below = Some(known);
            continue;
        }
        let blob = store.content.in_namespace(ns).open(layer)?;
        let mut stream = compress::reader(blob).map_err(|source| Error::ReadLayer { source })?;
        let (id, _) = store.snapshots.apply(below, &mut stream, Some(*diff_id))?;
        store.snapshots.set_chain_id(id, chain_id)?;
        below = Some(id);
    }
    Ok(below)
}
