//! Snapshots: stacks of layers, and the mounts through which steps and clients see them.
//!
//! A snapshot is a row (parent, layer); several may share a layer. Its layers, lowest first, are what an image is made
//! of. An `Active` is the one writable form: an overlay whose upper folder becomes the next layer.
//!
//! # On disk
//! ```text
//! layers/<id>          a layer, a file or a folder, never written again
//! layers/<id>.data     the external data of the layer file (`layer/external.rs`)
//! attached/<id>/       a layer file, mounted for clients
//! snapshots/<n>/       fs, work, mount: of an active; mount, or one below it for each tree: of a view
//! trash/, tmp/         emptied at start
//! ```
//!
//! # Invariants
//! A row is written after its layer's folder is complete. Rows carry the boot and `durable`; `make_durable` syncs the
//! files first and commits with FULL then, ancestors included. At start rows of another boot that are not durable go,
//! with all that stands on them: a committed snapshot is never hollow.
//!
//! # Sources
//! design storage.md; containerd `core/snapshots`.

use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use attach::{Attached, Lowers};
use buildd_fs::overlay::sweep;
use buildd_oci::{compress::Growth, digest::Digest};
use mounted::Mounted;
use pin::{Counts, Pinned};
use rusqlite::{OptionalExtension, params};
use rustix::fs::statvfs;

use crate::{
    cleanup::Cleanup,
    db::{Db, from_nanos, to_nanos},
    disk::{self, usage},
    error::{Error, Result},
    layer::{LayerId, LayerRules, Probed, data_file_of, probe},
};

mod active;
mod attach;
mod draft;
mod durable;
mod mounted;
pub mod named;
mod pin;
mod recover;
mod stream;
mod view;

pub use active::Active;
pub use draft::{Draft, Present};
pub use mounted::{LayerTree, Reading};
pub use pin::SnapshotPin;
pub use view::View;

/// The part of a disk's bytes or inodes that is little room.
const LITTLE: u64 = 16;

/// Which rows of `layers` nothing needs: no stack, no blob that has its only copy there, no client's snapshot whose upper it may become again.
pub(crate) const UNUSED_LAYER: &str = "NOT EXISTS (SELECT 1 FROM snapshots WHERE layer = layers.id)
    AND NOT (blob = 1 AND EXISTS (SELECT 1 FROM blobs WHERE digest = diff_id)) AND upper IS NULL";

/// A committed stack of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(i64);

impl SnapshotId {
    #[cfg(test)]
    pub(crate) fn of_row(number: i64) -> Self {
        Self(number)
    }

    /// The row's number, for records that name a snapshot.
    pub fn number(self) -> i64 {
        self.0
    }
}

/// A layer of a snapshot.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Which.
    pub id: LayerId,
    /// Its diff_id, once something computed it.
    pub diff_id: Option<Digest>,
}

/// The snapshots of one root.
#[derive(Debug)]
pub struct Snapshots {
    root: PathBuf,
    db: Arc<Db>,
    boot: String,
    next: AtomicU64,
    /// Stacks that somebody works with, and how many do.
    pinned: Arc<Pinned>,
    /// Layer files that are mounted for clients.
    attached: Attached,
    /// Layer files that are mounted for ourselves.
    mounted: Mounted,
    /// The form of new layers.
    form: Probed,
    /// What a compressed layer may unpack to.
    growth: Growth,
    /// Ends mounts and removes folders that are used no more.
    cleanup: Arc<Cleanup>,
    /// Opened at start, so that the kernel reports later write errors through it.
    disk: File,
}

