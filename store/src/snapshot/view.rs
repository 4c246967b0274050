//! View: snapshots to be read as one tree, for exports, mounts and whoever looks inside.
//!
//! A view of several snapshots has each in a folder of its own: what several platforms look like side by side.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_fs::overlay::{MountGuard, Overlay};

use super::{Lowers, SnapshotId, Snapshots};
use crate::{
    cleanup::Cleanup,
    error::{Error, Result},
};

/// Read-only mounts that end with this value, soon after: the store's cleanup takes them down, whatever thread drops it.
#[derive(Debug)]
pub struct View {
    mounts: Vec<MountGuard>,
    dir: PathBuf,
    cleanup: Arc<Cleanup>,
}

impl Snapshots {
    /// Mounts a snapshot read-only; None is the empty tree.
    pub fn view(&self, id: Option<SnapshotId>) -> Result<View> {
        let mut view = self.empty_view()?;
        self.show(&mut view, &PathBuf::from("mount"), id)?;
        Ok(view)
    }

    /// Mounts several snapshots read-only, each in the folder of its name.
    pub fn view_each(&self, trees: &[(String, Option<SnapshotId>)]) -> Result<View> {
        let mut view = self.empty_view()?;
        for (name, id) in trees {
            self.show(&mut view, &Path::new("mount").join(name), *id)?;
        }
        Ok(view)
    }

    /// Mounts these folders on top of each other read-only, the nearest first.
    pub fn view_of(&self, lowers: Vec<PathBuf>) -> Result<View> {
        let mut view = self.empty_view()?;
        view.add(Path::new("mount"), lowers)?;
        Ok(view)
    }

    fn empty_view(&self) -> Result<View> {
        let dir = self.root.join("snapshots").join(self.number().to_string());
        fs::create_dir_all(dir.join("mount")).map_err(Error::file("create folder", &dir))?;
        Ok(View { mounts: Vec::new(), dir, cleanup: Arc::clone(self.cleanup()) })
    }

    fn show(&self, view: &mut View, place: &Path, id: Option<SnapshotId>) -> Result<()> {
        let Lowers { paths, mounts: _until_taken } = self.lowers(id)?;
        view.add(place, paths)
    }
}

impl View {
    /// The tree.
    pub fn path(&self) -> PathBuf {
        self.dir.join("mount")
    }

    fn add(&mut self, place: &Path, mut lowers: Vec<PathBuf>) -> Result<()> {
        let empty = self.dir.join("empty");
        // overlayfs wants at least two lower folders where there is no upper one.
        while lowers.len() < 2 {
            lowers.push(empty.join(lowers.len().to_string()));
            fs::create_dir_all(&lowers[lowers.len() - 1]).map_err(Error::file("create folder", &empty))?;
        }
        let overlay = Overlay { lowers, upper: None };
        self.mounts.push(MountGuard::overlay(&overlay, &self.dir.join(place))?);
        Ok(())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let (mounts, dir) = (std::mem::take(&mut self.mounts), std::mem::take(&mut self.dir));
        self.cleanup.discard(dir, move || drop(mounts));
    }
}
