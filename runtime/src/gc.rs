//! Garbage collection: removes what nothing needs any more.
//!
//! One round: everything that is there becomes a graph (`gather`), `mark` says what stays, `sweep` deletes the rest. Kept for its own sake is
//! an image, a container, a live lease, whatever a label makes a root; layers also by a result of the build cache and by whoever works with
//! them now (`Snapshots::hold`). The build cache itself is pruned by policy, not here.
//!
//! # Invariants
//! Rows go first, in one durable transaction that also did the gathering, so that nothing comes in between; files go after. A crash leaves
//! files without rows, which the next start removes. Operations that write before they name hold `Store::keep_all`.
//!
//! # Sources
//! containerd `core/metadata/gc.go`; spec containerd-api 6; design storage.md, rule 9.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use buildd_api::containerd::containerd::services::containers::v1::Container;
use buildd_api::containerd::containerd::{
    events::{ContentDelete, SnapshotRemove},
    services::images::v1::ImageDelete,
};
use buildd_oci::digest::Digest;
use prost::Message;
use rusqlite::Transaction;

use crate::{
    content::Labels,
    db::labels_of,
    error::{Error, Result},
    lease::EXPIRE,
    snapshot::{LayerId, UNUSED_LAYER},
    store::Store,
};

mod mark;

pub use mark::{Graph, Node, Object, mark};

/// How long a partial blob that nobody holds waits for its writer, as in containerd.
const INGEST_AGE: Duration = Duration::from_secs(24 * 3600);

/// What a round removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs that no namespace has any more.
    pub blobs: Vec<Digest>,
    /// Layers.
    pub layers: Vec<LayerId>,
    /// Uppers of clients' snapshots.
    pub uppers: Vec<i64>,
    /// What went, by its name.
    gone: Vec<Node>,
}

/// One round. Waits until no operation keeps all.
pub fn collect(store: &Store) -> Result<Collected> {
    let _alone = store.stop_the_world()?;
    let _room = store.db.make_room();
    let ingests = ingests(store)?;
    let collected = store.snapshots.while_held(|held| {
        store.db.write_durable("collect garbage", |tx| {
            let mut graph = gather(tx, SystemTime::now())?;
            for (node, _) in &ingests {
                graph.entry(node.clone()).or_default();
            }
            let kept = mark(&graph);
            let collected = sweep(tx, &graph, &kept, held)?;
            Ok((collected, kept))
        })
    });
    let (collected, kept) = collected?;
    collected.gone.iter().for_each(|node| tell(store, node));
    let now = SystemTime::now();
    for (node, updated) in ingests {
        let old = now.duration_since(updated).is_ok_and(|age| age > INGEST_AGE);
        if old && !kept.contains(&node) {
            match store.content.expire(&node.ns, &node.id) {
                // Its client was quicker.
                Err(Error::NotFound { .. }) => {}
                done => done?,
            }
        }
    }
    store.content.remove_files(&collected.blobs)?;
    store.snapshots.remove_layers(&collected.layers)?;
    store.named_snapshots.remove_uppers(&collected.uppers)?;
    store.snapshots.detach_unneeded()?;
    Ok(collected)
}

/// Tells that a thing was collected.
fn tell(store: &Store, node: &Node) {
    let (events, ns, id) = (store.events(), &node.ns, node.id.clone());
    match (node.kind.as_str(), node.kind.strip_prefix("snapshots/")) {
        ("images", _) => events.publish(ns, "/images/delete", &ImageDelete { name: id }),
        ("content", _) => events.publish(ns, "/content/delete", &ContentDelete { digest: id }),
        (_, Some(snapshotter)) => {
            let gone = SnapshotRemove { key: id, snapshotter: snapshotter.to_owned() };
            events.publish(ns, "/snapshot/remove", &gone);
        }
        _ => {}
    }
}

fn ingests(store: &Store) -> Result<Vec<(Node, SystemTime)>> {
    let mut all = Vec::new();
    for ns in store.content.ingesting()? {
        let partial = store.content.statuses(&ns)?;
        all.extend(partial.into_iter().map(|one| (Node::new(&ns, "ingests", &one.name), one.updated)));
    }
    Ok(all)
}

/// Whether labels end a thing's life before `now`. Compat: what is not a time ends nothing.
fn expired(labels: &Labels, now: SystemTime) -> bool {
    let time = labels.get(EXPIRE).and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    time.is_some_and(|time| SystemTime::from(time) < now)
}