impl Snapshots {
    /// Opens the snapshots below `root`; the caller holds the root's lock. New layers follow the `rules`.
    pub fn open(root: &Path, db: Arc<Db>, rules: impl Into<LayerRules>) -> Result<Arc<Self>> {
        let LayerRules { form, growth } = rules.into();
        for folder in ["layers", "snapshots", "attached", "trash", "tmp"] {
            let path = root.join(folder);
            disk::create_folders(&path).map_err(Error::file("create folder", &path))?;
        }
        sweep(&root.join("snapshots"))?;
        for folder in ["snapshots", "trash", "tmp"] {
            empty(&root.join(folder))?;
        }
        let disk = File::open(root).map_err(Error::file("open", root))?;
        let snapshots = Self {
            root: root.to_owned(),
            db,
            boot: boot_id()?,
            next: AtomicU64::new(1),
            pinned: Arc::default(),
            attached: Attached::adopt(&root.join("attached"))?,
            mounted: Mounted::default(),
            form: probe(form, &root.join("tmp"))?,
            growth,
            cleanup: Arc::new(Cleanup::new(&root.join("trash"))),
            disk,
        };
        snapshots.detach_unneeded()?;
        snapshots.remove_points()?;
        snapshots.drop_hollow()?;
        Ok(Arc::new(snapshots))
    }

    /// What ends mounts and removes folders where nobody waits for it.
    pub fn cleanup(&self) -> &Arc<Cleanup> {
        &self.cleanup
    }

    /// Waits until what was discarded is removed, if the disk has little room left: who is told that it is full may try again at once.
    pub fn settle_if_scarce(&self) {
        let short = |free: u64, all: u64| free < all / LITTLE;
        let scarce = statvfs(&self.root)
            .is_ok_and(|disk| short(disk.f_bavail, disk.f_blocks) || short(disk.f_favail, disk.f_files));
        if scarce {
            self.cleanup.settle();
        }
    }

