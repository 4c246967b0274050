//! Diff: a layer into the tree behind some mounts, and what the trees behind two sets of mounts differ in as a layer.
//!
//! containerd's Diff service translates to this. The mounts are those that `Snapshots` answered, or a client's own. They are not mounted
//! where that can be avoided: a layer is unpacked into the upper folder of an overlay, and two stacks of which one stands on the other
//! differ in that upper folder.
//!
//! # Errors
//! `Invalid` for mounts that are neither binds nor overlays, `Precondition` for those that are read-only.
//!
//! # Sources
//! containerd `core/diff`; spec archives-and-layers section 5.

mod compare;
mod folders;

use std::path::Path;

use buildd_fs::mounts::Mount;
use buildd_oci::{
    blob::Provider,
    compress::Compression,
    descriptor::Descriptor,
    media_type::{OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD},
};
use compare::compare;
use folders::Folders;

use crate::{
    chunks,
    error::{Error, Result},
    label::Labels,
    layer::{Applied, DirectoryWriter, ExportOptions, TarWriter, Whiteouts, apply_tar, write_tar},
    root::Store,
    snapshot::View,
    transfer::pack::{self, Form},
};

/// Unpacks the layer in a blob into the tree behind `mounts`; with `sync`, what it wrote survives a power cut.
pub fn apply(store: &Store, ns: &str, layer: &Descriptor, mounts: &[Mount], sync: bool) -> Result<Applied> {
    let target = Folders::of(mounts)?;
    let folder = target.writable()?;
    let whiteouts = match target.lowers().is_empty() {
        true => Whiteouts::Remove,
        false => Whiteouts::Mark,
    };
    let blob = store.content.in_namespace(ns).open(layer)?;
    let fresh = is_empty(folder)?;
    let mut writer = DirectoryWriter::new(folder, whiteouts)?;
    let applied =
        chunks::decompressed(chunks::of(blob), store.snapshots.growth(), |tar| apply_tar(tar, &mut writer))?;
    if sync {
        let open = std::fs::File::open(folder).map_err(Error::file("open", folder))?;
        rustix::fs::syncfs(&open).map_err(|error| Error::file("sync", folder)(error.into()))?;
    }
    if fresh {
        store.named_snapshots.note_applied(folder, applied.diff_id)?;
    }
    Ok(applied)
}

fn is_empty(folder: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(folder).map_err(Error::file("list", folder))?;
    Ok(entries.next().is_none())
}

/// What a comparison makes.
#[derive(Clone, Debug, Default)]
pub struct DiffOptions {
    /// The media type of the layer; empty is gzip.
    pub media_type: String,
    /// Labels of its blob.
    pub labels: Labels,
    /// No time in it is later than this, in seconds since 1970.
    pub epoch: Option<i64>,
}

/// Stores the layer that makes the tree behind `left` the one behind `right`.
pub fn diff(
    store: &Store,
    ns: &str,
    left: &[Mount],
    right: &[Mount],
    options: &DiffOptions,
) -> Result<Descriptor> {
    let (media_type, compression) = form(&options.media_type)?;
    let (left, right) = (Folders::of(left)?.stack()?, Folders::of(right)?.stack()?);
    let export = ExportOptions { epoch: options.epoch };
    let form = Form { compression, level: None };
    let packed = match right.strip_suffix(left.as_slice()) {
        Some([only]) => {
            pack::pack(&store.content, ns, form, &options.labels, |out| write_tar(only, out, export))?
        }
        _ => {
            let (left, right) = (Tree::of(store, left)?, Tree::of(store, right)?);
            pack::pack(&store.content, ns, form, &options.labels, |out| {
                let mut writer = TarWriter::new(out, export);
                compare(left.path(), right.path(), &mut |entry, data| writer.entry(entry, data))?;
                writer.finish()
            })?
        }
    };
    Ok(Descriptor::new(media_type, packed.digest, packed.size))
}

/// The media type that is made, and its compression.
fn form(media_type: &str) -> Result<(&'static str, Compression)> {
    match media_type {
        "" | OCI_LAYER_GZIP => Ok((OCI_LAYER_GZIP, Compression::Gzip)),
        OCI_LAYER => Ok((OCI_LAYER, Compression::Uncompressed)),
        OCI_LAYER_ZSTD => Ok((OCI_LAYER_ZSTD, Compression::Zstd)),
        other => Err(Error::Invalid {
            what: "media type of a layer",
            name: other.to_owned(),
            reason: format!("there are {OCI_LAYER}, {OCI_LAYER_GZIP} and {OCI_LAYER_ZSTD}"),
        }),
    }
}

/// A tree to look at: a folder as it lies, or several on top of each other.
enum Tree {
    Folder(std::path::PathBuf),
    Mounted(View),
}

impl Tree {
    fn of(store: &Store, mut stack: Vec<std::path::PathBuf>) -> Result<Self> {
        match stack.len() {
            1 => Ok(Self::Folder(stack.remove(0))),
            _ => store.snapshots.view_of(stack).map(Self::Mounted),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        match self {
            Self::Folder(path) => path.clone(),
            Self::Mounted(view) => view.path(),
        }
    }
}

#[cfg(test)]
mod tests;
