//! Database: whether the file itself is sound, and what can be saved from one that is not.
//!
//! A damaged page takes the rows on it, and SQLite reads neither them nor what it finds by way of them. Salvage reads each table from both
//! ends into a new file, as far as it goes, and puts that in place of the old one, which stays beside it under another name.

use std::{
    fs::{self, File},
    path::Path,
};

use rusqlite::{Connection, OpenFlags, params_from_iter, types::Value};

use super::{Class, Finding, Fix};
use crate::{
    db::{Db, TABLES},
    disk::sync_dir,
    error::{Error, Result},
};

/// Name of the database that is being made.
const NEW: &str = "buildd.db.new";
/// What a damaged database is called afterwards.
const OLD: &str = "buildd.db.damaged";

/// What is wrong with the file.
pub(super) fn check(db: &Db, root: &Path) -> Result<Option<Finding>> {
    let told = db.read("check the database", |c| {
        c.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))
    });
    let detail = match told {
        Ok(text) if text == "ok" => return Ok(None),
        Ok(text) => text,
        Err(Error::Database { source, .. }) => source.to_string(),
        Err(error) => return Err(error),
    };
    Ok(Some(Finding {
        class: Class::Damage,
        what: "database",
        subject: root.join("buildd.db").display().to_string(),
        detail: format!("{detail}; what it holds is looked at once it is mended"),
        fixes: vec![Fix::Salvage],
    }))
}

/// Makes the database anew from the rows that can be read.
pub(super) fn salvage(root: &Path) -> Result<()> {
    let (old, new) = (root.join("buildd.db"), root.join(NEW));
    for name in [NEW.to_owned(), format!("{NEW}-wal"), format!("{NEW}-shm")] {
        super::remove(&root.join(name))?;
    }
    {
        let fail = "copy what can be read into a new database";
        let from = Connection::open_with_flags(&old, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(Error::database("open the damaged file"))?;
        let to = Db::open(&new)?;
        to.write_durable(fail, |tx| {
            tx.pragma_update(None, "defer_foreign_keys", "ON")?;
            for table in TABLES {
                copy(&from, tx, table)?;
            }
            // Deferred or not, a commit checks references: what hangs in the air goes here, all else is for the next round.
            tx.execute_batch(
                "DELETE FROM snapshots WHERE layer NOT IN (SELECT id FROM layers);
                 WITH RECURSIVE sound(id) AS (SELECT id FROM snapshots WHERE parent IS NULL
                    UNION SELECT s.id FROM snapshots s JOIN sound ON s.parent = sound.id)
                 DELETE FROM snapshots WHERE id NOT IN (SELECT id FROM sound);
                 DELETE FROM named_snapshots WHERE snapshot IS NOT NULL AND snapshot NOT IN (SELECT id FROM snapshots);",
            )
        })?;
        to.checkpoint()?;
    }
    File::open(&new).and_then(|file| file.sync_all()).map_err(Error::file("sync", &new))?;
    let aside = root.join(OLD);
    super::remove(&aside)?;
    fs::hard_link(&old, &aside).map_err(Error::file("keep", &aside))?;
    for name in ["buildd.db-wal", "buildd.db-shm"] {
        super::remove(&root.join(name))?;
    }
    fs::rename(&new, &old).map_err(Error::file("publish", &old))?;
    sync_dir(root)
}

/// Copies the rows of a table, from its begin to where that ends, then from its end backwards.
fn copy(from: &Connection, to: &Connection, table: &str) -> rusqlite::Result<()> {
    let columns = to.prepare(&format!("SELECT * FROM {table}"))?.column_count();
    let places = vec!["?"; columns].join(", ");
    let insert = format!("INSERT OR IGNORE INTO {table} VALUES ({places})");
    let keys: Vec<String> = to
        .prepare("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk")?
        .query_map([table], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for direction in ["ASC", "DESC"] {
        let order: Vec<String> = keys.iter().map(|key| format!("{key} {direction}")).collect();
        let sql = format!("SELECT * FROM {table} ORDER BY {}", order.join(", "));
        // What cannot be read ends this way through the table, not the salvage.
        let Ok(mut statement) = from.prepare(&sql) else { continue };
        let Ok(mut rows) = statement.query([]) else { continue };
        while let Ok(Some(row)) = rows.next() {
            let values = (0..columns).map(|column| row.get::<_, Value>(column));
            let Ok(values) = values.collect::<rusqlite::Result<Vec<_>>>() else { continue };
            to.execute(&insert, params_from_iter(values))?;
        }
    }
    Ok(())
}
