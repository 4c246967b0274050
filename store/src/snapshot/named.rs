//! Named snapshots: containerd's view of the snapshots, by namespace, snapshotter and name.
//!
//! The Snapshots service translates to this. A row names a stack of layers; several rows may name the same one, because the build cache, an
//! import and a client share what is equal. Names that are chain ids of layers we hold need no row: they are found, and get their row when
//! somebody looks.
//!
//! # Invariants
//! `commit` answers after the layer and the row are durable. Mounts are plain folders, mounted by the client: `overlay` or `bind`. A name
//! with children is not removed. A view is never committed.
//!
//! # On disk
//! `<root>/named/<n>/{fs,work}`: the upper of an active one; of a view, empty.
//!
//! # Sources
//! containerd `core/snapshots/snapshotter.go`, `plugins/snapshots/overlay`; spec containerd-api 1.3 and 2.1.

mod adopt;
mod applied;
mod recover;
mod update;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

use applied::AppliedLayers;
use buildd_api::containerd::containerd::events::{SnapshotCommit, SnapshotPrepare, SnapshotRemove};
use buildd_fs::mounts::Mount;
use buildd_oci::digest::Digest;
use rusqlite::{OptionalExtension, params};

use crate::{
    db::{Db, from_nanos, to_nanos},
    disk::{self, usage},
    error::{Error, Result},
    label::{Labels, labels_of, labels_text},
    snapshot::Snapshots,
};

/// The snapshotters that clients may name. Both are this store.
pub const SNAPSHOTTERS: [&str; 2] = ["overlayfs", "native"];
/// Bytes of a name: it goes into rows and messages, not into paths.
const MAX_NAME: usize = 4096;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tree that is written to.
    Active,
    /// A tree that is only read.
    View,
    /// A tree that never changes.
    Committed,
}

impl Kind {
    /// The word for it, in rows and filters.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::View => "view",
            Self::Committed => "committed",
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "view" => Self::View,
            _ => Self::Committed,
        }
    }
}

/// A named snapshot.
#[derive(Clone, Debug)]
pub struct NamedSnapshot {
    /// Its name; of an active one and a view, its key.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The committed one it stands on, or nothing.
    pub parent: String,
    /// Notes.
    pub labels: Labels,
    /// When it was made.
    pub created: SystemTime,
    /// When it changed last.
    pub updated: SystemTime,
    stack: Option<i64>,
    upper: Option<i64>,
}

/// Where a name is looked for.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Namespace.
    pub ns: String,
    /// Snapshotter, one of `SNAPSHOTTERS`.
    pub snapshotter: String,
}

impl Scope {
    /// A scope; a snapshotter that we do not have is refused.
    pub fn new(ns: &str, snapshotter: &str) -> Result<Self> {
        match SNAPSHOTTERS.contains(&snapshotter) {
            true => Ok(Self { ns: ns.to_owned(), snapshotter: snapshotter.to_owned() }),
            false => Err(Error::Invalid {
                what: "snapshotter",
                name: snapshotter.to_owned(),
                reason: format!("there are {}", SNAPSHOTTERS.join(" and ")),
            }),
        }
    }
}

/// The named snapshots of one root.
#[derive(Debug)]
pub struct NamedSnapshots {
    db: Arc<Db>,
    snapshots: Arc<Snapshots>,
    applied: AppliedLayers,
    folder: PathBuf,
    /// Number of the next upper.
    next: AtomicI64,
}

const COLUMNS: &str = "name, kind, parent, labels, created, updated, snapshot, upper";

impl NamedSnapshots {
    /// The names in this database; folders that no row names are removed.
    pub fn open(root: &Path, db: Arc<Db>, snapshots: Arc<Snapshots>) -> Result<Self> {
        let folder = root.join("named");
        disk::create_folders(&folder).map_err(Error::file("create folder", &folder))?;
        let named =
            Self { db, snapshots, applied: AppliedLayers::default(), folder, next: AtomicI64::new(1) };
        named.recover()?;
        Ok(named)
    }

    /// One of them.
    pub fn stat(&self, scope: &Scope, name: &str) -> Result<NamedSnapshot> {
        if let Some(found) = self.row(scope, name)? {
            return Ok(found);
        }
        let adopted = match name.parse::<Digest>() {
            Ok(chain_id) => self.snapshots.by_chain_id(&chain_id)?,
            Err(_) => None,
        };
        let missing = || Error::NotFound { what: "snapshot", name: name.to_owned() };
        self.adopt(scope, adopted.ok_or_else(missing)?.id())?;
        self.row(scope, name)?.ok_or_else(missing)
    }

