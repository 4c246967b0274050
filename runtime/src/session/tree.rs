//! Tree: a client's files, taken into a folder of ours, with what is known from an earlier build left where it is.
//!
//! The client describes every entry; the bytes of a file are asked for only if its description differs from the one that came with the tree
//! of an earlier build (BuildKit's `metadata` differ). A tree in which nothing differs is not made at all.
//!
//! # Invariants
//! An earlier tree is a committed layer: it never changes, so its files may be linked into the next one, which never changes either.
//!
//! # Sources
//! BuildKit `source/local`, fsutil `receive.go`.

use std::{
    collections::HashMap,
    fs::File,
    io::Write,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use buildd_fs::path::{open_in_root, open_root};
use rustix::fs::{AtFlags, Mode, OFlags};

use crate::{
    error::{Error, Result},
    layer::{DirectoryWriter, Entry, EntryKind, LayerWriter as _, Time, Whiteouts},
};

/// A tree that a client sent before: where it lies, and how the client described it.
#[derive(Debug)]
pub struct SyncedTree {
    folder: PathBuf,
    entries: HashMap<PathBuf, Entry>,
}

impl SyncedTree {
    /// Whether a file is described as it was: its bytes need not come again.
    pub fn has(&self, entry: &Entry) -> bool {
        self.entries.get(&entry.path) == Some(entry)
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Moves to where the tree's layer lies.
    pub fn at(mut self, folder: PathBuf) -> Self {
        self.folder = folder;
        self
    }
}

/// Takes a client's files into a folder of ours, in the order of the protocol: entries first, then the bytes of files.
#[derive(Debug)]
pub struct TreeSink {
    root: PathBuf,
    writer: DirectoryWriter,
    open: HashMap<PathBuf, File>,
    times: Vec<(PathBuf, Time)>,
    base: Option<Arc<SyncedTree>>,
    entries: HashMap<PathBuf, Entry>,
    /// Entries that are all as in the base: not made as long as nothing differs.
    pending: Vec<Entry>,
    differs: bool,
    received: Arc<AtomicU64>,
}

impl TreeSink {
    /// Takes files into `root`, an empty folder; those that `base` has already are not fetched.
    pub fn new(root: &Path, base: Option<Arc<SyncedTree>>) -> Result<Self> {
        let writer = DirectoryWriter::new(root, Whiteouts::Refuse)?;
        Ok(Self {
            root: root.to_owned(),
            writer,
            open: HashMap::new(),
            times: Vec::new(),
            differs: base.is_none(),
            base,
            entries: HashMap::new(),
            pending: Vec::new(),
            received: Arc::default(),
        })
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
        self.entries.insert(entry.path.clone(), entry.clone());
        let known = self.base.as_ref().is_some_and(|base| base.has(entry));
        if !known {
            self.make_pending()?;
        }
        match self.differs {
            true => self.make(entry, known),
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
            self.make(&entry, true)?;
        }
        Ok(())
    }

    fn make(&mut self, entry: &Entry, known: bool) -> Result<()> {
        let mut entry = entry.clone();
        if let EntryKind::File { size } = &mut entry.kind {
            if known && *size > 0 && self.link(&entry.path)? {
                return Ok(());
            }
            *size = 0;
            self.times.push((entry.path.clone(), entry.mtime));
        }
        self.writer.entry(&entry, &mut std::io::empty())
    }

    /// Links a file of the base into the tree.
    fn link(&mut self, path: &Path) -> Result<bool> {
        let Some(base) = &self.base else { return Ok(false) };
        let fail = |source: std::io::Error| Error::Apply { entry: path.display().to_string(), source };
        let (from, to) = (open_root(&base.folder).map_err(fail)?, open_root(&self.root).map_err(fail)?);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let parents = |root: &std::os::fd::OwnedFd| {
            open_in_root(root.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        };
        let (from, to) = (parents(&from).map_err(fail)?, parents(&to).map_err(fail)?);
        // Gone, or linked too often: then the bytes must come again.
        let missing = |_| Error::NotFound { what: "earlier copy of", name: path.display().to_string() };
        rustix::fs::linkat(&from, name, &to, name, AtFlags::empty()).map_err(missing)?;
        Ok(true)
    }

    /// Appends to a file made before.
    pub fn write(&mut self, path: &Path, data: &[u8]) -> Result<()> {
        self.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        let fail = |source| Error::Apply { entry: path.display().to_string(), source };
        if !self.open.contains_key(path) {
            let root = open_root(&self.root).map_err(fail)?;
            let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW;
            let fd = open_in_root(root.as_fd(), path, flags, Mode::empty()).map_err(fail)?;
            self.open.insert(path.to_owned(), File::from(fd));
        }
        self.open.get_mut(path).expect("just opened").write_all(data).map_err(fail)
    }

    /// A file has all its bytes.
    pub fn close(&mut self, path: &Path) {
        self.open.remove(path);
    }

    /// All is there: sets the times. None if the tree is the base's, and none was made.
    pub fn finish(mut self) -> Result<Option<SyncedTree>> {
        let fewer = self.base.as_ref().is_some_and(|base| base.entries.len() != self.entries.len());
        if !self.differs && !fewer {
            return Ok(None);
        }
        self.make_pending()?;
        self.open.clear();
        for (path, mtime) in &self.times {
            let fail = |source| Error::Apply { entry: path.display().to_string(), source };
            let root = open_root(&self.root).map_err(fail)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            let fd = open_in_root(root.as_fd(), path, flags, Mode::empty()).map_err(fail)?;
            let time = rustix::fs::Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) };
            rustix::fs::futimens(&fd, &rustix::fs::Timestamps { last_access: time, last_modification: time })
                .map_err(|error| fail(error.into()))?;
        }
        self.writer.finish()?;
        Ok(Some(SyncedTree { folder: self.root, entries: self.entries }))
    }
}

#[cfg(test)]
mod tests;
