//! Recover: what a start removes of what an earlier daemon left, and what it gives back.
//!
//! A commit makes the upper of an active snapshot a layer before that has its new name. If it goes no further, because something failed or
//! the daemon was killed, the active snapshot gets its upper back: nobody was told that it is committed, and all its client wrote is there.

use std::{fs, sync::atomic::Ordering};

use rusqlite::OptionalExtension;

use super::NamedSnapshots;
use crate::{
    disk,
    error::{Error, Result},
    layer::LayerId,
};

impl NamedSnapshots {
    /// Removes what a crash left: folders that no row names, and rows whose folder a power cut took.
    pub(super) fn recover(&self) -> Result<()> {
        let unfinished: Vec<i64> = self.db.read("look for unfinished commits", |c| {
            let mut rows = c.prepare("SELECT upper FROM layers WHERE upper IS NOT NULL")?;
            let uppers = rows.query_map([], |row| row.get(0))?;
            uppers.collect()
        })?;
        unfinished.into_iter().try_for_each(|upper| self.give_back(upper))?;
        let known: Vec<i64> = self.db.read("list named snapshots", |c| {
            let mut rows = c.prepare("SELECT upper FROM named_snapshots WHERE upper IS NOT NULL")?;
            let uppers = rows.query_map([], |row| row.get(0))?;
            uppers.collect()
        })?;
        self.next.store(known.iter().max().unwrap_or(&0) + 1, Ordering::Relaxed);
        let whole = |upper: &i64| {
            let dir = self.folder.join(upper.to_string());
            dir.join("fs").is_dir() && dir.join("work").is_dir()
        };
        let (known, hollow): (Vec<i64>, Vec<i64>) = known.into_iter().partition(whole);
        if !hollow.is_empty() {
            self.db.delete_durable("drop snapshots without a folder", |tx| {
                hollow.iter().try_for_each(|upper| {
                    tx.execute("DELETE FROM named_snapshots WHERE upper = ?", [upper]).map(drop)
                })
            })?;
        }
        for entry in fs::read_dir(&self.folder).map_err(Error::file("list", &self.folder))?.flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !number.is_some_and(|number: i64| known.contains(&number)) {
                let path = entry.path();
                disk::remove_folder(&path).map_err(Error::file("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Makes the layer that an upper became the upper again. Nobody else knows of that layer.
    pub(super) fn give_back(&self, upper: i64) -> Result<()> {
        let layer: Option<i64> = self.db.read("look for an unfinished commit", |c| {
            let sql = "SELECT id FROM layers WHERE upper = ?";
            c.query_row(sql, [upper], |row| row.get(0)).optional()
        })?;
        let Some(layer) = layer else { return Ok(()) };
        let stored = self.snapshots.stored(LayerId::of_row(layer));
        let dir = self.folder.join(upper.to_string());
        if stored.exists() && dir.is_dir() {
            disk::rename(&stored, &dir.join("fs")).map_err(Error::file("give back", &stored))?;
        }
        self.db.delete_durable("give an upper back", |tx| {
            tx.execute("DELETE FROM snapshots WHERE layer = ?", [layer])?;
            tx.execute("DELETE FROM layers WHERE id = ?", [layer])
        })?;
        // Of a snapshot whose folder a power cut took nothing is left to give back to.
        match stored.exists() {
            true => disk::remove_folder(&stored).map_err(Error::file("remove", stored)),
            false => Ok(()),
        }
    }
}