    fn row(&self, scope: &Scope, name: &str) -> Result<Option<NamedSnapshot>> {
        let sql =
            format!("SELECT {COLUMNS} FROM named_snapshots WHERE ns = ? AND snapshotter = ? AND name = ?");
        self.db.read("find a named snapshot", |c| {
            c.query_row(&sql, [&scope.ns, &scope.snapshotter, name], read_row).optional()
        })
    }

    /// All of them.
    pub fn list(&self, scope: &Scope) -> Result<Vec<NamedSnapshot>> {
        let sql =
            format!("SELECT {COLUMNS} FROM named_snapshots WHERE ns = ? AND snapshotter = ? ORDER BY name");
        self.db.view("list named snapshots", |c| {
            let mut rows = c.prepare(&sql)?;
            let found = rows.query_map([&scope.ns, &scope.snapshotter], read_row)?;
            found.collect()
        })
    }

    /// Makes a tree to write to, above a committed one or above nothing.
    pub fn prepare(&self, scope: &Scope, key: &str, parent: &str, labels: &Labels) -> Result<Vec<Mount>> {
        self.make(scope, key, parent, labels, Kind::Active)
    }

    /// Makes a tree to read.
    pub fn view(&self, scope: &Scope, key: &str, parent: &str, labels: &Labels) -> Result<Vec<Mount>> {
        self.make(scope, key, parent, labels, Kind::View)
    }

