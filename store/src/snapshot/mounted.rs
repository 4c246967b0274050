//! Mounted: layer files as trees without a place in the file system's tree.
//!
//! Steps and views stack these; exports and hashing read them. A mount stays open for the next user, because with it the kernel keeps what
//! it has read of the layer.
//!
//! # Concurrency
//! One mutex over the open mounts; a mount takes well below a millisecond. Who has one keeps it, whatever is forgotten here.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use buildd_fs::path::through;
use rustix::process::{Resource, getrlimit};

use super::{SnapshotId, Snapshots, View};
use crate::{
    error::Result,
    layer::{LayerId, is_plain, mount_layer},
};

/// Mounts that stay open: each is a descriptor of ours, and some 10 KiB of the kernel's. A build of very many stages stacks hundreds of layers, and
/// where fewer stay open each of its steps mounts all of its stack again.
const MAX_OPEN: usize = 1024;
/// The part of this process's descriptors that they may be.
const PART: u64 = 4;

/// A layer as a tree, as long as this lives.
#[derive(Clone, Debug)]
pub enum LayerTree {
    /// A layer that is a folder.
    Folder(PathBuf),
    /// A layer file, mounted.
    File(Arc<OwnedFd>),
}

impl LayerTree {
    /// Its root.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Folder(path) => path.clone(),
            Self::File(mount) => through(mount),
        }
    }
}

/// A stack as a tree that this process alone reads: its paths mean nothing to others.
#[derive(Debug)]
pub enum Reading {
    /// A lone layer, with nothing over it.
    Layer(LayerTree),
    /// An overlay.
    View(View),
}

impl Reading {
    /// Its root.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Layer(layer) => layer.path(),
            Self::View(view) => view.path(),
        }
    }
}

fn most_open() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / PART).unwrap_or(MAX_OPEN).clamp(1, MAX_OPEN)
}

/// The mounts that are open.
#[derive(Debug, Default)]
pub(super) struct Mounted(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    mounts: HashMap<LayerId, (Arc<OwnedFd>, u64)>,
    /// Counts uses; the mount with the oldest one goes first.
    clock: u64,
}

impl Mounted {
    fn get(&self, layer: LayerId, stored: &Path) -> Result<Arc<OwnedFd>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.clock += 1;
        let now = open.clock;
        if let Some((mount, used)) = open.mounts.get_mut(&layer) {
            *used = now;
            return Ok(Arc::clone(mount));
        }
        let mount = Arc::new(mount_layer(stored, stored)?);
        if open.mounts.len() >= most_open()
            && let Some(oldest) = open.mounts.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id)
        {
            open.mounts.remove(&oldest);
        }
        open.mounts.insert(layer, (Arc::clone(&mount), now));
        Ok(mount)
    }

    /// Closes the mounts of layers that are removed.
    pub(super) fn forget(&self, layers: &[LayerId]) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        layers.iter().for_each(|layer| drop(open.mounts.remove(layer)));
    }
}

impl Snapshots {
    /// Whether a layer is a file.
    pub fn is_file(&self, layer: LayerId) -> bool {
        self.folder(layer).is_file()
    }

    /// The tree of a stack, for reading. One layer that hides nothing needs no overlay over it.
    pub fn reading(&self, id: Option<SnapshotId>) -> Result<Reading> {
        let layers = id.map(|id| self.layers(id)).transpose()?.unwrap_or_default();
        if let [only] = layers.as_slice()
            && self.is_file(only.id)
            && is_plain(&self.folder(only.id))?
        {
            return self.layer_tree(only.id).map(Reading::Layer);
        }
        self.view(id).map(Reading::View)
    }

    /// The tree of a layer, for reading.
    pub fn layer_tree(&self, layer: LayerId) -> Result<LayerTree> {
        let stored = self.folder(layer);
        match self.is_file(layer) {
            true => self.mounted.get(layer, &stored).map(LayerTree::File),
            false => Ok(LayerTree::Folder(stored)),
        }
    }
}
