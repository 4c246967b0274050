//! Synced: a tree that a client sent, entry by entry: how the client described it, and where its bytes lie.
//!
//! The next sync of the same folder is compared with it, and what has its digest here is neither fetched nor hashed again.
//!
//! # Invariants
//! Entries are in the order of their paths, component by component, as the protocol sends them; each path once.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_oci::digest::Digest;
use buildd_store::layer::{Entry, Extent};

use crate::content_digest::{self, ContentHash};

/// What is known of an entry that a client sent.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// As the client described it.
    pub(crate) entry: Entry,
    /// Of a file, its bytes.
    pub(crate) digest: Option<ContentHash>,
    /// Of a file in a layer file, where they lie.
    pub(crate) extent: Option<Extent>,
}

/// A tree that a client sent: where it lies, and how the client described it.
#[derive(Debug)]
pub struct SyncedTree {
    pub(super) place: PathBuf,
    pub(super) entries: Vec<Known>,
}

impl SyncedTree {
    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Some of its entries, by their numbers; none if it has not so many.
    pub(super) fn some(&self, numbers: Range<usize>) -> &[Known] {
        self.entries.get(numbers).unwrap_or_default()
    }

    /// Where it lies.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Its entries from `path` on; what lies below a folder comes right after it.
    pub(crate) fn entries_from(&self, path: &Path) -> &[Known] {
        &self.entries[self.entries.partition_point(|known| known.entry.path.as_path() < path)..]
    }

    /// Whether it has the same entries, described in the same way, with the same bytes.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let alike = |(a, b): (&Known, &Known)| a.entry == b.entry && a.digest == b.digest;
        self.len() == other.len() && self.entries.iter().zip(&other.entries).all(alike)
    }

    /// Digest of all that it holds.
    pub(crate) fn digest(&self) -> Digest {
        content_digest::listed(self.entries.iter().map(|known| (&known.entry, known.digest)))
    }

    /// Moves to where the tree's layer lies.
    pub fn at(mut self, place: PathBuf) -> Self {
        self.place = place;
        self
    }
}

/// A place in a tree that was sent before, which goes along with the entries as they come again.
#[derive(Debug)]
pub struct Beside {
    tree: Arc<SyncedTree>,
    at: usize,
}

impl Beside {
    /// At the begin of the tree.
    pub fn new(tree: Arc<SyncedTree>) -> Self {
        Self { tree, at: 0 }
    }

    /// The number of the entry that is described as this one, if there is one: the bytes of a file need not come again.
    ///
    /// Entries are asked for in the order of their paths; one that comes out of order is unknown.
    pub fn same(&mut self, entry: &Entry) -> Option<usize> {
        let path: &Path = &entry.path;
        while let Some(known) = self.tree.entries.get(self.at) {
            if known.entry.path == path {
                let here = self.at;
                self.at += 1;
                return (known.entry == *entry).then_some(here);
            }
            if *known.entry.path > *path {
                return None;
            }
            self.at += 1;
        }
        None
    }
}
