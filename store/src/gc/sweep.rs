//! Sweep: deletes rows in batches, each a durable transaction of its own.
//!
//! Before a batch deletes anything it takes up, in the same transaction, what was touched until then. Between two batches others have their
//! turn, for as long as the batch took.

use std::{
    collections::HashSet,
    time::{Instant, SystemTime},
};

use buildd_oci::digest::Digest;
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{
    Collected, gather,
    mark::{LEASES, Marking, SNAPSHOTS},
};
use crate::{
    cache::results::NEEDS,
    db::{self, BATCH, Node, Watch},
    error::Result,
    layer::LayerId,
    root::Store,
    snapshot::UNUSED_LAYER,
};

/// A round at work.
pub(super) struct Sweep<'a> {
    pub(super) store: &'a Store,
    pub(super) watch: &'a Watch<'a>,
    pub(super) marking: Marking,
    /// When the round began: what expires later is still kept.
    pub(super) now: SystemTime,
}

impl Sweep<'_> {
    /// One batch: what `work` does when all that was touched is taken up. Nobody begins or ceases to hold a stack meanwhile.
    fn batch<T>(
        &mut self,
        mut work: impl FnMut(&Transaction<'_>, &Marking, &HashSet<i64>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let store = self.store;
        loop {
            let began = Instant::now();
            let done = store.snapshots.while_pinned(|held| {
                store.db.write_durable("collect garbage", |tx| {
                    let touched = self.watch.take(tx, BATCH)?;
                    let all = touched.len() < BATCH;
                    for node in touched {
                        let object = gather::again(tx, &node, self.now)?;
                        self.marking.touch(node, object);
                    }
                    all.then(|| work(tx, &self.marking, held)).transpose()
                })
            })?;
            db::give_way(began);
            if let Some(done) = done {
                return Ok(done);
            }
        }
    }

    /// Takes up what was touched until now.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        self.batch(|_, _, _| Ok(()))
    }

    /// Deletes what of a batch is still not kept; what went.
    pub(super) fn things(&mut self, batch: &[Node]) -> Result<Collected> {
        self.batch(|tx, marking, _| {
            let mut collected = Collected::default();
            for node in batch.iter().filter(|node| !marking.keeps(node)) {
                delete(tx, node, &mut collected)?;
            }
            Ok(collected)
        })
    }

    /// Deletes those of some stacks, the highest first, that neither a name, a result of the cache, nor anybody at work needs.
    pub(super) fn stacks(&mut self, stacks: &[i64]) -> Result<()> {
        self.batch(|tx, marking, held| {
            for id in stacks.iter().filter(|id| !held.contains(id)) {
                let mut free = tx.prepare_cached(&format!(
                    "SELECT chain_id FROM snapshots WHERE id = ?1
                     AND NOT EXISTS (SELECT 1 FROM snapshots WHERE parent = ?1) AND NOT {NEEDS}
                     AND NOT EXISTS (SELECT 1 FROM named_snapshots WHERE snapshot = ?1)"
                ))?;
                let free = free.query_row([id], |row| row.get::<_, Option<String>>(0)).optional()?;
                // A chain id that a label names counts, whether a client has looked at it yet or not.
                if free.is_some_and(|chain| chain.is_none_or(|chain| !marking.keeps_chain(&chain))) {
                    tx.prepare_cached("DELETE FROM snapshots WHERE id = ?")?.execute([id])?;
                }
            }
            Ok(())
        })
    }

    /// Deletes those of some layers that no stack and no blob needs; which they were.
    pub(super) fn layers(&mut self, layers: &[i64]) -> Result<Vec<LayerId>> {
        let delete = format!("DELETE FROM layers WHERE id = ? AND {UNUSED_LAYER}");
        self.batch(|tx, _, _| {
            let mut gone = Vec::new();
            for id in layers {
                if tx.prepare_cached(&delete)?.execute([id])? > 0 {
                    gone.push(LayerId::of_row(*id));
                }
            }
            Ok(gone)
        })
    }
}

/// Deletes a thing's row, and notes what files it leaves behind.
fn delete(c: &Connection, node: &Node, collected: &mut Collected) -> rusqlite::Result<()> {
    let Node { ns, kind, id } = node;
    match kind.as_str() {
        "images" => {
            c.prepare_cached("DELETE FROM images WHERE ns = ? AND name = ?")?.execute([ns, id])?;
        }
        LEASES => {
            c.prepare_cached("DELETE FROM leases WHERE ns = ? AND id = ?")?.execute([ns, id])?;
            let listed = "DELETE FROM lease_resources WHERE ns = ? AND lease = ?";
            c.prepare_cached(listed)?.execute([ns, id])?;
        }
        "content" => {
            c.prepare_cached("DELETE FROM blobs WHERE ns = ? AND digest = ?")?.execute([ns, id])?;
            let mut elsewhere = c.prepare_cached("SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = ?)")?;
            let elsewhere: bool = elsewhere.query_row([id], |row| row.get(0))?;
            collected.blobs.extend(id.parse::<Digest>().ok().filter(|_| !elsewhere));
        }
        kind => {
            let Some(snapshotter) = kind.strip_prefix(SNAPSHOTS) else { return Ok(()) };
            let mut gone = c.prepare_cached(
                "DELETE FROM named_snapshots WHERE ns = ? AND snapshotter = ? AND name = ? RETURNING upper",
            )?;
            let uppers = gone.query_map([ns, snapshotter, id], |row| row.get::<_, Option<i64>>(0))?;
            collected.uppers.extend(uppers.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten());
        }
    }
    collected.gone.push(node.clone());
    Ok(())
}
