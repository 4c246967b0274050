//! Digest lock: one at a time for each blob.
//!
//! Who comes second waits, and then finds what the first one brought; if the first one failed, it goes on from where that one stopped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use buildd_oci::digest::Digest;
use tokio::sync::OwnedMutexGuard;

/// Who is at work on which blob.
#[derive(Debug, Default)]
pub struct DigestLocks(Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>);

impl DigestLocks {
    /// Waits for the lock of a blob; it ends with the guard.
    pub(crate) async fn lock(&self, digest: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut digest_locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            digest_locks.retain(|_, turn| turn.strong_count() > 0);
            match digest_locks.get(digest).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    digest_locks.insert(*digest, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
