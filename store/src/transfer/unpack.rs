//! Unpack: from an image's name to the snapshot of its layers.
//!
//! A build's FROM, an import and a transfer come here. A layer whose chain id is known is not unpacked again; one that is new is verified
//! against the diff_id that the config gives it.

use std::io::BufRead;

use buildd_oci::{
    blob::{Provider, read_document},
    config::{ImageConfig, chain_ids},
    descriptor::Descriptor,
    digest::Digest,
    manifest::{Index, Manifest},
    media_type,
    platform::Platform,
};

use crate::{
    chunks,
    error::{Error, Result},
    label::Labels,
    layer::Applied,
    root::Store,
    snapshot::{SnapshotId, SnapshotPin, named::Scope},
};

/// Labels a blob with the snapshot of its image's layers, by snapshotter: `<this>overlayfs = <chain id>`.
pub const SNAPSHOT_LABEL: &str = "containerd.io/gc.ref.snapshot.";
/// Labels a document with what it points at: `<this><anything> = <digest>`.
pub const CONTENT_LABEL: &str = "containerd.io/gc.ref.content.";
/// Labels a document with what refers to it: `<this><hex> = <digest>`; as containerd 2.2 does.
const REFERRER_LABEL: &str = "containerd.io/gc.ref.content.referrer.sha256.";
/// Documents within documents that are looked through; more levels are nobody's intention.
const MAX_DEPTH: usize = 4;

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
    find_below(store, ns, &image.name, &image.target, platform)
}

/// Finds an image below what it points at; `name` is for messages, it need not name it yet.
pub fn find_below(
    store: &Store,
    ns: &str,
    name: &str,
    target: &Descriptor,
    platform: &Platform,
) -> Result<FoundImage> {
    find_in(&store.content.in_namespace(ns), name, target, platform)
}

/// The same wherever the documents are.
pub fn find_in(
    content: &dyn Provider,
    name: &str,
    target: &Descriptor,
    platform: &Platform,
) -> Result<FoundImage> {
    let mut descriptor = target.clone();
    for _ in 0..MAX_DEPTH {
        let bytes = read_document(content, &descriptor)?;
        if !media_type::is_index(&descriptor.media_type) {
            let manifest = Manifest::parse(&bytes)?;
            let config = read_document(content, &manifest.config)?;
            return Ok(FoundImage {
                name: name.to_owned(),
                target: target.digest,
                manifest,
                manifest_digest: descriptor.digest,
                config,
            });
        }
        descriptor = Index::parse(&bytes)?.find(platform).cloned().ok_or_else(|| Error::NotFound {
            what: "image",
            name: format!("{name} for platform {platform}"),
        })?;
    }
    Err(Error::Invalid {
        what: "image",
        name: name.to_owned(),
        reason: "indexes nested too deeply".to_owned(),
    })
}

/// The snapshot of an image's layers; those that are there already are not unpacked again.
pub fn unpack(store: &Store, ns: &str, found: &FoundImage) -> Result<Option<SnapshotPin>> {
    unpack_from(store, &store.content.in_namespace(ns), found)
}

/// The same wherever the layers are.
pub fn unpack_from(store: &Store, content: &dyn Provider, found: &FoundImage) -> Result<Option<SnapshotPin>> {
    let config = ImageConfig::parse(&found.config)?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != found.manifest.layers.len() {
        let reason = format!("{} layers but {} diff_ids", found.manifest.layers.len(), diff_ids.len());
        return Err(Error::Invalid { what: "image", name: found.name.clone(), reason });
    }
    let layers = &found.manifest.layers;
    stack(store, layers, diff_ids, |number, parent| {
        match store.snapshots.stack_known(parent, &diff_ids[number])? {
            Some(known) => Ok(known),
            None => {
                unpack_stream(store, chunks::of(content.open(&layers[number])?), parent, &diff_ids[number])
            }
        }
    })
}

/// Puts the layers of an image upon each other: a stack that its chain id names is used as it is, else `layer` makes the one with this number above
/// the one that it is given.
pub(crate) fn stack(
    store: &Store,
    blobs: &[Descriptor],
    diff_ids: &[Digest],
    mut layer: impl FnMut(usize, Option<SnapshotId>) -> Result<SnapshotPin>,
) -> Result<Option<SnapshotPin>> {
    let mut below: Option<SnapshotPin> = None;
    for (number, (blob, chain_id)) in blobs.iter().zip(chain_ids(diff_ids)).enumerate() {
        let stacked = match store.snapshots.by_chain_id(&chain_id)? {
            Some(known) => known,
            None => {
                let made = layer(number, below.as_ref().map(SnapshotPin::id))?;
                store.snapshots.set_chain_id(made.id(), &chain_id)?;
                made
            }
        };
        leave_to_layer(store, &blob.digest, &stacked)?;
        below = Some(stacked);
    }
    Ok(below)
}

