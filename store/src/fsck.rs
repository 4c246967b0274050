//! Fsck: whether a root holds what its rows say, and what must go if it does not.
//!
//! `buildd fsck` opens a root that no daemon uses, `check` reads all of it and returns what is wrong, `repair` drops exactly that. Nothing
//! of a root is written by `check`; no migration is run and no leftover removed, as a start of the daemon would.
//!
//! # Invariants
//! What stands on something damaged has a finding of its own, class `Follows`. What a crash may leave and the next start removes is
//! `Leftover`, and no damage; a repair may make some (the layer of a snapshot that went), and removes them in its next round. Rows go in one durable transaction, their files after; so a repair that is
//! cut off is taken up by the next one.
//!
//! Not looked at: `tmp`, `trash`, `snapshots`, `attached` (emptied by each start) and `git` (checked by git, fetched anew at need).
//!
//! # Sources
//! design storage.md; spec attacks 1.3, O4.

mod blobs;
mod cache;
mod database;
mod files;
mod layers;
mod names;
mod rows;
mod stacks;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_fs::lock::FolderLock;
use rows::Rows;
use rusqlite::types::Value;

use crate::{
    db::{Db, Existing},
    disk::sync_dir,
    error::{Error, Result},
    root::lock_root,
    snapshot::boot_id,
};

/// Rounds of checking and mending: the second one is there for what a salvaged database shows, more would be an error of ours.
const MAX_ROUNDS: usize = 4;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It is not what it was.
    Damage,
    /// It is as it was, but stands on something damaged.
    Follows,
    /// What a crash may leave: nothing needs it.
    Leftover,
}

impl Class {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Follows => "follows",
            Self::Leftover => "leftover",
        }
    }

    /// The class of what stands on something of this class.
    fn above(self) -> Self {
        match self {
            Self::Damage | Self::Follows => Self::Follows,
            Self::Leftover => Self::Leftover,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad it is.
    pub class: Class,
    /// What it is: "blob", "layer", …
    pub what: &'static str,
    /// Which.
    pub subject: String,
    /// What is wrong with it.
    pub detail: String,
    /// What `repair` does about it, in this order, rows before files.
    fixes: Vec<Fix>,
}

/// A step of mending.
#[derive(Clone, Debug)]
enum Fix {
    /// A statement that deletes or corrects rows.
    Row(&'static str, Vec<Value>),
    /// A file or folder that goes.
    Remove(PathBuf),
    /// The database is made anew from the rows that can still be read.
    Salvage,
}

/// A root that no daemon uses, held for as long as this lives.
#[derive(Debug)]
pub struct Fsck {
    root: PathBuf,
    boot: String,
    _lock: FolderLock,
}

/// What a check gathers.
struct Check<'a> {
    root: &'a Path,
    rows: Rows,
    /// Snapshots that the next start drops.
    unsynced: BTreeSet<i64>,
    findings: Vec<Finding>,
    gone: Gone,
}

/// What is damaged or stands on damage, by now.
#[derive(Debug, Default)]
struct Gone {
    /// With the class of what stands on them.
    layers: BTreeMap<i64, Class>,
    snapshots: BTreeMap<i64, Class>,
    /// Blobs whose bytes are lost for all namespaces.
    blobs: BTreeSet<String>,
    /// Rows of blobs that go for their own sake: namespace and digest.
    blob_rows: BTreeSet<(String, String)>,
}

impl Fsck {
    /// Takes the root's lock; refused if a daemon has it, or if there is no root.
    pub fn open(root: &Path) -> Result<Self> {
        let database = root.join("buildd.db");
        if !database.is_file() {
            let reason = match fs::symlink_metadata(root) {
                Err(error) => return Err(Error::file("look at", root)(error)),
                Ok(_) => {
                    "is missing: it is no root of buildd, or its database was removed; nothing is changed"
                }
            };
            return Err(Error::Precondition {
                what: "database",
                name: database.display().to_string(),
                reason: reason.to_owned(),
            });
        }
        let lock = lock_root(root)?;
        Ok(Self { root: root.to_owned(), boot: boot_id()?, _lock: lock })
    }

    /// Reads everything; what is wrong.
    pub fn check(&self) -> Result<Vec<Finding>> {
        let db = self.database()?;
        if let Some(finding) = database::check(&db, &self.root)? {
            return Ok(vec![finding]);
        }
        let rows = Rows::load(&db)?;
        let unsynced = rows.unsynced(&self.boot);
        let mut check =
            Check { root: &self.root, rows, unsynced, findings: Vec::new(), gone: Gone::default() };
        check.layers()?;
        check.blobs()?;
        check.snapshots();
        check.named_snapshots();
        check.images()?;
        check.cache(&db)?;
        check.names(&db)?;
        check.counters(&db)?;
        check.files(&db)?;
        check.findings.sort_by_key(|finding| finding.class);
        Ok(check.findings)
    }

    /// Drops what is wrong, and all that stands on it; what that was.
    pub fn repair(&self) -> Result<Vec<Finding>> {
        let mut mended = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let findings = self.check()?;
            if findings.is_empty() {
                return Ok(mended);
            }
            self.mend(&findings)?;
            mended.extend(findings);
        }
        Err(Error::Precondition {
            what: "root",
            name: self.root.display().to_string(),
            reason: format!("still has findings after {MAX_ROUNDS} rounds of repair"),
        })
    }

    fn mend(&self, findings: &[Finding]) -> Result<()> {
        let fixes = || findings.iter().flat_map(|finding| &finding.fixes);
        if fixes().any(|fix| matches!(fix, Fix::Salvage)) {
            return database::salvage(&self.root);
        }
        self.database()?.write_durable("drop damaged rows", |tx| {
            tx.pragma_update(None, "defer_foreign_keys", "ON")?;
            for fix in fixes() {
                if let Fix::Row(sql, values) = fix {
                    tx.execute(sql, rusqlite::params_from_iter(values))?;
                }
            }
            Ok(())
        })?;
        for fix in fixes() {
            let Fix::Remove(path) = fix else { continue };
            remove(path)?;
            sync_dir(path.parent().unwrap_or(&self.root))?;
        }
        Ok(())
    }

    fn database(&self) -> Result<Arc<Db>> {
        Ok(Arc::new(Db::open_existing(&self.root.join("buildd.db"), Existing::AsItIs)?))
    }
}

impl Check<'_> {
    fn report(
        &mut self,
        class: Class,
        what: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
        fixes: Vec<Fix>,
    ) {
        self.findings.push(Finding { class, what, subject: subject.into(), detail: detail.into(), fixes });
    }

    /// A path of the root as findings name it.
    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).display().to_string()
    }
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
