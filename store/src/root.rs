//! Store: everything below one root, opened by one owner.
//!
//! The daemon opens it once and hands it to its services and to the worker.
//!
//! # On disk
//! ```text
//! <root>/lock        flock of the owner          <root>/buildd.db    metadata
//! <root>/content/    blobs and ingests           <root>/layers/, snapshots/, trash/, tmp/
//! <root>/cache-mounts/                           <root>/named/       uppers of clients' snapshots
//! ```

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buildd_fs::{
    lock::{FolderLock, LockError},
    private::{self, PrivateError},
};
use gc_guard::GcGuards;

use crate::{
    cache::{mounts::CacheMounts, results::Results},
    content::Content,
    db::Db,
    digest_lock::DigestLocks,
    disk::{self, sync_dir},
    error::{Error, Result},
    event::Events,
    layer::LayerRules,
    meta::{container::Containers, image::Images, lease::Leases, namespace::Namespaces},
    snapshot::{Snapshots, named::NamedSnapshots},
};

mod gc_guard;

pub use gc_guard::GcGuard;

/// How long a collection waits for an import that a slow client feeds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything below one root.
#[derive(Debug)]
pub struct Store {
    /// Metadata.
    pub db: Arc<Db>,
    /// Blobs.
    pub content: Arc<Content>,
    /// Image names.
    pub images: Images,
    /// Leases.
    pub leases: Leases,
    /// Namespaces and their labels.
    pub namespaces: Namespaces,
    /// What builds made and later builds may use.
    pub results: Results,
    /// Folders of `RUN --mount=type=cache`.
    pub cache_mounts: CacheMounts,
    /// Container records.
    pub containers: Containers,
    /// Layers and mounts.
    pub snapshots: Arc<Snapshots>,
    /// Their names, as containerd's clients see them.
    pub named_snapshots: NamedSnapshots,
    /// Who pulls which blob.
    pub digest_locks: DigestLocks,
    gc_guards: GcGuards,
    round: Mutex<()>,
    root: PathBuf,
    /// Held as long as the store is open.
    _lock: FolderLock,
}

impl Store {
    /// Opens or creates the store; a root that another daemon has is refused.
    pub fn open(root: &Path) -> Result<Arc<Self>> {
        Self::open_with(root, LayerRules::default())
    }

    /// The same; new layers follow the `rules`.
    pub fn open_with(root: &Path, rules: impl Into<LayerRules>) -> Result<Arc<Self>> {
        disk::create_folders(root).map_err(Error::file("create folder", root))?;
        // What images hold (setuid programs among it) must not be reachable for others on this machine.
        private::claim_folder(root, 0o700).map_err(|error| match error {
            PrivateError::File { operation, path, source } => Error::File { operation, path, source },
            PrivateError::NotOurs { path, reason } => {
                Error::Precondition { what: "root", name: path.display().to_string(), reason }
            }
        })?;
        let lock = lock_root(root)?;
        refuse_headless(root)?;
        let db = Arc::new(Db::open(&root.join("buildd.db"))?);
        for private in ["layers", "snapshots", "attached", "named", "cache-mounts", "content"] {
            let path = root.join(private);
            disk::create_folders(&path).map_err(Error::file("create folder", &path))?;
            fs::set_permissions(&path, Permissions::from_mode(0o700))
                .map_err(Error::file("set the mode of", &path))?;
        }
        let snapshots = Snapshots::open(root, db.clone(), rules)?;
        // What is in a folder lasts no longer than the folder's own name.
        sync_dir(root)?;
        sync_dir(root.parent().unwrap_or(root))?;
        Ok(Arc::new(Self {
            content: Arc::new(Content::open(root.join("content"), db.clone())?),
            images: Images::new(db.clone()),
            leases: Leases::new(db.clone()),
            namespaces: Namespaces::new(db.clone()),
            results: Results::new(db.clone()),
            cache_mounts: CacheMounts::open(root, db.clone())?,
            containers: Containers::new(db.clone()),
            named_snapshots: NamedSnapshots::open(root, db.clone(), snapshots.clone())?,
            snapshots,
            db,
            digest_locks: DigestLocks::default(),
            gc_guards: GcGuards::default(),
            round: Mutex::default(),
            root: root.to_owned(),
            _lock: lock,
        }))
    }

    /// Keeps everything as long as the guard lives: for operations that write or find things before they name them.
    pub fn gc_guard(&self) -> GcGuard<'_> {
        self.gc_guards.begin()
    }

    /// Begins a round of collection: one at a time.
    pub(crate) fn begin_round(&self) -> MutexGuard<'_, ()> {
        self.snapshots.cleanup().retry();
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of all operations that keep all now.
    pub(crate) fn wait_for_gc_guards(&self) -> Result<()> {
        self.gc_guards.wait_for_present(PATIENCE).then_some(()).ok_or_else(|| Error::Precondition {
            what: "collection",
            name: self.root.display().to_string(),
            reason: "waits for an import or an export to end: try again".to_owned(),
        })
    }

    /// What happens here.
    pub fn events(&self) -> &Events {
        &self.db.events
    }

    /// The folder that holds it all.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Store {
    /// The root is given up only when nothing is removed in it any more.
    fn drop(&mut self) {
        self.snapshots.cleanup().settle();
    }
}

/// Fails if there are blobs or layers and no database: an empty one would have all of them removed as things that nobody names.
fn refuse_headless(root: &Path) -> Result<()> {
    let database = root.join("buildd.db");
    if fs::metadata(&database).is_ok_and(|meta| meta.len() > 0) {
        return Ok(());
    }
    for folder in ["content/blobs/sha256", "content/blobs/sha512", "layers", "named"] {
        let path = root.join(folder);
        if fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::Precondition {
                what: "database",
                name: database.display().to_string(),
                reason: format!(
                    "is missing or empty, and {folder} is not: put it back, or remove what the root holds to begin anew"
                ),
            });
        }
    }
    Ok(())
}

/// Takes a root for this process; refused if another one has it.
pub(crate) fn lock_root(root: &Path) -> Result<FolderLock> {
    FolderLock::take(root).map_err(|error| match error {
        LockError::Busy { folder: root, holder } => Error::RootInUse { root, holder },
        LockError::File { operation, path, source } => Error::File { operation, path, source },
    })
}

#[cfg(test)]
mod tests {
    use super::Store;
    use crate::Error;

    #[test]
    fn a_root_has_one_owner() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Store::open(dir.path()).expect("a store");
        let second = Store::open(dir.path()).expect_err("a second owner");
        assert!(
            matches!(second, Error::RootInUse { holder: Some(holder), .. } if holder == std::process::id())
        );
        assert!(second.hint().is_some_and(|hint| hint.contains("--root")));
        drop(first);
        Store::open(dir.path()).expect("the root is free again");
    }
}
