//! Gather: what is there, as a graph; and one thing of it, as it is now.
//!
//! The same statements serve both: a whole table for the first look of a round, one row by its key for what was touched since.

use std::time::SystemTime;

use buildd_api::containerd::containerd::services::containers::v1::Container;
use buildd_oci::time;
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::mark::{Graph, LEASES, Object, SNAPSHOTS};
use crate::{
    db::Node,
    label::{Labels, labels_of},
    meta::lease::EXPIRE,
};

/// A table of things.
struct Table {
    /// What its kinds begin with.
    kind: &'static str,
    /// All rows.
    all: &'static str,
    /// What picks one of them: its namespace is ?1, its kind ?2, its id ?3.
    one: &'static str,
    read: fn(&Row<'_>, SystemTime) -> rusqlite::Result<(Node, Object)>,
}

const TABLES: [Table; 5] = [
    Table {
        kind: "images",
        all: "SELECT ns, name, labels, CASE WHEN json_valid(target) THEN target ->> '$.digest' END FROM images",
        one: "ns = ?1 AND name = ?3",
        read: image,
    },
    Table {
        kind: "content",
        all: "SELECT ns, digest, labels FROM blobs",
        one: "ns = ?1 AND digest = ?3",
        read: blob,
    },
    Table {
        kind: SNAPSHOTS,
        all: "SELECT ns, snapshotter, name, parent, labels FROM named_snapshots",
        one: "ns = ?1 AND snapshotter = substr(?2, 11) AND name = ?3",
        read: snapshot,
    },
    Table {
        kind: "containers",
        all: "SELECT ns, id, record FROM containers",
        one: "ns = ?1 AND id = ?3",
        read: container,
    },
    Table { kind: LEASES, all: "SELECT ns, id, labels FROM leases", one: "ns = ?1 AND id = ?3", read: lease },
];

/// Everything that is there.
pub(super) fn gather(c: &Connection, now: SystemTime) -> rusqlite::Result<Graph> {
    let mut graph = Graph::new();
    for table in TABLES {
        let mut statement = c.prepare(table.all)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (node, object) = (table.read)(row, now)?;
            graph.insert(node, object);
        }
    }
    let mut statement = c.prepare("SELECT ns, lease, kind, id FROM lease_resources")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (ns, lease): (String, String) = (row.get(0)?, row.get(1)?);
        let held = Node { kind: row.get(2)?, id: row.get(3)?, ns: ns.clone() };
        graph.entry(Node::new(&ns, LEASES, &lease)).or_default().needs.push(held);
    }
    Ok(graph)
}

/// One thing as it is now, if its kind has a table and it is there. Of a lease, not what it lists.
pub(super) fn again(c: &Connection, node: &Node, now: SystemTime) -> rusqlite::Result<Option<Object>> {
    let Some(table) = TABLES.iter().find(|table| node.kind.starts_with(table.kind)) else { return Ok(None) };
    let mut one = c.prepare_cached(&format!("{} WHERE {}", table.all, table.one))?;
    let row = one.query_row(params![node.ns, node.kind, node.id], |row| (table.read)(row, now));
    Ok(row.optional()?.map(|(_, object)| object))
}

/// Whether labels end a thing's life before `now`. Compat: what is not a time ends nothing.
fn expired(labels: &Labels, now: SystemTime) -> bool {
    let time = labels.get(EXPIRE).and_then(|text| time::parse(text));
    time.is_some_and(|time| time < now)
}

fn labels(row: &Row<'_>, column: usize) -> rusqlite::Result<Labels> {
    Ok(labels_of(&row.get::<_, String>(column)?))
}

fn image(row: &Row<'_>, now: SystemTime) -> rusqlite::Result<(Node, Object)> {
    let (ns, name, target): (String, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(3)?);
    let labels = labels(row, 2)?;
    let needs = target.iter().map(|target| Node::new(&ns, "content", target)).collect();
    let root = !expired(&labels, now);
    Ok((Node { ns, kind: "images".to_owned(), id: name }, Object { labels, needs, root }))
}

fn blob(row: &Row<'_>, now: SystemTime) -> rusqlite::Result<(Node, Object)> {
    let labels = labels(row, 2)?;
    let root = labels.contains_key(EXPIRE) && !expired(&labels, now);
    let node = Node { ns: row.get(0)?, kind: "content".to_owned(), id: row.get(1)? };
    Ok((node, Object { labels, needs: Vec::new(), root }))
}

fn snapshot(row: &Row<'_>, now: SystemTime) -> rusqlite::Result<(Node, Object)> {
    let (ns, parent): (String, String) = (row.get(0)?, row.get(3)?);
    let kind = format!("{SNAPSHOTS}{}", row.get::<_, String>(1)?);
    let labels = labels(row, 4)?;
    let root = labels.contains_key(EXPIRE) && !expired(&labels, now);
    let needs = (!parent.is_empty()).then(|| Node::new(&ns, &kind, &parent)).into_iter().collect();
    Ok((Node { ns, kind, id: row.get(2)? }, Object { labels, needs, root }))
}

fn container(row: &Row<'_>, _: SystemTime) -> rusqlite::Result<(Node, Object)> {
    let ns: String = row.get(0)?;
    let record = Container::decode(row.get::<_, Vec<u8>>(2)?.as_slice()).unwrap_or_default();
    let snapshot = Node::new(&ns, &format!("{SNAPSHOTS}{}", record.snapshotter), &record.snapshot_key);
    let labels = record.labels.into_iter().collect();
    let node = Node { ns, kind: "containers".to_owned(), id: row.get(1)? };
    Ok((node, Object { labels, needs: vec![snapshot], root: true }))
}

fn lease(row: &Row<'_>, now: SystemTime) -> rusqlite::Result<(Node, Object)> {
    let labels = labels(row, 2)?;
    let node = Node { ns: row.get(0)?, kind: LEASES.to_owned(), id: row.get(1)? };
    Ok((node, Object { root: !expired(&labels, now), labels, needs: Vec::new() }))
}
