//! Leases: what keeps things that nothing refers to yet from collection.
//!
//! A client creates one before it writes, names it in its calls, and deletes it when its image or container refers to
//! what it wrote. An expired lease counts for nothing.
//!
//! # Sources
//! containerd `core/leases`; spec containerd-api 6.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use buildd_oci::{digest::Digest, time};
use rusqlite::{Connection, params};

use crate::{
    db::{Db, from_nanos, to_nanos},
    error::{Error, Result},
    label::{Labels, labels_of, labels_text},
};

/// Label of a lease with the time at which it ends by itself.
pub(crate) const EXPIRE: &str = "containerd.io/gc.expire";

/// A lease.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its id; may contain slashes.
    pub id: String,
    /// Notes; `containerd.io/gc.expire` ends it.
    pub labels: Labels,
    /// When it was made.
    pub created: SystemTime,
}

/// Something that a lease holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `content`, `ingests`, `images` or `snapshots/<snapshotter>`.
    pub kind: String,
    /// Its digest, ref, name or key.
    pub id: String,
}

/// The leases of all namespaces.
#[derive(Clone, Debug)]
pub struct Leases {
    db: Arc<Db>,
}

/// Keeps what a piece of our own work writes until a name does.
#[derive(Debug)]
pub struct WorkLease {
    leases: Leases,
    ns: String,
    id: String,
}

impl WorkLease {
    /// Keeps a blob, whether it is here yet or not.
    pub fn hold_blob(&self, digest: &Digest) -> Result<()> {
        let blob = Resource { kind: "content".to_owned(), id: digest.to_string() };
        self.leases.add(&self.ns, &self.id, &blob)
    }

    /// Keeps a partial blob.
    pub(crate) fn hold_ingest(&self, name: &str) -> Result<()> {
        let ingest = Resource { kind: "ingests".to_owned(), id: name.to_owned() };
        self.leases.add(&self.ns, &self.id, &ingest)
    }
}

impl Drop for WorkLease {
    fn drop(&mut self) {
        let (leases, ns, id) =
            (self.leases.clone(), std::mem::take(&mut self.ns), std::mem::take(&mut self.id));
        let end = move || {
            if let Err(error) = leases.delete(&ns, &id) {
                tracing::warn!(lease = id, %error, "end a lease; it expires");
            }
        };
        // Values are dropped wherever a future is, and a deletion waits for the disk.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => end(),
        }
    }
}

impl Leases {
    /// The leases in this database.
    pub fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Begins a lease for work of ours: it ends with the value, or after `life` if the daemon is killed.
    pub fn work(&self, ns: &str, purpose: &str, life: Duration) -> Result<WorkLease> {
        let id = format!("{purpose}-{:032x}", rand::random::<u128>());
        let labels = Labels::from([(EXPIRE.to_owned(), time::format(SystemTime::now() + life))]);
        self.create(ns, &id, &labels)?;
        Ok(WorkLease { leases: self.clone(), ns: ns.to_owned(), id })
    }

    /// Makes a lease.
    pub fn create(&self, ns: &str, id: &str, labels: &Labels) -> Result<Lease> {
        let created = SystemTime::now();
        let new = self.db.write_durable("create a lease", |tx| {
            tx.execute(
                "INSERT OR IGNORE INTO leases VALUES (?, ?, ?, ?)",
                params![ns, id, labels_text(labels), to_nanos(created)],
            )
        })?;
        match new {
            0 => Err(Error::AlreadyExists { what: "lease", name: id.to_owned() }),
            _ => Ok(Lease { id: id.to_owned(), labels: labels.clone(), created }),
        }
    }

    /// All leases of a namespace.
    pub fn list(&self, ns: &str) -> Result<Vec<Lease>> {
        self.db.view("list leases", |c| {
            let mut rows = c.prepare("SELECT id, labels, created FROM leases WHERE ns = ? ORDER BY id")?;
            let leases = rows.query_map([ns], |row| {
                let labels: String = row.get(1)?;
                Ok(Lease { id: row.get(0)?, labels: labels_of(&labels), created: from_nanos(row.get(2)?) })
            })?;
            leases.collect()
        })
    }

    /// Ends a lease; what it held may go.
    pub fn delete(&self, ns: &str, id: &str) -> Result<()> {
        let changed = self.db.delete_durable("delete a lease", |tx| {
            tx.execute("DELETE FROM lease_resources WHERE ns = ? AND lease = ?", [ns, id])?;
            tx.execute("DELETE FROM leases WHERE ns = ? AND id = ?", [ns, id])
        })?;
        match changed {
            0 => Err(Error::NotFound { what: "lease", name: id.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Lets a lease hold something.
    pub fn add(&self, ns: &str, id: &str, resource: &Resource) -> Result<()> {
        let known = self.db.write("add to a lease", |tx| {
            let known = exists(tx, ns, id)?;
            if known {
                insert(tx, ns, id, resource)?;
            }
            Ok(known)
        })?;
        found(id, known.then_some(()))
    }

    /// Lets a lease hold a blob instead of the ingest that becomes it.
    pub fn commit(&self, ns: &str, id: &str, ingest: &str, digest: &Digest) -> Result<()> {
        let blob = Resource { kind: "content".to_owned(), id: digest.to_string() };
        let known = self.db.write("hold a blob by a lease", |tx| {
            let known = exists(tx, ns, id)?;
            if known {
                insert(tx, ns, id, &blob)?;
                delete(tx, ns, id, &Resource { kind: "ingests".to_owned(), id: ingest.to_owned() })?;
            }
            Ok(known)
        })?;
        found(id, known.then_some(()))
    }

    /// Lets a lease hold something no longer.
    pub fn remove(&self, ns: &str, id: &str, resource: &Resource) -> Result<()> {
        let known = self.db.delete_durable("take from a lease", |tx| {
            delete(tx, ns, id, resource)?;
            exists(tx, ns, id)
        })?;
        found(id, known.then_some(()))
    }

    /// What a lease holds.
    pub fn resources(&self, ns: &str, id: &str) -> Result<Vec<Resource>> {
        let resources = self.db.read("list a lease's resources", |c| {
            if !exists(c, ns, id)? {
                return Ok(None);
            }
            let mut rows = c.prepare(
                "SELECT kind, id FROM lease_resources WHERE ns = ? AND lease = ? ORDER BY kind, id",
            )?;
            let resources =
                rows.query_map([ns, id], |row| Ok(Resource { kind: row.get(0)?, id: row.get(1)? }))?;
            resources.collect::<rusqlite::Result<Vec<_>>>().map(Some)
        })?;
        found(id, resources)
    }
}

fn exists(c: &Connection, ns: &str, id: &str) -> rusqlite::Result<bool> {
    c.query_row("SELECT EXISTS (SELECT 1 FROM leases WHERE ns = ? AND id = ?)", [ns, id], |row| row.get(0))
}

fn insert(c: &Connection, ns: &str, id: &str, resource: &Resource) -> rusqlite::Result<usize> {
    let row = [ns, id, &resource.kind, &resource.id];
    c.execute("INSERT OR IGNORE INTO lease_resources VALUES (?, ?, ?, ?)", row)
}

fn delete(c: &Connection, ns: &str, id: &str, resource: &Resource) -> rusqlite::Result<usize> {
    let row = [ns, id, &resource.kind, &resource.id];
    c.execute("DELETE FROM lease_resources WHERE ns = ? AND lease = ? AND kind = ? AND id = ?", row)
}

fn found<T>(id: &str, found: Option<T>) -> Result<T> {
    found.ok_or_else(|| Error::NotFound { what: "lease", name: id.to_owned() })
}
