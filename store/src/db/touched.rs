//! Touched: what was written or found since a collection began to look.
//!
//! A collection reads what there is beside all others (`Db::view`), so it must learn what they do meanwhile. Triggers of our one writing
//! connection note every thing that is made, changed, or named by a lease; whoever finds a blob and may rely on it says so with `found`.
//! Deletions are not noted: they make nothing reachable.
//!
//! # Concurrency
//! Notes are made and taken under the lock of the connection, so a transaction that takes them knows of all that came before it.
//! They are in memory: a crash ends the collection, too.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use buildd_oci::digest::Digest;
use rusqlite::Connection;

use super::Db;
use crate::{
    db::Node,
    error::{Error, Result},
};

/// What is noted of each table: what happens to it, and the kind, namespace and id of what is touched.
const NOTED: [(&str, &str, &str, &str); 6] = [
    ("images", "'images'", "NEW.ns", "NEW.name"),
    ("blobs", "'content'", "NEW.ns", "NEW.digest"),
    ("named_snapshots", "'snapshots/' || NEW.snapshotter", "NEW.ns", "NEW.name"),
    ("containers", "'containers'", "NEW.ns", "NEW.id"),
    ("leases", "'leases'", "NEW.ns", "NEW.id"),
    // A lease is needed by nothing; what it lists is.
    ("lease_resources", "NEW.kind", "NEW.ns", "NEW.id"),
];

/// Blobs that were found while somebody watches.
#[derive(Debug, Default)]
pub(super) struct Found {
    found: Mutex<Option<Vec<Node>>>,
    /// How often somebody began to watch, or ceased to.
    changes: AtomicU64,
}

/// How many collections began and ended so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rounds(u64);

impl Rounds {
    /// Whether one is at work.
    pub(super) fn at_work(self) -> bool {
        self.0 % 2 == 1
    }
}

/// Notes are made as long as this lives.
#[derive(Debug)]
pub(crate) struct Watch<'a>(&'a Db);

impl Db {
    /// Notes from now on what is touched. One at a time.
    pub(crate) fn watch(&self) -> Result<Watch<'_>> {
        let watch = Watch(self);
        let connection = self.lock();
        let begin = || -> rusqlite::Result<()> {
            connection.execute_batch(
                "CREATE TEMP TABLE IF NOT EXISTS touched (number INTEGER PRIMARY KEY, ns TEXT, kind TEXT, id TEXT);
                 DELETE FROM touched;",
            )?;
            for (table, kind, ns, id) in NOTED {
                for event in ["INSERT", "UPDATE"] {
                    connection.execute_batch(&format!(
                        "CREATE TEMP TRIGGER IF NOT EXISTS {table}_{event} AFTER {event} ON main.{table}
                         BEGIN INSERT INTO touched (ns, kind, id) VALUES ({ns}, {kind}, {id}); END;"
                    ))?;
                }
            }
            Ok(())
        };
        begin().map_err(Error::database("watch what is written"))?;
        *self.found.lock() = Some(Vec::new());
        self.found.changes.fetch_add(1, Ordering::SeqCst);
        drop(connection);
        Ok(watch)
    }

    /// Notes a blob that somebody found and may name later; to be called where the lock of the connection is held.
    pub(crate) fn found(&self, ns: &str, digest: &Digest) {
        if let Some(found) = self.found.lock().as_mut() {
            found.push(Node::new(ns, "content", &digest.to_string()));
        }
    }
}

impl Found {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Node>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The collections so far.
    pub(super) fn rounds(&self) -> Rounds {
        Rounds(self.changes.load(Ordering::SeqCst))
    }
}

impl Watch<'_> {
    /// Takes the notes, the oldest first and not many more than `most` of them; given is the connection of a transaction.
    pub(crate) fn take(&self, c: &Connection, most: usize) -> rusqlite::Result<Vec<Node>> {
        let mut oldest =
            c.prepare_cached("SELECT number, ns, kind, id FROM touched ORDER BY number LIMIT ?")?;
        let rows = oldest.query_map([most], |row| {
            let node = Node { ns: row.get(1)?, kind: row.get(2)?, id: row.get(3)? };
            Ok((row.get::<_, i64>(0)?, node))
        })?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        if let Some((last, _)) = rows.last() {
            c.prepare_cached("DELETE FROM touched WHERE number <= ?")?.execute([last])?;
        }
        let mut nodes: Vec<Node> = rows.into_iter().map(|(_, node)| node).collect();
        if let Some(found) = self.0.found.lock().as_mut() {
            nodes.extend(found.drain(..found.len().min(most)));
        }
        Ok(nodes)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let was = self.0.found.lock().take();
        let connection = self.0.lock();
        if was.is_some() {
            self.0.found.changes.fetch_add(1, Ordering::SeqCst);
        }
        let triggers = NOTED.iter().flat_map(|(table, ..)| {
            ["INSERT", "UPDATE"].map(|event| format!("DROP TRIGGER IF EXISTS temp.{table}_{event};"))
        });
        let sql = triggers.chain(["DELETE FROM temp.touched;".to_owned()]).collect::<String>();
        if let Err(error) = connection.execute_batch(&sql) {
            tracing::warn!(%error, "cease to watch what is written");
        }
    }
}
