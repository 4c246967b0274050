//! Containers: records of what a task would run, kept as their clients wrote them.
//!
//! The record's bytes are the client's message; only what we act on is read from it.
//!
//! # Sources
//! containerd `core/containers`.

use std::{sync::Arc, time::SystemTime};

use rusqlite::{OptionalExtension, params};

use crate::{
    db::{Db, from_nanos, to_nanos},
    error::{Error, Result},
};

/// A container's record.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its id within the namespace.
    pub id: String,
    /// The client's message, encoded.
    pub record: Vec<u8>,
    /// When it was made.
    pub created: SystemTime,
    /// When it changed last.
    pub updated: SystemTime,
}

/// The container records of all namespaces.
#[derive(Debug)]
pub struct Containers {
    db: Arc<Db>,
}

const ONE: &str = "SELECT id, record, created, updated FROM containers WHERE ns = ? AND id = ?";

impl Containers {
    /// The records in this database.
    pub fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// One record.
    pub fn get(&self, ns: &str, id: &str) -> Result<Container> {
        self.db
            .read("read a container", |c| c.query_row(ONE, [ns, id], read_container).optional())?
            .ok_or_else(|| Error::NotFound { what: "container", name: id.to_owned() })
    }

    /// All records of a namespace.
    pub fn list(&self, ns: &str) -> Result<Vec<Container>> {
        self.db.read("list containers", |c| {
            let mut rows =
                c.prepare("SELECT id, record, created, updated FROM containers WHERE ns = ? ORDER BY id")?;
            let containers = rows.query_map([ns], read_container)?;
            containers.collect()
        })
    }

    /// Makes a record; one that exists is refused.
    pub fn create(&self, ns: &str, id: &str, record: &[u8]) -> Result<Container> {
        let now = to_nanos(SystemTime::now());
        let new = self.db.write_durable("create a container", |tx| {
            tx.execute(
                "INSERT OR IGNORE INTO containers VALUES (?, ?, ?, ?, ?)",
                params![ns, id, record, now, now],
            )
        })?;
        match new {
            0 => Err(Error::AlreadyExists { what: "container", name: id.to_owned() }),
            _ => self.get(ns, id),
        }
    }

    /// Changes a record in one transaction; if `change` refuses, nothing changes.
    pub fn update<E>(
        &self,
        ns: &str,
        id: &str,
        change: impl FnOnce(&mut Container) -> Result<(), E>,
    ) -> Result<Result<Container, E>> {
        let changed = self.db.write_durable("update a container", |tx| {
            let Some(mut container) = tx.query_row(ONE, [ns, id], read_container).optional()? else {
                return Ok(None);
            };
            if let Err(refused) = change(&mut container) {
                return Ok(Some(Err(refused)));
            }
            container.updated = SystemTime::now();
            tx.execute(
                "UPDATE containers SET record = ?, updated = ? WHERE ns = ? AND id = ?",
                params![container.record, to_nanos(container.updated), ns, id],
            )?;
            Ok(Some(Ok(container)))
        })?;
        changed.ok_or_else(|| Error::NotFound { what: "container", name: id.to_owned() })
    }

    /// Removes a record.
    pub fn delete(&self, ns: &str, id: &str) -> Result<()> {
        let changed = self.db.delete_durable("delete a container", |tx| {
            tx.execute("DELETE FROM containers WHERE ns = ? AND id = ?", [ns, id])
        })?;
        match changed {
            0 => Err(Error::NotFound { what: "container", name: id.to_owned() }),
            _ => Ok(()),
        }
    }
}

fn read_container(row: &rusqlite::Row<'_>) -> rusqlite::Result<Container> {
    Ok(Container {
        id: row.get(0)?,
        record: row.get(1)?,
        created: from_nanos(row.get(2)?),
        updated: from_nanos(row.get(3)?),
    })
}