/// Everything that is there.
fn gather(tx: &Transaction<'_>, now: SystemTime) -> rusqlite::Result<Graph> {
    let mut graph = Graph::new();
    let mut each =
        |sql: &str, add: &mut dyn FnMut(&rusqlite::Row<'_>, &mut Graph) -> rusqlite::Result<()>| {
            let mut statement = tx.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                add(row, &mut graph)?;
            }
            Ok::<_, rusqlite::Error>(())
        };
    each("SELECT ns, name, labels, json_extract(target, '$.digest') FROM images", &mut |row, graph| {
        let (ns, name, target): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(3)?);
        let labels = labels_of(&row.get::<_, String>(2)?);
        let needs = vec![Node::new(&ns, "content", &target)];
        graph.insert(Node::new(&ns, "images", &name), Object { root: !expired(&labels, now), labels, needs });
        Ok(())
    })?;
    each("SELECT ns, digest, labels FROM blobs", &mut |row, graph| {
        let labels = labels_of(&row.get::<_, String>(2)?);
        let root = labels.contains_key(EXPIRE) && !expired(&labels, now);
        let node = Node::new(&row.get::<_, String>(0)?, "content", &row.get::<_, String>(1)?);
        graph.insert(node, Object { labels, needs: Vec::new(), root });
        Ok(())
    })?;
    each("SELECT ns, snapshotter, name, parent, labels FROM named_snapshots", &mut |row, graph| {
        let (ns, parent): (String, String) = (row.get(0)?, row.get(3)?);
        let kind = format!("snapshots/{}", row.get::<_, String>(1)?);
        let labels = labels_of(&row.get::<_, String>(4)?);
        let root = labels.contains_key(EXPIRE) && !expired(&labels, now);
        let needs = (!parent.is_empty()).then(|| Node::new(&ns, &kind, &parent)).into_iter().collect();
        graph.insert(Node::new(&ns, &kind, &row.get::<_, String>(2)?), Object { labels, needs, root });
        Ok(())
    })?;
    each("SELECT ns, id, record FROM containers", &mut |row, graph| {
        let (ns, id): (String, String) = (row.get(0)?, row.get(1)?);
        let record = Container::decode(row.get::<_, Vec<u8>>(2)?.as_slice()).unwrap_or_default();
        let snapshot = Node::new(&ns, &format!("snapshots/{}", record.snapshotter), &record.snapshot_key);
        let labels = record.labels.into_iter().collect();
        graph.insert(Node::new(&ns, "containers", &id), Object { labels, needs: vec![snapshot], root: true });
        Ok(())
    })?;
    each("SELECT ns, id, labels FROM leases", &mut |row, graph| {
        let labels = labels_of(&row.get::<_, String>(2)?);
        let node = Node::new(&row.get::<_, String>(0)?, "leases", &row.get::<_, String>(1)?);
        graph.insert(node, Object { root: !expired(&labels, now), labels, needs: Vec::new() });
        Ok(())
    })?;
    each("SELECT ns, lease, kind, id FROM lease_resources", &mut |row, graph| {
        let ns: String = row.get(0)?;
        let lease = Node::new(&ns, "leases", &row.get::<_, String>(1)?);
        let held = Node::new(&ns, &row.get::<_, String>(2)?, &row.get::<_, String>(3)?);
        graph.entry(lease).or_default().needs.push(held);
        Ok(())
    })?;
    Ok(graph)
}

/// Deletes the rows of what is not kept; what files they leave behind.
fn sweep(
    tx: &Transaction<'_>,
    graph: &Graph,
    kept: &HashSet<Node>,
    held: &[i64],
) -> rusqlite::Result<Collected> {
    let mut collected = Collected::default();
    for node in graph.keys().filter(|node| !kept.contains(node)) {
        let Node { ns, kind, id } = node;
        match kind.as_str() {
            "images" => drop(tx.execute("DELETE FROM images WHERE ns = ? AND name = ?", [ns, id])?),
            "leases" => {
                tx.execute("DELETE FROM leases WHERE ns = ? AND id = ?", [ns, id])?;
                tx.execute("DELETE FROM lease_resources WHERE ns = ? AND lease = ?", [ns, id])?;
            }
            "content" => {
                tx.execute("DELETE FROM blobs WHERE ns = ? AND digest = ?", [ns, id])?;
                let sql = "SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = ?)";
                let elsewhere: bool = tx.query_row(sql, [id], |row| row.get(0))?;
                collected.blobs.extend(id.parse::<Digest>().ok().filter(|_| !elsewhere));
            }
            kind => {
                let Some(snapshotter) = kind.strip_prefix("snapshots/") else { continue };
                let mut gone = tx.prepare(
                    "DELETE FROM named_snapshots WHERE ns = ? AND snapshotter = ? AND name = ? RETURNING upper",
                )?;
                let uppers = gone.query_map([ns, snapshotter, id], |row| row.get::<_, Option<i64>>(0))?;
                collected.uppers.extend(uppers.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten());
            }
        }
        collected.gone.push(node.clone());
    }
    collected.layers = sweep_layers(tx, kept, held)?;
    Ok(collected)
}

/// Deletes the stacks that neither a name, a result of the cache, nor anybody at work needs, and layers that no stack has then.
fn sweep_layers(tx: &Transaction<'_>, kept: &HashSet<Node>, held: &[i64]) -> rusqlite::Result<Vec<LayerId>> {
    tx.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS needed (id INTEGER PRIMARY KEY); DELETE FROM needed;
         INSERT OR IGNORE INTO needed SELECT snapshot FROM results WHERE snapshot > 0;
         INSERT OR IGNORE INTO needed SELECT snapshot FROM named_snapshots WHERE snapshot IS NOT NULL;",
    )?;
    for id in held {
        tx.execute("INSERT OR IGNORE INTO needed VALUES (?)", [id])?;
    }
    // A chain id that a label names counts, whether a client has looked at it yet or not.
    let chains = kept.iter().filter(|node| node.kind.starts_with("snapshots/"));
    for node in chains {
        tx.execute("INSERT OR IGNORE INTO needed SELECT id FROM snapshots WHERE chain_id = ?", [&node.id])?;
    }
    tx.execute(
        "WITH RECURSIVE up(id) AS (SELECT id FROM needed
            UNION SELECT s.parent FROM snapshots s JOIN up ON s.id = up.id WHERE s.parent IS NOT NULL)
         INSERT OR IGNORE INTO needed SELECT id FROM up",
        [],
    )?;
    tx.execute("DELETE FROM snapshots WHERE id NOT IN (SELECT id FROM needed)", [])?;
    let mut gone = tx.prepare(&format!("DELETE FROM layers WHERE {UNUSED_LAYER} RETURNING id"))?;
    let layers = gone.query_map([], |row| row.get(0).map(LayerId::of_row))?;
    layers.collect()
}

#[cfg(test)]
mod tests;
