//! Active: a snapshot to be written, which becomes the next layer.
//!
//! It is an overlay whose upper folder is that layer. Only steps and clients need a path to it; what this process writes itself goes through a mount
//! that has none, or, with nothing below, straight into the upper folder.
//! Dropped, it is unmounted and removed by the store's cleanup, whatever thread drops it.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_fs::{
    overlay::{MountGuard, Overlay, stacked},
    path::through,
};

use super::{Lowers, SnapshotId, SnapshotPin, Snapshots, mounted::LayerTree};
use crate::error::{Error, Result};

/// A writable mount; committed or discarded, it ends.
#[derive(Debug)]
pub struct Active {
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) parent: Option<SnapshotId>,
    tree: ActiveTree,
    dir: PathBuf,
}

/// Where an active is seen.
#[derive(Debug)]
enum ActiveTree {
    /// At a path, by everybody.
    Attached(MountGuard),
    /// By this process.
    Detached(OwnedFd),
    /// In its upper folder: there is nothing below.
    Upper,
}

impl Active {
    /// The tree.
    pub fn path(&self) -> PathBuf {
        match &self.tree {
            ActiveTree::Attached(mount) => mount.path().to_owned(),
            ActiveTree::Detached(mount) => through(mount),
            ActiveTree::Upper => self.dir.join("fs"),
        }
    }

    /// Makes what was written the next layer.
    pub fn commit(mut self) -> Result<SnapshotPin> {
        if let ActiveTree::Attached(mount) = std::mem::replace(&mut self.tree, ActiveTree::Upper) {
            mount.close()?;
        }
        self.snapshots.commit_folder(self.parent, &self.dir.join("fs"), None)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let (tree, dir) =
            (std::mem::replace(&mut self.tree, ActiveTree::Upper), std::mem::take(&mut self.dir));
        self.snapshots.cleanup().discard(dir, move || drop(tree));
    }
}

impl Snapshots {
    /// Mounts a snapshot for writing.
    pub fn active(self: &Arc<Self>, parent: Option<SnapshotId>) -> Result<Active> {
        let mut active = self.upper(parent)?;
        let (overlay, _until_taken) = self.overlay(&active)?;
        active.tree = ActiveTree::Attached(MountGuard::overlay(&overlay, &active.dir.join("mount"))?);
        Ok(active)
    }

    /// The same where nobody but this process looks at it.
    pub(super) fn active_here(self: &Arc<Self>, parent: Option<SnapshotId>) -> Result<Active> {
        if parent.is_none() {
            return self.upper(None);
        }
        if !self.form.detached {
            return self.active(parent);
        }
        let mut active = self.upper(parent)?;
        let (overlay, _until_taken) = self.overlay(&active)?;
        active.tree = ActiveTree::Detached(stacked(&overlay, &active.dir)?);
        Ok(active)
    }

    fn upper(self: &Arc<Self>, parent: Option<SnapshotId>) -> Result<Active> {
        let dir = self.root.join("snapshots").join(self.number().to_string());
        let upper = dir.join("fs");
        fs::create_dir_all(&upper).map_err(Error::file("create folder", &upper))?;
        Ok(Active { snapshots: self.clone(), parent, tree: ActiveTree::Upper, dir })
    }

    /// What an active is seen through; the mounts of what lies below hold until it is mounted.
    fn overlay(&self, active: &Active) -> Result<(Overlay, Vec<LayerTree>)> {
        let Lowers { paths: mut lowers, mounts } = self.lowers(active.parent)?;
        let (upper, work, empty) = (active.dir.join("fs"), active.dir.join("work"), active.dir.join("empty"));
        let create = |path: &Path| fs::create_dir(path).map_err(Error::file("create folder", path));
        create(&work)?;
        if lowers.is_empty() {
            create(&empty)?;
            lowers.push(empty);
        }
        Ok((Overlay { lowers, upper: Some((upper, work)) }, mounts))
    }
}
