//! Cache locks: one for each cache mount that somebody uses, or git repository that somebody fetches into.
//!
//! The worker owns them. Steps take the lock of a mount that is not shared, sources that of a repository.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// The locks of cache mounts, by their id. One that nobody has any more is forgotten.
#[derive(Debug, Default)]
pub(crate) struct CacheLocks(Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl CacheLocks {
    /// The lock of a cache mount.
    pub(crate) fn get(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(id.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_locks_are_forgotten_when_nobody_has_them() {
        let locks = CacheLocks::default();
        let held = locks.get("kept").try_lock_owned().expect("nobody has it");
        for n in 0..100 {
            drop(locks.get(&n.to_string()).try_lock_owned().expect("nobody has it"));
        }
        assert!(locks.get("kept").try_lock_owned().is_err(), "a lock that is held stays the same");
        assert_eq!(locks.0.lock().expect("no panic").len(), 1);
        drop(held);
        assert!(locks.get("kept").try_lock_owned().is_ok());
    }
}
