//! Collect: when garbage is collected, and how much of the build cache is kept.
//!
//! A deletion asks for a round soon; several in a row get one. A client that asks for `sync` waits for a round of its own. Now and then the
//! build cache is cut back to what the configuration keeps, oldest use first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use buildd_store::{Error, gc, root::Store, usage};
use tokio::sync::Notify;

use crate::{config::Rule, filter::Filters, status};

/// Deletions within this time share a round.
const GATHER: Duration = Duration::from_secs(5);
/// How often it is looked whether builds made the cache grow.
const LOOK: Duration = Duration::from_secs(60);
/// After so many looks without a build, the rules apply anyway: the disk fills, and records age.
const QUIET_LOOKS: u32 = 10;

/// Asks for rounds.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    store: Arc<Store>,
    rules: Arc<[Rule]>,
    dirty: Arc<Notify>,
    built: Arc<AtomicBool>,
}

impl Collector {
    /// A collector, at work from now on, that cuts the build cache back by `rules`.
    pub(crate) fn start(store: Arc<Store>, rules: Vec<Rule>) -> Self {
        let collector = Self { store, rules: rules.into(), dirty: Arc::default(), built: Arc::default() };
        let background = collector.clone();
        tokio::spawn(async move {
            let mut quiet = 0;
            let mut look = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    () = background.dirty.notified() => tokio::time::sleep(GATHER).await,
                    _ = look.tick() => {
                        quiet += 1;
                        if !background.built.swap(false, Ordering::Relaxed) && quiet < QUIET_LOOKS {
                            continue;
                        }
                        quiet = 0;
                        background.trim().await;
                    }
                }
                if let Err(error) = background.now().await {
                    tracing::warn!(%error, "collect garbage");
                }
            }
        });
        collector
    }

    /// Applies the rules, each to what the one before left.
    async fn trim(&self) {
        for rule in self.rules.iter() {
            let (store, rule) = (Arc::clone(&self.store), rule.clone());
            let work = move || {
                let filters = Filters::parse(&rule.filters)?;
                usage::prune(&store, &rule.policy, &|record| filters.matches(record))
                    .map_err(|error| status::of(&error))
            };
            match buildd_fs::blocking::run(work).await {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => tracing::info!("forgot {} records of the build cache", removed.len()),
                Err(error) => tracing::warn!(%error, "cut the build cache back"),
            }
        }
    }

    /// The rules that the cache is cut back by.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Notes that a build ended: the cache may have grown.
    pub(crate) fn built(&self) {
        self.built.store(true, Ordering::Relaxed);
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
