//! Pin: that somebody works with a stack of layers. No collection takes one that is pinned, nor what lies below it.
//!
//! Pins are in memory only: what they protect after a crash is nothing but scratch.
//!
//! # Concurrency
//! Whoever pins a stack holds the counts while it looks whether the stack is there, and so does a collection while it deletes: both may wait for the
//! disk. To clone a pin or to drop it waits for neither, so both may happen anywhere: an end is noted, and counted by whoever looks next.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::SnapshotId;

/// How many pin each stack.
pub(super) type Counts = HashMap<SnapshotId, usize>;

/// The stacks that are pinned.
#[derive(Debug, Default)]
pub(super) struct Pinned {
    counts: Mutex<Counts>,
    /// Pins that ended since the counts were looked at.
    ended: Mutex<Vec<SnapshotId>>,
}

impl Pinned {
    /// The counts. Locked before the database, never after.
    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for id in ended {
            if let Some(count) = counts.get_mut(&id) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&id);
                }
            }
        }
        counts
    }
}

/// A stack that is pinned as long as this or a clone of it lives.
#[derive(Clone, Debug)]
pub struct SnapshotPin(Arc<Pin>);

#[derive(Debug)]
struct Pin {
    pinned: Arc<Pinned>,
    id: SnapshotId,
}

impl SnapshotPin {
    pub(super) fn new(pinned: &Arc<Pinned>, counts: &mut Counts, id: SnapshotId) -> Self {
        *counts.entry(id).or_default() += 1;
        Self(Arc::new(Pin { pinned: Arc::clone(pinned), id }))
    }

    /// The stack.
    pub fn id(&self) -> SnapshotId {
        self.0.id
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pinned.ended.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_pin_is_cloned_and_dropped_while_a_collection_holds_the_counts() {
        let pinned = Arc::new(Pinned::default());
        let id = SnapshotId::of_row(1);
        let pin = SnapshotPin::new(&pinned, &mut pinned.lock(), id);
        let counts = pinned.lock();
        let (sender, done) = mpsc::channel();
        let other = std::thread::spawn(move || {
            drop(pin.clone());
            drop(pin);
            sender.send(()).expect("somebody waits");
        });
        // A stated liveness deadline: it takes no time at all.
        done.recv_timeout(std::time::Duration::from_secs(20)).expect("nobody waits for the counts");
        other.join().expect("no panic");
        assert_eq!(counts.get(&id), Some(&1), "the end is counted by whoever looks next");
        drop(counts);
        assert_eq!(pinned.lock().get(&id), None);
    }

    #[test]
    fn the_last_clone_ends_a_pin() {
        let pinned = Arc::new(Pinned::default());
        let id = SnapshotId::of_row(7);
        let first = SnapshotPin::new(&pinned, &mut pinned.lock(), id);
        let second = first.clone();
        drop(first);
        assert_eq!(pinned.lock().get(&id), Some(&1));
        drop(second);
        assert!(pinned.lock().is_empty());
    }
}
