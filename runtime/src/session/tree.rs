//! Tree: a client's files, taken into a layer of ours, with what is known from an earlier build taken from there.
//!
//! The client describes every entry; the bytes of a file are asked for only if its description differs from the one that came with the tree
//! of an earlier build (BuildKit's `metadata` differ). A tree in which nothing differs is not made at all.
//!
//! # Invariants
//! An earlier tree is a committed layer: it never changes. Bytes are hashed as they come, once.
//!
//! # Sources
//! BuildKit `source/local`, fsutil `receive.go`.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use buildd_oci::digest::{Digest, Digester};

use crate::{
    checksum,
    error::{Error, Result},
    layer::{Entry, EntryKind, Extent},
};

mod file;
mod folder;

use file::FileStore;
use folder::FolderStore;

/// What is known of an entry that a client sent.
#[derive(Clone, Debug)]
struct Known {
    /// As the client described it.
    entry: Entry,
    /// Of a file, its bytes.
    digest: Option<Digest>,
    /// Of a file in a layer file, where they lie.
    extent: Option<Extent>,
}

/// A tree that a client sent before: where it lies, and how the client described it.
#[derive(Debug)]
pub struct SyncedTree {
    place: PathBuf,
    entries: BTreeMap<PathBuf, Known>,
}

impl SyncedTree {
    /// Whether a file is described as it was: its bytes need not come again.
    pub fn has(&self, entry: &Entry) -> bool {
        self.entries.get(&entry.path).is_some_and(|known| known.entry == *entry)
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Digest of all that it holds.
    pub(crate) fn digest(&self) -> Digest {
        checksum::listed(self.entries.values().map(|known| (&known.entry, known.digest)))
    }

    /// Moves to where the tree's layer lies.
    pub fn at(mut self, place: PathBuf) -> Self {
        self.place = place;
        self
    }
}

/// Where a client's files go: a layer in one of its forms.
trait TreeStore: Send + std::fmt::Debug {
    /// Makes what has no bytes.
    fn make(&mut self, entry: &Entry) -> Result<()>;
    /// Takes a file over from the earlier tree.
    fn reuse(&mut self, earlier: &SyncedTree, known: &Known) -> Result<Option<Extent>>;
    /// Begins a file whose bytes will come.
    fn begin(&mut self, entry: &Entry) -> Result<()>;
    /// Appends to it.
    fn write(&mut self, path: &Path, data: &[u8]) -> Result<()>;
    /// It has all its bytes.
    fn end(&mut self, path: &Path) -> Result<Option<Extent>>;
    /// All is there.
    fn finish(&mut self) -> Result<()>;
}

/// Takes a client's files, in the order of the protocol: entries first, then the bytes of files.
#[derive(Debug)]
pub struct TreeSink {
    place: PathBuf,
    store: Box<dyn TreeStore>,
    /// Files whose bytes come, and their hash so far.
    open: HashMap<PathBuf, Digester>,
    base: Option<Arc<SyncedTree>>,
    entries: BTreeMap<PathBuf, Known>,
    /// Entries that are all as in the base: not made as long as nothing differs.
    pending: Vec<Entry>,
    differs: bool,
    received: Arc<AtomicU64>,
}

impl TreeSink {
    /// Takes files into `root`, an empty folder; those that `base` has already are not fetched.
    pub fn folder(root: &Path, base: Option<Arc<SyncedTree>>) -> Result<Self> {
        let store = FolderStore::new(root)?;
        Ok(Self::new(root, Box::new(store), base))
    }

    /// Takes files into the layer file `path`, which must not be there yet.
    pub fn file(path: &Path, base: Option<Arc<SyncedTree>>) -> Result<Self> {
        let store = FileStore::new(path, base.as_deref().map(|base| base.place.as_path()))?;
        Ok(Self::new(path, Box::new(store), base))
    }

    fn new(place: &Path, store: Box<dyn TreeStore>, base: Option<Arc<SyncedTree>>) -> Self {
        Self {
            place: place.to_owned(),
            store,
            open: HashMap::new(),
            differs: base.is_none(),
            base,
            entries: BTreeMap::new(),
            pending: Vec::new(),
            received: Arc::default(),
        }
    }

    /// What is known from an earlier build.
    pub fn base(&self) -> Option<Arc<SyncedTree>> {
        self.base.clone()
    }

    /// The number of bytes that have come so far, for whoever shows it.
    pub(crate) fn received(&self) -> Arc<AtomicU64> {
        self.received.clone()
    }

    /// Takes an entry; a file that the base does not have is empty until it is written to.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        let known = self.base.as_ref().is_some_and(|base| base.has(entry));
        if !known {
            self.make_pending()?;
        }
        match self.differs {
            true => self.make(entry),
            false => {
                self.pending.push(entry.clone());
                Ok(())
            }
        }
    }

    /// Something differs: makes what was put off.
    fn make_pending(&mut self) -> Result<()> {
        self.differs = true;
        for entry in std::mem::take(&mut self.pending) {
            self.make(&entry)?;
        }
        Ok(())
    }

    fn make(&mut self, entry: &Entry) -> Result<()> {
        let mut made = Known { entry: entry.clone(), digest: None, extent: None };
        match entry.kind {
            EntryKind::File { size: 0 } => {
                made.digest = Some(Digest::of(b""));
                self.store.make(entry)?;
            }
            EntryKind::File { .. } => {
                let earlier =
                    self.base.as_ref().and_then(|base| Some((base, base.entries.get(&entry.path)?)));
                match earlier.filter(|(_, known)| known.entry == *entry) {
                    Some((base, known)) => {
                        made = Known { extent: self.store.reuse(base, known)?, ..known.clone() };
                    }
                    None => {
                        self.store.begin(entry)?;
                        self.open.insert(entry.path.clone(), Digester::default());
                    }
                }
            }
            _ => self.store.make(entry)?,
        }
        self.entries.insert(entry.path.clone(), made);
        Ok(())
    }

    /// Appends to a file that was announced.
    pub fn write(&mut self, path: &Path, data: &[u8]) -> Result<()> {
        self.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        let Some(digester) = self.open.get_mut(path) else {
            return Err(Error::LayerEntry {
                entry: path.display().to_string(),
                reason: "its bytes were not asked for".to_owned(),
            });
        };
        digester.update(data);
        self.store.write(path, data)
    }

    /// A file has all its bytes.
    pub fn close(&mut self, path: &Path) -> Result<()> {
        let Some(digester) = self.open.remove(path) else { return Ok(()) };
        let extent = self.store.end(path)?;
        if let Some(known) = self.entries.get_mut(path) {
            (known.digest, known.extent) = (Some(digester.finish()), extent);
        }
        Ok(())
    }

    /// All is there. None if the tree is the base's, and none was made.
    pub fn finish(mut self) -> Result<Option<SyncedTree>> {
        let made = self.entries.len() + self.pending.len();
        let fewer = self.base.as_ref().is_some_and(|base| base.entries.len() != made);
        if !self.differs && !fewer {
            return Ok(None);
        }
        self.make_pending()?;
        if let Some(path) = self.open.keys().next() {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(Error::Apply { entry: path.display().to_string(), source });
        }
        self.store.finish()?;
        Ok(Some(SyncedTree { place: self.place, entries: self.entries }))
    }
}

#[cfg(test)]
mod tests;
