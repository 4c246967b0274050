//! Hold: that somebody works with a stack of layers. No collection takes one that is held, nor what lies below it.
//!
//! Holds are in memory only: what they protect after a crash is nothing but scratch.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::SnapshotId;

/// How many hold each stack.
pub(super) type Counts = HashMap<SnapshotId, usize>;

/// The stacks that are held.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Counts>);

impl Held {
    /// The counts. Locked before the database, never after.
    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stack that is held as long as this lives.
#[derive(Debug)]
pub struct Hold {
    held: Arc<Held>,
    id: SnapshotId,
}

impl Hold {
    pub(super) fn new(held: &Arc<Held>, counts: &mut Counts, id: SnapshotId) -> Self {
        *counts.entry(id).or_default() += 1;
        Self { held: Arc::clone(held), id }
    }

    /// The stack.
    pub fn id(&self) -> SnapshotId {
        self.id
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        Self::new(&self.held, &mut self.held.lock(), self.id)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut counts = self.held.lock();
        if let Some(count) = counts.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.id);
            }
        }
    }
}
