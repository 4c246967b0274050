//! Trees: what a client gets as files: one tree, several in folders of their own, or several as one.
//!
//! `platform-split` says which of the last two; folders are the default, and what `platform-split=true` asks for even of one tree.
//!
//! # Invariants
//! Of several trees as one no file is lost: one that two of them have is refused, and so is one that another tree's deletion would hide.
//!
//! # Sources
//! moby/buildkit `exporter/local`: names of folders, what may not be overwritten.

use std::collections::BTreeMap;

use buildd_fs::walk::{WalkOptions, walk};
use buildd_oci::{config::ImageConfig, platform::Platform};
use buildd_store::snapshot::{SnapshotId, SnapshotPin, View};

use super::{Attributes, ExportRequest, ExportTree};
use crate::{
    error::{Error, Result},
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

/// The trees of an export.
pub(super) enum Trees {
    One(Option<SnapshotId>),
    Each(Vec<(String, Option<SnapshotId>)>),
    Merged(Vec<(String, Option<SnapshotId>)>),
}

impl Trees {
    /// Those of a request.
    pub(super) fn of(request: &ExportRequest, attributes: &Attributes) -> Result<Self> {
        let id = |tree: &ExportTree| -> Result<Option<SnapshotId>> {
            Ok(tree.result.as_ref().map(SnapshotRef::of).transpose()?.and_then(|result| result.id()))
        };
        if let ([tree], None | Some(false)) = (request.trees.as_slice(), attributes.platform_split) {
            return Ok(Self::One(id(tree)?));
        }
        let named = request.trees.iter().map(|tree| Ok((folder(tree)?, id(tree)?)));
        let named = named.collect::<Result<_>>()?;
        Ok(if attributes.platform_split == Some(false) { Self::Merged(named) } else { Self::Each(named) })
    }

    /// Mounts them read-only.
    pub(super) fn view(&self, worker: &Worker) -> Result<View> {
        match self {
            Self::One(id) => Ok(worker.store.snapshots.view(*id)?),
            Self::Each(trees) => Ok(worker.store.snapshots.view_each(trees)?),
            Self::Merged(trees) => merged(trees, worker),
        }
    }
}

/// The folder of a tree that has one of its own.
fn folder(tree: &ExportTree) -> Result<String> {
    let platform = match (tree.platform.as_str(), &tree.config) {
        ("", Some(config)) => ImageConfig::parse(config)?.platform().to_string(),
        ("", None) => Platform::host().to_string(),
        (platform, _) => platform.to_owned(),
    };
    Ok(platform.replace('/', "_"))
}

fn merged(trees: &[(String, Option<SnapshotId>)], worker: &Worker) -> Result<View> {
    let snapshots = &worker.store.snapshots;
    let refuse = |reason: String| Error::Invalid {
        what: "exporter attribute",
        name: "platform-split".to_owned(),
        reason,
    };
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    let mut below: Option<SnapshotPin> = None;
    for (name, id) in trees {
        let view = snapshots.view(*id)?;
        let entries =
            walk(&view.path(), &WalkOptions::default()).map_err(|error| refuse(error.to_string()))?;
        for entry in entries.into_iter().filter(|entry| !entry.meta.is_dir()) {
            if let Some(other) = owners.get(&entry.path) {
                let path = &entry.path;
                return Err(refuse(format!(
                    "{path} of {other} and of {name} would write over each other in one folder"
                )));
            }
            owners.insert(entry.path, name);
        }
        if let Some(id) = id {
            for layer in snapshots.layers(*id)? {
                below = Some(snapshots.stack(below.as_ref().map(SnapshotPin::id), layer.id)?);
            }
        }
    }
    let view = snapshots.view(below.as_ref().map(SnapshotPin::id))?;
    let hidden = owners.iter().find(|(path, _)| view.path().join(path).symlink_metadata().is_err());
    match hidden {
        None => Ok(view),
        Some((path, name)) => {
            Err(refuse(format!("{path} of {name} is no file or is deleted in another platform's tree")))
        }
    }
}
