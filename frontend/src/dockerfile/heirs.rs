//! Heirs: what a stage leaves to the stages that are based on it.
//!
//! Lowering, the checks and the outline follow stages one after the other, and each starts with all that its base ended with.
//!
//! # Invariants
//! What nobody will ask for is not kept, and the last who asks gets the thing itself: a chain of very many stages is followed without one copy.

use std::collections::BTreeMap;

use super::stage::{Base, Planned};

/// What stages left.
#[derive(Debug)]
pub(super) struct Heirs<T> {
    left: BTreeMap<usize, T>,
    waiting: BTreeMap<usize, usize>,
}

impl<T: Clone> Heirs<T> {
    /// For the stages of a plan.
    pub(super) fn of(plan: &BTreeMap<usize, Planned>) -> Self {
        let mut waiting = BTreeMap::new();
        for planned in plan.values() {
            if let Base::Stage(base) = planned.base {
                *waiting.entry(base).or_insert(0) += 1;
            }
        }
        Self { left: BTreeMap::new(), waiting }
    }

    /// What stage `index` leaves; dropped if it has no heirs.
    pub(super) fn leave(&mut self, index: usize, thing: T) {
        if self.waiting.contains_key(&index) {
            self.left.insert(index, thing);
        }
    }

    /// What stage `base` left, for one of its heirs.
    pub(super) fn inherit(&mut self, base: usize) -> Option<T> {
        let waiting = self.waiting.get_mut(&base)?;
        *waiting = waiting.saturating_sub(1);
        match *waiting {
            0 => self.left.remove(&base),
            _ => self.left.get(&base).cloned(),
        }
    }

    /// Whether the next who asks for what `base` left gets a copy.
    pub(super) fn copies(&self, base: usize) -> bool {
        self.waiting.get(&base).is_some_and(|waiting| *waiting > 1)
    }
}