    fn make(
        &self,
        scope: &Scope,
        key: &str,
        parent: &str,
        labels: &Labels,
        kind: Kind,
    ) -> Result<Vec<Mount>> {
        check_name(key)?;
        let stack = self.committed(scope, parent)?;
        let now = to_nanos(SystemTime::now());
        // The folder first: a row is never there without it, a folder without a row goes at the next start.
        let upper = self.next.fetch_add(1, Ordering::Relaxed);
        self.make_upper(upper, stack)?;
        let new = self.db.write("prepare a snapshot", |tx| {
            let labels = labels_text(labels);
            let row = params![
                scope.ns,
                scope.snapshotter,
                key,
                kind.word(),
                parent,
                stack,
                upper,
                labels,
                now,
                now
            ];
            tx.execute("INSERT OR IGNORE INTO named_snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        });
        if !matches!(new, Ok(1)) {
            self.remove_uppers(&[upper])?;
        }
        if new? == 0 {
            return Err(Error::AlreadyExists { what: "snapshot", name: key.to_owned() });
        }
        let made = SnapshotPrepare {
            key: key.to_owned(),
            parent: parent.to_owned(),
            snapshotter: scope.snapshotter.clone(),
        };
        self.db.events.publish(&scope.ns, "/snapshot/prepare", &made);
        self.mounts(scope, key)
    }

    /// The stack of a parent; the empty name is no parent.
    fn committed(&self, scope: &Scope, parent: &str) -> Result<Option<i64>> {
        if parent.is_empty() {
            return Ok(None);
        }
        let below = self.stat(scope, parent)?;
        match below.kind {
            Kind::Committed => Ok(below.stack),
            kind => Err(Error::Invalid {
                what: "parent snapshot",
                name: parent.to_owned(),
                reason: format!("it is {}, not committed", kind.word()),
            }),
        }
    }

    /// The folders of an upper; its root looks like the root below it.
    fn make_upper(&self, upper: i64, stack: Option<i64>) -> Result<()> {
        let dir = self.folder.join(upper.to_string());
        if dir.exists() {
            // Left by a row that a power cut took.
            fs::remove_dir_all(&dir).map_err(Error::file("remove", &dir))?;
        }
        for path in [dir.join("fs"), dir.join("work")] {
            disk::create_folders(&path).map_err(Error::file("create folder", &path))?;
        }
        let fs_dir = dir.join("fs");
        let set = |mode: u32, uid: u32, gid: u32| -> std::io::Result<()> {
            std::os::unix::fs::chown(&fs_dir, Some(uid), Some(gid))?;
            fs::set_permissions(&fs_dir, std::os::unix::fs::PermissionsExt::from_mode(mode))
        };
        let like = match self.lowers(stack)?.first() {
            None => set(0o755, 0, 0),
            Some(lower) => fs::metadata(lower).and_then(|m| set(m.mode() & 0o7777, m.uid(), m.gid())),
        };
        like.map_err(Error::file("prepare", &fs_dir))
    }

    /// The folders of a stack, the nearest first.
    fn lowers(&self, stack: Option<i64>) -> Result<Vec<PathBuf>> {
        let Some(stack) = stack else { return Ok(Vec::new()) };
        let missing = || Error::NotFound { what: "snapshot", name: stack.to_string() };
        let id = self.snapshots.by_number(stack)?.ok_or_else(missing)?;
        let layers = self.snapshots.layers(id)?;
        layers.iter().rev().map(|layer| self.snapshots.layer_path(layer.id)).collect()
    }

    /// How to mount an active one or a view.
    pub fn mounts(&self, scope: &Scope, key: &str) -> Result<Vec<Mount>> {
        let found = self.stat(scope, key)?;
        let Some(upper) = found.upper else {
            return Err(Error::Precondition {
                what: "snapshot",
                name: key.to_owned(),
                reason: "is committed: make a view of it".to_owned(),
            });
        };
        let dir = self.folder.join(upper.to_string());
        let lowers = self.lowers(found.stack)?;
        let text = |path: &Path| path.display().to_string();
        let bind = |source: &Path, access: &str| Mount {
            kind: "bind".to_owned(),
            source: text(source),
            options: vec![access.to_owned(), "rbind".to_owned()],
        };
        let mount = match (found.kind, lowers.as_slice()) {
            (Kind::Active, []) => bind(&dir.join("fs"), "rw"),
            (_, []) => bind(&dir.join("fs"), "ro"),
            (Kind::View, [only]) => bind(only, "ro"),
            (kind, lowers) => {
                let mut options: Vec<String> =
                    ["index=off", "redirect_dir=off", "metacopy=off"].map(str::to_owned).to_vec();
                if kind == Kind::Active {
                    options.push(format!("workdir={}", text(&dir.join("work"))));
                    options.push(format!("upperdir={}", text(&dir.join("fs"))));
                }
                let lowers: Vec<String> = lowers.iter().map(|lower| text(lower)).collect();
                options.push(format!("lowerdir={}", lowers.join(":")));
                Mount { kind: "overlay".to_owned(), source: "overlay".to_owned(), options }
            }
        };
        Ok(vec![mount])
    }

    /// Makes an active one a committed one, durably. The client has it unmounted.
    pub fn commit(&self, scope: &Scope, name: &str, key: &str, labels: &Labels) -> Result<()> {
        check_name(name)?;
        let found = self.stat(scope, key)?;
        let (Kind::Active, Some(upper)) = (found.kind, found.upper) else {
            return Err(Error::Precondition {
                what: "snapshot",
                name: key.to_owned(),
                reason: format!("is {}, not active", found.kind.word()),
            });
        };
        if self.row(scope, name)?.is_some() {
            return Err(Error::AlreadyExists { what: "snapshot", name: name.to_owned() });
        }
        let dir = self.folder.join(upper.to_string());
        if let Err(error) = self.commit_upper(scope, name, key, labels, &found, upper) {
            // The client may mend what is wrong, and commit it then.
            self.give_back(upper)?;
            return Err(error);
        }
        let committed = SnapshotCommit {
            key: key.to_owned(),
            name: name.to_owned(),
            snapshotter: scope.snapshotter.clone(),
        };
        self.db.events.publish(&scope.ns, "/snapshot/commit", &committed);
        disk::remove_folder(&dir).map_err(Error::file("remove", &dir))
    }

    fn commit_upper(
        &self,
        scope: &Scope,
        name: &str,
        key: &str,
        labels: &Labels,
        found: &NamedSnapshot,
        upper: i64,
    ) -> Result<()> {
        let parent = found.stack.map(|stack| self.snapshots.by_number(stack)).transpose()?.flatten();
        let folder = self.folder.join(upper.to_string()).join("fs");
        let diff_id = self.applied.take(upper, &folder)?;
        let held = self.snapshots.commit_upper(parent, &folder, diff_id, Some(upper))?;
        let stack = held.id();
        let chain_id = self.chain(stack)?.and_then(|mut chain| chain.pop()).map(|id| id.to_string());
        self.snapshots.make_durable(stack)?;
        let now = to_nanos(SystemTime::now());
        // Until here nobody else can find the layer.
        let committed = self.db.write_durable("commit a named snapshot", |tx| {
            tx.execute("UPDATE layers SET upper = NULL WHERE upper = ?", [upper])?;
            let chained = "UPDATE OR IGNORE snapshots SET chain_id = ? WHERE id = ?";
            tx.execute(chained, params![chain_id, stack.number()])?;
            tx.execute(
                "UPDATE named_snapshots SET name = ?, kind = 'committed', snapshot = ?, upper = NULL, labels = ?, updated = ?
                 WHERE ns = ? AND snapshotter = ? AND name = ? AND upper = ?",
                params![name, stack.number(), labels_text(labels), now, scope.ns, scope.snapshotter, key, upper],
            )
        })?;
        match committed {
            // Removed or collected meanwhile.
            0 => Err(Error::NotFound { what: "snapshot", name: key.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Notes that `folder` was filled with a layer, if it is the upper of an active snapshot of ours.
    pub fn note_applied(&self, folder: &Path, diff_id: Digest) -> Result<()> {
        let number =
            folder.strip_prefix(&self.folder).ok().and_then(|rest| rest.parent()?.to_str()?.parse().ok());
        number.map_or(Ok(()), |upper| self.applied.note(upper, folder, diff_id))
    }

    /// Removes a name; one that others stand on stays.
    pub fn remove(&self, scope: &Scope, key: &str) -> Result<()> {
        let found = self.row(scope, key)?;
        let found = found.ok_or_else(|| Error::NotFound { what: "snapshot", name: key.to_owned() })?;
        let child: Option<String> = self.db.read("look for children", |c| {
            c.query_row(
                "SELECT name FROM named_snapshots WHERE ns = ? AND snapshotter = ? AND parent = ? LIMIT 1",
                [&scope.ns, &scope.snapshotter, key],
                |row| row.get(0),
            )
            .optional()
        })?;
        if let Some(child) = child {
            return Err(Error::Precondition {
                what: "snapshot",
                name: key.to_owned(),
                reason: format!("is the parent of {child:?}: cannot remove snapshot with child"),
            });
        }
        self.forget(scope, key)?;
        let gone = SnapshotRemove { key: key.to_owned(), snapshotter: scope.snapshotter.clone() };
        self.db.events.publish(&scope.ns, "/snapshot/remove", &gone);
        self.remove_uppers(found.upper.as_slice())
    }

    /// Removes the folders of snapshots whose rows are gone.
    pub(crate) fn remove_uppers(&self, uppers: &[i64]) -> Result<()> {
        for upper in uppers {
            self.applied.forget(*upper);
            let dir = self.folder.join(upper.to_string());
            match disk::remove_folder(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("remove", dir)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn forget(&self, scope: &Scope, name: &str) -> Result<()> {
        self.db.delete_durable("remove a named snapshot", |tx| {
            tx.execute(
                "DELETE FROM named_snapshots WHERE ns = ? AND snapshotter = ? AND name = ?",
                [&scope.ns, &scope.snapshotter, name],
            )
        })?;
        Ok(())
    }

    /// Bytes on disk and inodes of what a snapshot adds to its parent.
    pub fn usage(&self, scope: &Scope, name: &str) -> Result<(u64, u64)> {
        let found = self.stat(scope, name)?;
        match found.upper {
            Some(upper) => usage(&self.folder.join(upper.to_string()).join("fs")),
            None => {
                let top = found.stack.map(|stack| self.snapshots.by_number(stack)).transpose()?.flatten();
                let layers = top.map(|top| self.snapshots.layers(top)).transpose()?.unwrap_or_default();
                layers.last().map_or(Ok((0, 0)), |layer| self.snapshots.layer_usage(layer.id))
            }
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    match name.is_empty() || name.len() > MAX_NAME {
        true => Err(Error::Invalid {
            what: "snapshot",
            name: name.chars().take(64).collect(),
            reason: format!("a name has 1 to {MAX_NAME} bytes"),
        }),
        false => Ok(()),
    }
}

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<NamedSnapshot> {
    let (kind, labels): (String, String) = (row.get(1)?, row.get(3)?);
    Ok(NamedSnapshot {
        name: row.get(0)?,
        kind: Kind::of(&kind),
        parent: row.get(2)?,
        labels: labels_of(&labels),
        created: from_nanos(row.get(4)?),
        updated: from_nanos(row.get(5)?),
        stack: row.get(6)?,
        upper: row.get(7)?,
    })
}

#[cfg(test)]
mod tests;
