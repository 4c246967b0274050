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
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use blake3::Hasher;
use buildd_store::{
    error::{Error, Result},
    layer::{Entry, EntryKind, Extent},
};
use file::FileStore;
use folder::FolderStore;

mod file;
mod folder;
mod synced;

pub(crate) use synced::Known;
pub use synced::{Beside, SyncedTree};

/// Files whose bytes may come at the same time: clients send a handful, and a hash in the making takes two kilobytes.
const MAX_AT_ONCE: usize = 4096;

/// Where a client's files go: a layer in one of its forms.
trait TreeStore: Send + std::fmt::Debug {
    /// Makes what has no bytes.
    fn make(&mut self, entry: &Entry) -> Result<()>;
    /// Takes a file over from the earlier tree.
    fn reuse(&mut self, earlier: &SyncedTree, known: &Known) -> Result<Option<Extent>>;
    /// Begins a file whose bytes will come under this number.
    fn begin(&mut self, id: u32, entry: &Entry) -> Result<()>;
    /// Appends to it.
    fn write(&mut self, id: u32, data: &[u8]) -> Result<()>;
    /// It has all its bytes.
    fn end(&mut self, id: u32) -> Result<Option<Extent>>;
    /// All is there.
    fn finish(&mut self) -> Result<()>;
}

/// Takes a client's files, in the order of the protocol: entries first, then the bytes of files.
#[derive(Debug)]
pub struct TreeSink {
    place: PathBuf,
    store: Box<dyn TreeStore>,
    /// Files whose bytes come, by the numbers under which they do: their places in `entries` and their hashes so far, once they have any.
    open: HashMap<u32, (usize, Option<Box<Hasher>>)>,
    /// How many of them have some.
    begun: usize,
    base: Option<Arc<SyncedTree>>,
    entries: Vec<Known>,
    /// As long as nothing differs, nothing is made: so many entries of the base came again.
    same: usize,
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
            begun: 0,
            differs: base.is_none(),
            base,
            entries: Vec::new(),
            same: 0,
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

    /// Takes entries that the base has, described as they are there, by their numbers there.
    pub fn known(&mut self, numbers: Range<usize>) -> Result<()> {
        if !self.differs && numbers.start == self.same {
            self.same = numbers.end;
            return Ok(());
        }
        self.make_same()?;
        self.take_over(numbers)
    }

    /// Takes an entry that the base does not have; a file's bytes come under the number `id`, unless it has none.
    pub fn entry(&mut self, id: u32, entry: Entry) -> Result<()> {
        self.make_same()?;
        let mut digest = None;
        match entry.kind {
            EntryKind::File { size: 0 } => {
                digest = Some(blake3::hash(b""));
                self.store.make(&entry)?;
            }
            EntryKind::File { .. } => {
                self.store.begin(id, &entry)?;
                self.open.insert(id, (self.entries.len(), None));
            }
            _ => self.store.make(&entry)?,
        }
        self.entries.push(Known { entry, digest, extent: None });
        Ok(())
    }

    /// Something differs: makes what was put off.
    fn make_same(&mut self) -> Result<()> {
        self.differs = true;
        let numbers = 0..std::mem::take(&mut self.same);
        self.take_over(numbers)
    }

    fn take_over(&mut self, numbers: Range<usize>) -> Result<()> {
        let Some(base) = self.base.clone() else { return Ok(()) };
        for known in base.some(numbers) {
            let mut made = known.clone();
            match known.entry.kind {
                EntryKind::File { size: 1.. } => made.extent = self.store.reuse(&base, known)?,
                _ => self.store.make(&known.entry)?,
            }
            self.entries.push(made);
        }
        Ok(())
    }

    /// Appends to a file that was announced.
    pub fn write(&mut self, id: u32, data: &[u8]) -> Result<()> {
        self.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        let Some((_, hasher)) = self.open.get_mut(&id) else {
            return Err(Error::LayerEntry {
                entry: id.to_string(),
                reason: "its bytes were not asked for".to_owned(),
            });
        };
        if hasher.is_none() {
            if self.begun == MAX_AT_ONCE {
                let reason = format!("the bytes of more than {MAX_AT_ONCE} files come at once");
                return Err(Error::LayerEntry { entry: id.to_string(), reason });
            }
            self.begun += 1;
        }
        hasher.get_or_insert_default().update(data);
        self.store.write(id, data)
    }

    /// A file has all its bytes.
    pub fn close(&mut self, id: u32) -> Result<()> {
        let Some((number, hasher)) = self.open.remove(&id) else { return Ok(()) };
        self.begun -= usize::from(hasher.is_some());
        let known = &mut self.entries[number];
        (known.extent, known.digest) = (self.store.end(id)?, Some(hasher.unwrap_or_default().finalize()));
        Ok(())
    }

    /// All is there. None if the tree is the base's, and none was made.
    pub fn finish(mut self) -> Result<Option<SyncedTree>> {
        let all = self.base.as_ref().is_some_and(|base| base.len() == self.same);
        if !self.differs && all {
            return Ok(None);
        }
        self.make_same()?;
        if let Some((number, _)) = self.open.values().next() {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(Error::Apply {
                entry: self.entries[*number].entry.path.display().to_string(),
                source,
            });
        }
        self.store.finish()?;
        Ok(Some(SyncedTree { place: self.place, entries: self.entries }))
    }
}

#[cfg(test)]
mod tests;
