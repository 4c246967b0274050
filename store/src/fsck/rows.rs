//! Rows: the tables that the others refer to, in memory, as they are and not as they should be.
//!
//! SQLite stores any type in any column, and a damaged page can hold anything: a value of the wrong type is a finding, not an error.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{
    Connection, Row,
    types::{Value, ValueRef},
};

use crate::{db::Db, error::Result};

/// A row of `layers`.
#[derive(Clone, Debug)]
pub(super) struct LayerRow {
    pub(super) diff_id: Option<String>,
    pub(super) size: Option<i64>,
    pub(super) boot: String,
    pub(super) durable: Option<i64>,
    pub(super) blob: Option<i64>,
}

/// A row of `snapshots`.
#[derive(Clone, Debug)]
pub(super) struct SnapshotRow {
    pub(super) parent: Option<i64>,
    pub(super) layer: Option<i64>,
    pub(super) chain_id: Option<String>,
    pub(super) boot: String,
    pub(super) durable: Option<i64>,
}

/// A row of `blobs`.
#[derive(Clone, Debug)]
pub(super) struct BlobRow {
    pub(super) ns: String,
    pub(super) digest: String,
    pub(super) size: Option<i64>,
    pub(super) labels: String,
    pub(super) key: Vec<Value>,
}

/// A row of `images`.
#[derive(Clone, Debug)]
pub(super) struct ImageRow {
    pub(super) ns: String,
    pub(super) name: String,
    pub(super) target: String,
    pub(super) labels: String,
    pub(super) key: Vec<Value>,
}

/// A row of `named_snapshots`.
#[derive(Clone, Debug)]
pub(super) struct NamedRow {
    pub(super) ns: String,
    pub(super) snapshotter: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) parent: String,
    pub(super) snapshot: Option<i64>,
    pub(super) upper: Option<i64>,
    pub(super) labels: String,
    pub(super) key: Vec<Value>,
}

/// The tables.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) layers: BTreeMap<i64, LayerRow>,
    pub(super) snapshots: BTreeMap<i64, SnapshotRow>,
    pub(super) blobs: Vec<BlobRow>,
    pub(super) images: Vec<ImageRow>,
    pub(super) named: Vec<NamedRow>,
}

impl Rows {
    pub(super) fn load(db: &Db) -> Result<Self> {
        db.read("read the tables", |c| {
            Ok(Self {
                layers: each(c, "SELECT id, diff_id, size, boot, durable, blob FROM layers", |row| {
                    let layer = LayerRow {
                        diff_id: optional_text(row, 1)?,
                        size: number(row, 2)?,
                        boot: text(row, 3)?,
                        durable: number(row, 4)?,
                        blob: number(row, 5)?,
                    };
                    Ok((row.get(0)?, layer))
                })?
                .into_iter()
                .collect(),
                snapshots: each(
                    c,
                    "SELECT id, parent, layer, chain_id, boot, durable FROM snapshots",
                    |row| {
                        let snapshot = SnapshotRow {
                            parent: number_or_null(row, 1)?,
                            layer: number(row, 2)?,
                            chain_id: optional_text(row, 3)?,
                            boot: text(row, 4)?,
                            durable: number(row, 5)?,
                        };
                        Ok((row.get(0)?, snapshot))
                    },
                )?
                .into_iter()
                .collect(),
                blobs: each(c, "SELECT ns, digest, size, labels FROM blobs", |row| {
                    let (ns, digest) = (text(row, 0)?, text(row, 1)?);
                    let key = key(row, 2)?;
                    Ok(BlobRow { ns, digest, size: number(row, 2)?, labels: text(row, 3)?, key })
                })?,
                images: each(c, "SELECT ns, name, target, labels FROM images", |row| {
                    let (ns, name, key) = (text(row, 0)?, text(row, 1)?, key(row, 2)?);
                    Ok(ImageRow { ns, name, target: text(row, 2)?, labels: text(row, 3)?, key })
                })?,
                named: each(
                    c,
                    "SELECT ns, snapshotter, name, kind, parent, snapshot, upper, labels FROM named_snapshots",
                    |row| {
                        Ok(NamedRow {
                            ns: text(row, 0)?,
                            snapshotter: text(row, 1)?,
                            name: text(row, 2)?,
                            kind: text(row, 3)?,
                            parent: text(row, 4)?,
                            snapshot: number_or_null(row, 5)?,
                            upper: number_or_null(row, 6)?,
                            labels: text(row, 7)?,
                            key: key(row, 3)?,
                        })
                    },
                )?,
            })
        })
    }

    /// Snapshots that another boot left unsynced, with all above them, and layers that nothing needs: the next start drops them.
    pub(super) fn unsynced(&self, boot: &str) -> BTreeSet<i64> {
        let mut unsynced = BTreeSet::new();
        for (id, row) in &self.snapshots {
            let below = row.parent.is_some_and(|parent| unsynced.contains(&parent));
            if below || row.durable == Some(0) && row.boot != boot {
                unsynced.insert(*id);
            }
        }
        unsynced
    }
}

/// Every row of a query.
pub(super) fn each<T>(
    c: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    c.prepare(sql)?.query_map([], read)?.collect()
}

/// The first columns as they are, to find the row again.
pub(super) fn key(row: &Row<'_>, columns: usize) -> rusqlite::Result<Vec<Value>> {
    (0..columns).map(|column| value(row, column)).collect()
}

/// A column as text, whatever it holds.
pub(super) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(match value(row, column)? {
        Value::Text(text) => text,
        other => format!("{other:?}"),
    })
}

fn optional_text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    match value(row, column)? {
        Value::Null => Ok(None),
        _ => text(row, column).map(Some),
    }
}

/// A column as a number; None if it is none.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<i64>> {
    Ok(match value(row, column)? {
        Value::Integer(number) => Some(number),
        _ => None,
    })
}

/// A column as a number or nothing; what is neither is a number that nothing has.
fn number_or_null(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<i64>> {
    Ok(match value(row, column)? {
        Value::Null => None,
        Value::Integer(number) => Some(number),
        _ => Some(i64::MIN),
    })
}

/// A column as it is; text that is not UTF-8, as far as it is.
fn value(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        other => other.into(),
    })
}
