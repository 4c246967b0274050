//! Client files: a tree that a client sent, listed from what is known of it.
//!
//! # Invariants
//! An entry is given as its layer file, once mounted, would show it: a further name of a file is that file, and what has no bytes has no
//! attributes.
//!
//! Bytes may stay where they are if at least half of the tree is wanted, and enough to be worth it: a layer that refers to one file keeps all.

use std::{
    cell::RefCell,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_store::layer::{Entry, EntryKind, Extent, ExternalBytes, LARGE, LooseFile, broken};

use super::{Bytes, ListedEntry, ListingFilter, Take};
use crate::{
    error::{Error, Result},
    session::{Known, SyncedTree},
};

/// Bytes that are read at once: files lie one after another in the order in which they are asked for.
const WINDOW: usize = 256 << 10;

/// A client's tree in a layer file.
#[derive(Debug)]
pub(super) struct ClientFiles {
    synced: Arc<SyncedTree>,
    file: LooseFile,
    window: RefCell<Window>,
    /// Bytes of files from which on they may stay here.
    enough: u64,
}

impl ClientFiles {
    /// Opens the layer file; None if the tree is in a folder.
    pub(super) fn open(synced: Arc<SyncedTree>) -> Result<Option<Self>> {
        let Some(file) = LooseFile::open(synced.place())? else { return Ok(None) };
        let whole = synced.entries_from(Path::new("")).iter().map(size).sum::<u64>();
        Ok(Some(Self { synced, file, window: RefCell::default(), enough: whole.div_ceil(2).max(LARGE) }))
    }

    /// The entry at `path`, without its name. The root itself is not the client's.
    pub(super) fn one(&self, path: &Path, take: &mut Take<'_>) -> Result<()> {
        if path.as_os_str().is_empty() {
            return take(ListedEntry {
                entry: Entry::directory(PathBuf::new()),
                bytes: Bytes::At(PathBuf::new()),
            });
        }
        match self.synced.entries_from(path).first() {
            Some(known) if known.entry.path == path => {
                self.give(known, PathBuf::new(), self.lends([known]), take)
            }
            _ => Err(Error::NotFound { what: "path", name: path.display().to_string() }),
        }
    }

    pub(super) fn below(&self, folder: &Path, wanted: &ListingFilter<'_>, take: &mut Take<'_>) -> Result<()> {
        let below = || {
            let paths = self.synced.entries_from(folder).iter();
            let paths = paths.map_while(|known| Some((known, known.entry.path.strip_prefix(folder).ok()?)));
            paths.filter(|(_, path)| !path.as_os_str().is_empty() && wanted.has(path))
        };
        let lends = self.lends(below().map(|(known, _)| known));
        for (known, path) in below() {
            self.give(known, path.to_owned(), lends, take)?;
        }
        Ok(())
    }

    /// Whether these files are so much of the tree that they may stay in it.
    fn lends<'a>(&self, files: impl IntoIterator<Item = &'a Known>) -> bool {
        files.into_iter().map(size).sum::<u64>() >= self.enough
    }

    fn give(&self, known: &Known, path: PathBuf, lends: bool, take: &mut Take<'_>) -> Result<()> {
        let known = self.linked(known)?;
        let mut entry = Entry { path, ..known.entry.clone() };
        match &mut entry.kind {
            EntryKind::File { size } => *size = known.extent.map_or(0, |extent| extent.size),
            EntryKind::Directory => {}
            EntryKind::Symlink(_) => (entry.mode, entry.xattrs) = (0o777, Default::default()),
            kind => {
                if *kind == EntryKind::Char(0, 0) {
                    *kind = EntryKind::Whiteout;
                }
                entry.xattrs.clear();
            }
        }
        let extent = known.extent.unwrap_or(Extent { at: 0, size: 0 });
        let part = Part { files: self, at: extent.at, left: extent.size, lends };
        take(ListedEntry { entry, bytes: Bytes::Part(part, known.digest) })
    }

    /// The file that a hard link is another name of; anything else itself.
    fn linked<'a>(&'a self, mut known: &'a Known) -> Result<&'a Known> {
        // A link leads to an entry before it: this ends.
        while let EntryKind::Hardlink(target) = &known.entry.kind {
            let there = self.synced.entries_from(target).first().filter(|there| there.entry.path == *target);
            let missing = || broken(known.entry.path.display().to_string(), "what it links to is not there");
            known = there.filter(|there| there.entry.path < known.entry.path).ok_or_else(missing)?;
        }
        Ok(known)
    }
}

/// Bytes of a file in the tree.
fn size(known: &Known) -> u64 {
    known.extent.map_or(0, |extent| extent.size)
}

/// The piece of the layer file that was read last.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    /// Where it begins.
    at: u64,
}

impl Window {
    /// Reads of `file` at `at` into `buf`, of `left` bytes that the file has from there.
    fn read(&mut self, file: &LooseFile, at: u64, left: u64, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let held = |window: &Self| {
            let from = usize::try_from(at.checked_sub(window.at)?).ok()?;
            Some(from..window.bytes.len()).filter(|range| !range.is_empty())
        };
        if held(self).is_none() {
            if left >= WINDOW as u64 {
                return file.read_at(at, &mut buf[..want]);
            }
            self.at = at;
            self.bytes.resize(WINDOW, 0);
            let count = file.read_at(at, &mut self.bytes);
            self.bytes.truncate(*count.as_ref().unwrap_or(&0));
            count?;
        }
        let Some(range) = held(self) else { return Ok(0) };
        let count = want.min(range.len());
        buf[..count].copy_from_slice(&self.bytes[range.start..range.start + count]);
        Ok(count)
    }
}

/// The bytes of one file.
#[derive(Debug)]
pub(super) struct Part<'a> {
    files: &'a ClientFiles,
    at: u64,
    left: u64,
    lends: bool,
}

impl<'a> Part<'a> {
    /// Where the bytes lie, if they may stay there.
    pub(super) fn external(&self) -> Option<ExternalBytes<'a>> {
        self.lends.then(|| self.files.file.external(self.at))
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buf.is_empty() {
            return Ok(0);
        }
        let count = self.files.window.borrow_mut().read(&self.files.file, self.at, self.left, buf)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
