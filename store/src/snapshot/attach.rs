//! Attach: layers at paths, for whoever is told paths.
//!
//! A layer that is a folder lies at its own. A layer file is mounted at one, for clients of `Snapshots`; for steps and views only where the
//! kernel's overlay takes no mount without a place.
//!
//! # On disk
//! `<root>/attached/<id>`: a mount point, kept as long as a client's active snapshot or view descends from the layer; adopted from mountinfo at
//! start.
//!
//! # Concurrency
//! One mutex over the set of attached layers, locked before the database; a mount takes well below a millisecond.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use buildd_fs::overlay::{OverlayError, attach, detach, points_below};

use super::{LayerTree, SnapshotId, Snapshots};
use crate::{
    disk::usage,
    error::{Error, Result},
    layer::{LayerId, mount_layer},
};

/// The layers that have a place in the tree.
#[derive(Debug, Default)]
pub(super) struct Attached(Mutex<BTreeSet<i64>>);

impl Attached {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that an earlier daemon left mounted below `dir`.
    pub(super) fn adopt(dir: &Path) -> Result<Self> {
        let points = points_below(dir)?;
        let number = |point: &PathBuf| point.strip_prefix(dir).ok()?.to_str()?.parse().ok();
        Ok(Self(Mutex::new(points.iter().filter_map(number).collect())))
    }
}

/// The layers of a stack as trees, the nearest first.
#[derive(Debug, Default)]
pub(super) struct Lowers {
    pub(super) paths: Vec<PathBuf>,
    /// Open until the overlay has taken them.
    pub(super) mounts: Vec<LayerTree>,
}

impl Snapshots {
    /// The tree of a layer, at a path that holds until the layer is collected or the daemon ends.
    pub fn layer_path(&self, layer: LayerId) -> Result<PathBuf> {
        let stored = self.folder(layer);
        if stored.is_dir() {
            return Ok(stored);
        }
        let target = self.place(layer.0);
        let mut attached = self.attached.lock();
        if !attached.contains(&layer.0) {
            fs::create_dir_all(&target).map_err(Error::file("create folder", &target))?;
            let mount = mount_layer(&stored, &target)?;
            attach(&mount, &target).map_err(OverlayError::mount("layer", &target))?;
            attached.insert(layer.0);
        }
        Ok(target)
    }

    fn place(&self, layer: i64) -> PathBuf {
        self.root.join("attached").join(layer.to_string())
    }

    /// The trees of a stack for an overlay.
    pub(super) fn lowers(&self, id: Option<SnapshotId>) -> Result<Lowers> {
        let mut lowers = Lowers::default();
        let Some(id) = id else { return Ok(lowers) };
        for layer in self.layers(id)?.iter().rev() {
            if self.form.detached {
                let tree = self.layer_tree(layer.id)?;
                lowers.paths.push(tree.path());
                lowers.mounts.push(tree);
            } else {
                lowers.paths.push(self.layer_path(layer.id)?);
            }
        }
        Ok(lowers)
    }

    /// Blocks and inodes that a layer takes on disk.
    pub fn layer_usage(&self, layer: LayerId) -> Result<(u64, u64)> {
        usage(&self.folder(layer))
    }

    /// Takes layers out of the tree; whoever has them mounted keeps them.
    pub(super) fn detach_layers(&self, layers: &[LayerId]) -> Result<()> {
        let mut attached = self.attached.lock();
        for layer in layers {
            if attached.remove(&layer.0) {
                detach(&self.place(layer.0))?;
            }
        }
        Ok(())
    }

    /// Takes those out that nobody works with, and no active snapshot and no view of a client descends from.
    pub(crate) fn detach_unneeded(&self) -> Result<()> {
        let held = self.while_pinned(HashSet::clone);
        let mut attached = self.attached.lock();
        if attached.is_empty() {
            return Ok(());
        }
        let needed: BTreeSet<i64> = self.db.read("find the layers of clients", |c| {
            let mut rows = c.prepare(
                "WITH RECURSIVE up(id) AS (
                    SELECT snapshot FROM named_snapshots WHERE kind <> 'committed' AND snapshot IS NOT NULL
                    UNION SELECT value FROM json_each(?)
                    UNION SELECT s.parent FROM snapshots s JOIN up ON s.id = up.id WHERE s.parent IS NOT NULL)
                 SELECT layer FROM snapshots WHERE id IN (SELECT id FROM up)",
            )?;
            let held = serde_json::to_string(&held).expect("numbers have a JSON form");
            let layers = rows.query_map([held], |row| row.get(0))?;
            layers.collect()
        })?;
        let gone: Vec<i64> = attached.difference(&needed).copied().collect();
        for layer in gone {
            attached.remove(&layer);
            detach(&self.place(layer))?;
        }
        Ok(())
    }

    /// Removes mount points that a crash left.
    pub(super) fn remove_points(&self) -> Result<()> {
        let dir = self.root.join("attached");
        for entry in fs::read_dir(&dir).map_err(Error::file("list", &dir))?.flatten() {
            // A mount point that is in use is busy and stays; all others are empty.
            let _ = fs::remove_dir(entry.path());
        }
        Ok(())
    }
}