/// An uncompressed blob needs no copy beside the layer on top of `stack`, if that is a file of the same bytes.
pub(crate) fn leave_to_layer(store: &Store, blob: &Digest, stack: &SnapshotPin) -> Result<()> {
    if !store.content.has_file(blob) {
        return Ok(());
    }
    match store.snapshots.layers(stack.id())?.pop() {
        Some(top) if top.diff_id.as_ref() == Some(blob) && store.snapshots.is_file(top.id) => {
            store.snapshots.make_durable(stack.id())?;
            store.content.leave_to_layer(blob, top.id)
        }
        _ => Ok(()),
    }
}

/// Unpacks a layer's blob, whatever it is compressed with, above `parent`.
pub(crate) fn unpack_stream(
    store: &Store,
    blob: impl BufRead + Send,
    parent: Option<SnapshotId>,
    diff_id: &Digest,
) -> Result<SnapshotPin> {
    Ok(apply(store, blob, parent, Some(*diff_id))?.0)
}

/// The same where the diff_id may be unknown.
pub(crate) fn apply(
    store: &Store,
    blob: impl BufRead + Send,
    parent: Option<SnapshotId>,
    expected: Option<Digest>,
) -> Result<(SnapshotPin, Applied)> {
    chunks::decompressed(blob, store.snapshots.growth(), |tar| store.snapshots.apply(parent, tar, expected))
}

/// Gives the layers of an unpacked image their names in a scope, and lets its config keep them.
pub fn name(store: &Store, scope: &Scope, found: &FoundImage, top: &SnapshotPin) -> Result<()> {
    store.named_snapshots.adopt(scope, top.id())?;
    let config = ImageConfig::parse(&found.config)?;
    let Some(chain_id) = chain_ids(&config.rootfs.diff_ids).pop() else { return Ok(()) };
    let label = (format!("{SNAPSHOT_LABEL}{}", scope.snapshotter), chain_id.to_string());
    store.content.add_labels(&scope.ns, &found.manifest.config.digest, Labels::from([label]))
}

/// Lets `subject` keep what refers to it (a signature, an attestation); one that is not here keeps nothing.
pub fn refer(store: &Store, ns: &str, referrer: &Descriptor, subject: &Digest) -> Result<()> {
    let label = (format!("{REFERRER_LABEL}{}", referrer.digest.hex()), referrer.digest.to_string());
    match store.content.add_labels(ns, subject, Labels::from([label])) {
        Err(Error::NotFound { .. }) => {
            tracing::warn!(referrer = %referrer.digest, %subject, "what an archive refers to is not here: the referrer is not kept");
            Ok(())
        }
        added => added,
    }
}

/// Lets the documents of an image keep what they point at; what is not there is passed over.
pub fn label(store: &Store, ns: &str, target: &Descriptor) -> Result<()> {
    let content = store.content.in_namespace(ns);
    let mut todo = vec![(target.clone(), 0)];
    while let Some((descriptor, depth)) = todo.pop() {
        if store.content.info(ns, &descriptor.digest).is_err() {
            continue;
        }
        let children: Vec<(String, Descriptor)> = if media_type::is_index(&descriptor.media_type) {
            let index = Index::parse(&read_document(&content, &descriptor)?)?;
            index.manifests.into_iter().enumerate().map(|(n, child)| (format!("m.{n}"), child)).collect()
        } else if depth == 0 || media_type::is_manifest(&descriptor.media_type) {
            let manifest = Manifest::parse(&read_document(&content, &descriptor)?)?;
            let layers = manifest.layers.into_iter().enumerate().map(|(n, child)| (format!("l.{n}"), child));
            layers.chain([("config".to_owned(), manifest.config)]).collect()
        } else {
            continue;
        };
        let labels = children
            .iter()
            .map(|(name, child)| (format!("{CONTENT_LABEL}{name}"), child.digest.to_string()))
            .collect();
        store.content.add_labels(ns, &descriptor.digest, labels)?;
        if depth < MAX_DEPTH {
            todo.extend(children.into_iter().map(|(_, child)| (child, depth + 1)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
