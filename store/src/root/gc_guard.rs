//! GC guard: held by operations that write or find things before they name them. No collection removes anything meanwhile.
//!
//! A collection waits for those that began before it watched what is written, not for later ones: of these it learns all they do.
//!
//! # Concurrency
//! Nobody who begins or ends one waits for anything.

use std::{
    collections::BTreeSet,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Those at work.
#[derive(Debug, Default)]
pub(super) struct GcGuards {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    working: BTreeSet<u64>,
}

/// A guard: no collection removes anything as long as it lives.
#[derive(Debug)]
pub struct GcGuard<'a> {
    gc_guards: &'a GcGuards,
    number: u64,
}

impl GcGuards {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation.
    pub(super) fn begin(&self) -> GcGuard<'_> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.working.insert(number);
        GcGuard { gc_guards: self, number }
    }

    /// Waits for the end of all that have begun; whether they ended in time.
    pub(super) fn wait_for_present(&self, patience: Duration) -> bool {
        let state = self.lock();
        let next = state.next;
        let busy = |state: &mut State| state.working.first().is_some_and(|first| *first < next);
        let waited = self.ended.wait_timeout_while(state, patience, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for GcGuard<'_> {
    fn drop(&mut self) {
        self.gc_guards.lock().working.remove(&self.number);
        self.gc_guards.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_began_before_is_waited_for() {
        let gc_guards = GcGuards::default();
        let first = gc_guards.begin();
        assert!(!gc_guards.wait_for_present(Duration::ZERO));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gc_guards.wait_for_present(Duration::from_secs(60)));
            let _later = gc_guards.begin();
            drop(first);
            // The later one may have come before the wait began: then it ends first.
            drop(_later);
            assert!(waiting.join().expect("no panic"));
        });
        let held = gc_guards.begin();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gc_guards.wait_for_present(Duration::from_secs(60)));
            drop(held);
            assert!(waiting.join().expect("no panic"));
        });
    }
}
