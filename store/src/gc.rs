//! Garbage collection: removes what nothing needs any more, beside all that goes on.
//!
//! One round: `gather` reads what there is, `mark` says what stays, `order` puts the rest into batches, `sweep` deletes them. Kept for its own
//! sake is an image, a container, a live lease, whatever a label makes a root; layers also by a result of the build cache and by whoever works
//! with them now (`Snapshots::hold`). The build cache itself is pruned by policy, not here.
//!
//! # Invariants
//! - A lease or a reference that is made before the row is deleted wins. The graph is read beside all others, so it grows old; what is made,
//!   changed, leased or found meanwhile is noted (`Db::watch`), and a batch takes the notes up, and marks from them, in the transaction in
//!   which it deletes. A way from a root that was not there before has a step that was noted, and all behind its last such step is as it was.
//! - What is left between two batches is whole: whatever points goes no later than what it points at.
//! - Operations that write or find things before they name them hold `Store::keep_all`. A round reads only when all of those have ended that
//!   began before it took notes; what later ones write or find is noted.
//! - Rows go first, durably; their files after. A crash leaves files without rows, which the next start removes.
//!
//! # Concurrency
//! One round at a time. Others wait for a batch at most: some milliseconds, however much there is.
//!
//! # Sources
//! containerd `core/metadata/gc.go`; spec containerd-api 6; design storage.md, rule 9.

use std::time::{Duration, SystemTime};

use buildd_api::containerd::containerd::{
    events::{ContentDelete, SnapshotRemove},
    services::images::v1::ImageDelete,
};
use buildd_oci::digest::Digest;
use mark::Marking;
use stacks::Unneeded;
use sweep::Sweep;

use crate::{
    db::{BATCH, Node},
    error::{Error, Result},
    layer::LayerId,
    root::Store,
};

mod gather;
mod mark;
mod order;
mod stacks;
mod sweep;

pub use mark::{Graph, Object};

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

/// One round. Waits until the operations have ended that keep all now.
pub fn collect(store: &Store) -> Result<Collected> {
    let _one = store.begin_round();
    let watch = store.db.watch()?;
    store.wait_for_gc_guards()?;
    let now = SystemTime::now();
    let ingests = ingests(store)?;
    let mut graph = store.db.view("read what there is", |c| gather::gather(c, now))?;
    for (node, _) in &ingests {
        graph.entry(node.clone()).or_default();
    }
    let _room = store.db.make_room();
    let mut sweep = Sweep { store, watch: &watch, marking: Marking::of(graph), now };
    let mut collected = Collected::default();
    for batch in order::batches(&sweep.marking, BATCH) {
        let gone = sweep.things(&batch)?;
        gone.gone.iter().for_each(|node| tell(store, node));
        store.content.remove_files(&gone.blobs)?;
        store.named_snapshots.remove_uppers(&gone.uppers)?;
        collected.extend(gone);
    }
    remove_ingests(&mut sweep, &ingests)?;
    let marking = &sweep.marking;
    let look = |c: &rusqlite::Connection| Unneeded::find(c, |chain| marking.keeps_chain(chain));
    let unneeded = store.db.view("read the stacks", look)?;
    unneeded.stacks.chunks(BATCH).try_for_each(|stacks| sweep.stacks(stacks))?;
    for layers in unneeded.layers.chunks(BATCH) {
        let gone = sweep.layers(layers)?;
        store.snapshots.remove_layers(&gone)?;
        collected.layers.extend(gone);
    }
    store.snapshots.detach_unneeded()?;
    Ok(collected)
}

impl Collected {
    fn extend(&mut self, more: Self) {
        let Self { blobs, layers, uppers, gone } = more;
        self.blobs.extend(blobs);
        self.layers.extend(layers);
        self.uppers.extend(uppers);
        self.gone.extend(gone);
    }
}

/// Removes partial blobs that are old and not kept.
fn remove_ingests(sweep: &mut Sweep<'_>, ingests: &[(Node, SystemTime)]) -> Result<()> {
    let now = sweep.now;
    let old = |updated: SystemTime| now.duration_since(updated).is_ok_and(|age| age > INGEST_AGE);
    let old: Vec<&Node> = ingests.iter().filter(|(_, at)| old(*at)).map(|(node, _)| node).collect();
    if old.is_empty() {
        return Ok(());
    }
    sweep.catch_up()?;
    for node in old.into_iter().filter(|node| !sweep.marking.keeps(node)) {
        match sweep.store.content.expire(&node.ns, &node.id) {
            // Its client was quicker.
            Err(Error::NotFound { .. }) => {}
            done => done?,
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests;