    /// Moves a folder out of sight, then removes it.
    fn discard(&self, path: &Path) -> Result<()> {
        let trash = self.root.join("trash").join(self.number().to_string());
        disk::rename(path, &trash).map_err(Error::file("discard", path))?;
        remove(&trash)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn folder(&self, layer: LayerId) -> PathBuf {
        self.root.join("layers").join(layer.0.to_string())
    }

    /// A fresh folder that becomes a layer with `commit_folder`, or goes with the value.
    pub fn scratch(&self) -> Result<Scratch> {
        let scratch = self.scratch_file();
        disk::create_folders(scratch.path()).map_err(Error::file("create folder", scratch.path()))?;
        Ok(scratch)
    }

    /// Whether new layers are files.
    pub fn makes_files(&self) -> bool {
        self.form.files
    }

    /// What a compressed layer may unpack to.
    pub fn growth(&self) -> Growth {
        self.growth
    }

    /// Where a layer is stored, in its form.
    pub fn stored(&self, layer: LayerId) -> PathBuf {
        self.folder(layer)
    }

    /// The same, where a layer file is to be written.
    pub fn scratch_file(&self) -> Scratch {
        Scratch { path: self.root.join("tmp").join(self.number().to_string()) }
    }

    /// Makes `folder` (directory form, on this root) the layer above `parent`.
    pub fn commit_folder(
        &self,
        parent: Option<SnapshotId>,
        folder: &Path,
        diff_id: Option<Digest>,
    ) -> Result<SnapshotPin> {
        self.commit_upper(parent, folder, diff_id, None)
    }

    /// The same of a folder that is the upper of a client's snapshot: it is noted until that has its name.
    pub(crate) fn commit_upper(
        &self,
        parent: Option<SnapshotId>,
        folder: &Path,
        diff_id: Option<Digest>,
        upper: Option<i64>,
    ) -> Result<SnapshotPin> {
        let mut held = self.pinned.lock();
        let layer = self.db.write("reserve a layer", |tx| {
            let diff_id = diff_id.map(|digest| digest.to_string());
            tx.execute(
                "INSERT INTO layers (diff_id, size, boot, durable, upper) VALUES (?, 0, ?, 0, ?)",
                params![diff_id, self.boot, upper],
            )?;
            Ok(LayerId(tx.last_insert_rowid()))
        })?;
        let target = self.folder(layer);
        let (data_file, place) = (data_file_of(folder), data_file_of(&target));
        if data_file.exists() {
            disk::rename(&data_file, &place).map_err(Error::file("publish", &place))?;
        }
        disk::rename(folder, &target).map_err(Error::file("publish", &target))?;
        self.insert(parent, layer, &mut held)
    }

    /// Holds a stack, so that no collection takes it while the value lives.
    pub fn pin(&self, id: SnapshotId) -> Result<SnapshotPin> {
        let hold = SnapshotPin::new(&self.pinned, &mut self.pinned.lock(), id);
        match self.by_number(id.0)? {
            Some(_) => Ok(hold),
            None => Err(Error::NotFound { what: "snapshot", name: id.0.to_string() }),
        }
    }

    /// Works while nobody can pin a stack; given are the numbers of those that are pinned.
    pub(crate) fn while_pinned<T>(&self, work: impl FnOnce(&HashSet<i64>) -> T) -> T {
        let held = self.pinned.lock();
        let numbers: HashSet<i64> = held.keys().map(|id| id.0).collect();
        work(&numbers)
    }

    /// Removes the folders of layers whose rows are gone.
    pub(crate) fn remove_layers(&self, layers: &[LayerId]) -> Result<()> {
        self.detach_layers(layers)?;
        self.mounted.forget(layers);
        layers.iter().try_for_each(|layer| {
            let stored = self.folder(*layer);
            let data_file = data_file_of(&stored);
            self.discard(&stored)?;
            if data_file.exists() { self.discard(&data_file) } else { Ok(()) }
        })
    }

    /// A snapshot of `layer` above `parent`; whoever calls holds both.
    pub fn stack(&self, parent: Option<SnapshotId>, layer: LayerId) -> Result<SnapshotPin> {
        self.insert(parent, layer, &mut self.pinned.lock())
    }

    fn insert(&self, parent: Option<SnapshotId>, layer: LayerId, held: &mut Counts) -> Result<SnapshotPin> {
        let id = self.db.write("commit a snapshot", |tx| {
            tx.execute(
                "INSERT INTO snapshots (parent, layer, boot, durable, created) VALUES (?, ?, ?, 0, ?)",
                params![parent.map(|p| p.0), layer.0, self.boot, to_nanos(SystemTime::now())],
            )?;
            Ok(SnapshotId(tx.last_insert_rowid()))
        })?;
        Ok(SnapshotPin::new(&self.pinned, held, id))
    }

    /// The layers of a snapshot, lowest first.
    pub fn layers(&self, id: SnapshotId) -> Result<Vec<Layer>> {
        let rows: Vec<(i64, Option<String>)> = self.db.read("read a snapshot", |c| {
            let mut rows = c.prepare(
                "WITH RECURSIVE up(id, parent, layer, depth) AS (
                    SELECT id, parent, layer, 0 FROM snapshots WHERE id = ?
                    UNION ALL SELECT s.id, s.parent, s.layer, depth + 1 FROM snapshots s JOIN up ON s.id = up.parent)
                 SELECT l.id, l.diff_id FROM up JOIN layers l ON l.id = up.layer ORDER BY depth DESC",
            )?;
            let layers = rows.query_map([id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
            layers.collect()
        })?;
        if rows.is_empty() {
            return Err(Error::NotFound { what: "snapshot", name: id.0.to_string() });
        }
        rows.into_iter()
            .map(|(id, diff_id)| {
                let diff_id = diff_id.map(|text| text.parse()).transpose()?;
                Ok(Layer { id: LayerId(id), diff_id })
            })
            .collect()
    }

    /// A snapshot and those below it, lowest first: one for each of its layers.
    pub fn ancestors(&self, id: SnapshotId) -> Result<Vec<SnapshotId>> {
        self.db.read("read a snapshot", |c| {
            let mut rows = c.prepare(
                "WITH RECURSIVE up(id, parent, depth) AS (
                    SELECT id, parent, 0 FROM snapshots WHERE id = ?
                    UNION ALL SELECT s.id, s.parent, depth + 1 FROM snapshots s JOIN up ON s.id = up.parent)
                 SELECT id FROM up ORDER BY depth DESC",
            )?;
            let ids = rows.query_map([id.0], |row| row.get(0).map(SnapshotId))?;
            ids.collect()
        })
    }

    /// Bytes on disk of a layer; looked up once, for a layer never changes.
    pub fn layer_size(&self, layer: LayerId) -> Result<u64> {
        let known: Option<i64> = self.db.read("read a layer's size", |c| {
            c.query_row("SELECT size FROM layers WHERE id = ?", [layer.0], |row| row.get(0)).optional()
        })?;
        match known {
            Some(0) => {}
            known => return Ok(known.unwrap_or_default().unsigned_abs()),
        }
        let stored = self.folder(layer);
        // Its external data is the client's, too, as long as that is there, and its own alone later.
        let (size, _) = usage(&stored)?;
        let size = size + usage(&data_file_of(&stored))?.0;
        self.db.write("note a layer's size", |tx| {
            tx.execute("UPDATE layers SET size = ? WHERE id = ?", params![size.cast_signed(), layer.0])
        })?;
        Ok(size)
    }

    /// Notes the diff_id that an export computed.
    pub fn set_diff_id(&self, layer: LayerId, diff_id: &Digest) -> Result<()> {
        self.db.write("note a diff_id", |tx| {
            tx.execute("UPDATE layers SET diff_id = ? WHERE id = ?", params![diff_id.to_string(), layer.0])
        })?;
        Ok(())
    }

    /// The snapshot of a row's number, if it is still there.
    pub fn by_number(&self, number: i64) -> Result<Option<SnapshotId>> {
        self.db.read("find a snapshot", |c| {
            c.query_row("SELECT id FROM snapshots WHERE id = ?", [number], |row| row.get(0).map(SnapshotId))
                .optional()
        })
    }

    /// When a snapshot was made.
    pub fn created(&self, id: SnapshotId) -> Result<SystemTime> {
        self.db.read("read a snapshot", |c| {
            c.query_row("SELECT created FROM snapshots WHERE id = ?", [id.0], |row| {
                row.get(0).map(from_nanos)
            })
        })
    }

    /// The snapshot that an image's chain id names.
    pub fn by_chain_id(&self, chain_id: &Digest) -> Result<Option<SnapshotPin>> {
        let found = self.db.read("find a chain id", |c| {
            c.query_row("SELECT id FROM snapshots WHERE chain_id = ?", [chain_id.to_string()], |row| {
                row.get(0).map(SnapshotId)
            })
            .optional()
        })?;
        match found.map(|id| self.pin(id)).transpose() {
            // Collected this very moment.
            Err(Error::NotFound { .. }) => Ok(None),
            held => held,
        }
    }

    /// Names a snapshot by its chain id; the first one keeps the name.
    pub fn set_chain_id(&self, id: SnapshotId, chain_id: &Digest) -> Result<()> {
        self.db.write("name a snapshot", |tx| {
            tx.execute(
                "UPDATE OR IGNORE snapshots SET chain_id = ? WHERE id = ?",
                params![chain_id.to_string(), id.0],
            )
        })?;
        Ok(())
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        if let Err(error) = self.detach_unneeded() {
            tracing::warn!(root = %self.root.display(), %error, "unmount layers");
        }
    }
}

/// What tells this run of the kernel from all others.
pub(crate) fn boot_id() -> Result<String> {
    let file = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(file).map_err(Error::file("read", file))?.trim().to_owned())
}

fn empty(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::file("list", dir))?.flatten() {
        remove(&entry.path())?;
    }
    Ok(())
}

/// A fresh folder or layer file; what did not become a layer is removed with it, so that a failure leaves the disk as it was.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for path in [data_file_of(&self.path), self.path.clone()] {
            if fs::symlink_metadata(&path).is_ok()
                && let Err(error) = remove(&path)
            {
                tracing::warn!(path = %path.display(), %error, "remove scratch");
            }
        }
    }
}

/// Removes a layer, whichever form it has.
fn remove(path: &Path) -> Result<()> {
    let gone = if path.is_dir() { disk::remove_folder(path) } else { disk::remove_file(path) };
    gone.map_err(Error::file("remove", path))
}

#[cfg(test)]
pub(crate) mod tests;
