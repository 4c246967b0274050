//! Contexts: the trees of clients' earlier builds, kept in mind so that only what changed is sent again.
//!
//! The local source keeps and finds them; listings ask what is known of one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use buildd_oci::digest::Digest;
use buildd_store::snapshot::SnapshotId;

use crate::session::{SyncRequest, SyncedTree};

/// Trees that are kept in mind: a client has few folders, and three for each build.
const MAX_CONTEXTS: usize = 96;
/// Entries of all of them: some 300 bytes each. The latest tree is kept whatever it has.
const MAX_ENTRIES: usize = 100_000;

/// A client's tree that was synced.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) id: SnapshotId,
    pub(crate) digest: Digest,
    pub(crate) tree: Arc<SyncedTree>,
}

/// A client and what it was asked for.
pub(crate) type ContextKey = (String, SyncRequest);

/// The trees of earlier builds, the latest last.
#[derive(Debug, Default)]
pub(crate) struct Contexts(Mutex<VecDeque<(ContextKey, Context)>>);

impl Contexts {
    /// The tree of the same request; else the latest of the same folder, asked for with other patterns: what it has of the files is as good.
    pub(crate) fn find(&self, key: &ContextKey) -> Option<Context> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = kept.iter().find(|(known, _)| known == key);
        let alike = |(known, _): &&(ContextKey, Context)| known.0 == key.0 && known.1.name == key.1.name;
        let found = same.or_else(|| kept.iter().filter(alike).max_by_key(|(_, context)| context.tree.len()));
        found.map(|(_, context)| context.clone())
    }

    /// What is known of a snapshot, if it is one of these trees.
    pub(crate) fn tree(&self, id: SnapshotId) -> Option<Arc<SyncedTree>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(_, context)| context.id == id).map(|(_, context)| Arc::clone(&context.tree))
    }

    pub(crate) fn keep(&self, key: ContextKey, context: Context) -> Context {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != key);
        if !key.0.is_empty() {
            kept.push_back((key, context.clone()));
        }
        let entries = |kept: &VecDeque<_>| {
            kept.iter().map(|(_, context): &(_, Context)| context.tree.len()).sum::<usize>()
        };
        while kept.len() > MAX_CONTEXTS || kept.len() > 1 && entries(&kept) > MAX_ENTRIES {
            kept.pop_front();
        }
        context
    }
}
