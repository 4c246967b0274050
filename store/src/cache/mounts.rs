//! Cache mounts: the folders of `RUN --mount=type=cache`, which outlive builds.
//!
//! A step enters the folder of an id and holds it while it runs; `usage` lists the folders and forgets those that nobody holds.
//!
//! # Invariants
//! The row comes before the folder and goes before it; folders without a row are removed at start. A folder that is held is never removed.
//!
//! # On disk
//! `<root>/cache-mounts/<hash of id>/`

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use buildd_oci::digest::Digest;
use rusqlite::params;

use crate::{
    db::{Db, from_nanos, to_nanos},
    disk::{self, usage},
    error::{Error, Result},
};

/// A folder that outlives builds.
#[derive(Clone, Debug)]
pub struct CacheMount {
    /// Its name on disk.
    pub folder: String,
    /// The id that the Dockerfile gave it.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// When a step began with it last.
    pub used: SystemTime,
    /// How many steps had it.
    pub uses: i64,
    /// Whether a step has it now.
    pub in_use: bool,
    /// Bytes on disk.
    pub size: u64,
}

/// How many steps are in each folder.
type Inside = Arc<Mutex<HashMap<String, usize>>>;

/// The cache mounts of one root.
#[derive(Debug)]
pub struct CacheMounts {
    db: Arc<Db>,
    root: PathBuf,
    inside: Inside,
    /// Sizes that were measured with nobody inside, and after how many uses: they hold until the next one.
    sizes: Mutex<HashMap<String, (i64, u64)>>,
}

/// A cache mount that a step has, as long as this lives.
#[derive(Debug)]
pub struct CacheMountHold {
    inside: Inside,
    folder: String,
}

impl Drop for CacheMountHold {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inside.get_mut(&self.folder) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.folder);
            }
        }
    }
}

impl CacheMounts {
    /// The mounts below `root`; what a crash left half made is removed.
    pub(crate) fn open(root: &Path, db: Arc<Db>) -> Result<Self> {
        let mounts = Self { db, root: root.to_owned(), inside: Arc::default(), sizes: Mutex::default() };
        let known: Vec<String> = mounts.rows()?.into_iter().map(|mount| mount.folder).collect();
        let all = mounts.all();
        fs::create_dir_all(&all).map_err(Error::file("create folder", &all))?;
        for entry in fs::read_dir(&all).map_err(Error::file("list", &all))?.flatten() {
            if !known.iter().any(|folder| entry.file_name() == folder.as_str()) {
                disk::remove_folder(&entry.path()).map_err(Error::file("remove", entry.path()))?;
            }
        }
        Ok(mounts)
    }

    fn all(&self) -> PathBuf {
        self.root.join("cache-mounts")
    }

    /// Where the folder of an id lies.
    pub fn path(&self, id: &str) -> PathBuf {
        self.all().join(Digest::of(id.as_bytes()).hex())
    }

    /// Notes that a step begins with the folder of an id, and keeps it for as long.
    pub fn enter(&self, id: &str) -> Result<CacheMountHold> {
        let folder = Digest::of(id.as_bytes()).hex();
        // What the daemon appends to an id comes after a NUL.
        let name = id.split('\0').next().unwrap_or_default();
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        self.db.write("use a cache mount", |tx| {
            let now = to_nanos(SystemTime::now());
            tx.execute(
                "INSERT INTO cache_mounts (folder, name, created, used, uses) VALUES (?1, ?2, ?3, ?3, 1)
                 ON CONFLICT (folder) DO UPDATE SET used = ?3, uses = uses + 1",
                params![folder, name, now],
            )
        })?;
        *inside.entry(folder.clone()).or_default() += 1;
        Ok(CacheMountHold { inside: self.inside.clone(), folder })
    }

    fn rows(&self) -> Result<Vec<CacheMount>> {
        self.db.read("list cache mounts", |c| {
            let mut rows =
                c.prepare("SELECT folder, name, created, used, uses FROM cache_mounts ORDER BY folder")?;
            let mounts = rows.query_map([], |row| {
                Ok(CacheMount {
                    folder: row.get(0)?,
                    name: row.get(1)?,
                    created: from_nanos(row.get(2)?),
                    used: from_nanos(row.get(3)?),
                    uses: row.get(4)?,
                    in_use: false,
                    size: 0,
                })
            })?;
            mounts.collect()
        })
    }

    /// All of them, with their sizes.
    pub fn list(&self) -> Result<Vec<CacheMount>> {
        let mut mounts = self.rows()?;
        for mount in &mut mounts {
            mount.in_use = self.in_use(&mount.folder);
            let known = self.sizes().get(&mount.folder).filter(|(uses, _)| *uses == mount.uses).copied();
            mount.size = match known {
                Some((_, size)) if !mount.in_use => size,
                _ => usage(&self.all().join(&mount.folder))?.0,
            };
            if !mount.in_use {
                self.sizes().insert(mount.folder.clone(), (mount.uses, mount.size));
            }
        }
        Ok(mounts)
    }

    fn sizes(&self) -> MutexGuard<'_, HashMap<String, (i64, u64)>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_use(&self, folder: &str) -> bool {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).contains_key(folder)
    }

    /// Removes a folder, unless a step has it; whether it went.
    pub(crate) fn remove(&self, folder: &str) -> Result<bool> {
        let trash = self.root.join("trash").join(format!("cache-mount-{:032x}", rand::random::<u128>()));
        {
            let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
            if inside.contains_key(folder) {
                return Ok(false);
            }
            self.db.delete_durable("forget a cache mount", |tx| {
                tx.execute("DELETE FROM cache_mounts WHERE folder = ?", [folder])
            })?;
            self.sizes().remove(folder);
            let path = self.all().join(folder);
            match disk::rename(&path, &trash) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
                moved => moved.map_err(Error::file("discard", &path))?,
            }
        }
        disk::remove_folder(&trash).map_err(Error::file("remove", &trash))?;
        Ok(true)
    }
}
