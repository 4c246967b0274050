//! Recover: what a start removes of what an earlier daemon left.

use std::{fs, sync::atomic::Ordering};

use super::NamedSnapshots;
use crate::disk;
use crate::error::{Error, Result};

impl NamedSnapshots {
    /// Removes what a crash left: folders that no row names, and rows whose folder a power cut took.
    pub(super) fn recover(&self) -> Result<()> {
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
}
