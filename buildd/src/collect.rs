//! Collect: when garbage is collected, and how much of the build cache is kept.
//!
//! A deletion asks for a round soon; several in a row get one. A client that asks for `sync` waits for a round of its own. Now and then the
//! build cache is cut back to what the configuration keeps, oldest use first.

use std::{sync::Arc, time::Duration};

use buildd_runtime::{Error, cache_store::SqliteCacheStore, gc, store::Store};
use tokio::sync::Notify;

/// Deletions within this time share a round.
const GATHER: Duration = Duration::from_secs(5);
/// How often the cache's size is looked at.
const LOOK: Duration = Duration::from_secs(10 * 60);

/// Asks for rounds.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    store: Arc<Store>,
    dirty: Arc<Notify>,
}

impl Collector {
    /// A collector, at work from now on; `keep` bytes of the build cache stay, all of it if None.
    pub(crate) fn start(store: Arc<Store>, keep: Option<u64>) -> Self {
        let collector = Self { store, dirty: Arc::default() };
        let background = collector.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = background.dirty.notified() => tokio::time::sleep(GATHER).await,
                    () = tokio::time::sleep(LOOK) => background.trim(keep).await,
                }
                if let Err(error) = background.now().await {
                    tracing::warn!(%error, "collect garbage");
                }
            }
        });
        collector
    }

    async fn trim(&self, keep: Option<u64>) {
        let Some(keep) = keep else { return };
        let cache = SqliteCacheStore::new(Arc::clone(&self.store));
        let limit = buildd_runtime::cache_store::Limit { max_used: Some(keep), ..Default::default() };
        let trimmed = buildd_fs::blocking::run(move || cache.prune(&limit, &|_| true)).await;
        match trimmed {
            Ok(removed) if !removed.is_empty() => {
                tracing::info!("forgot {} results of the cache", removed.len())
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cut the build cache back"),
        }
    }

    /// Asks for a round soon.
    pub(crate) fn soon(&self) {
        self.dirty.notify_one();
    }

    /// A whole round, now.
    pub(crate) async fn now(&self) -> Result<gc::Collected, Error> {
        let store = Arc::clone(&self.store);
        let collected = buildd_fs::blocking::run(move || gc::collect(&store)).await?;
        if collected != gc::Collected::default() {
            let (blobs, layers) = (collected.blobs.len(), collected.layers.len());
            tracing::debug!(blobs, layers, uppers = collected.uppers.len(), "collected");
        }
        Ok(collected)
    }

    /// After a deletion: a round now for a client that waits for it, else soon.
    pub(crate) async fn after_deletion(&self, sync: bool) -> Result<(), Error> {
        match sync {
            true => self.now().await.map(drop),
            false => {
                self.soon();
                Ok(())
            }
        }
    }
}
