//! Client files: a tree that a client sent, listed from what is known of it.
//!
//! # Invariants
//! An entry is given as its layer file, once mounted, would show it: a further name of a file is that file, and what has no bytes has no
//! attributes.

use std::{
    cell::RefCell,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Bytes, Found, Take, Wanted};
use crate::{
    error::{Error, Result},
    layer::{Entry, EntryKind, Extent, LooseFile, broken},
    session::{Known, SyncedTree},
};

/// Bytes that are read at once: files lie one after another in the order in which they are asked for.
const WINDOW: usize = 256 << 10;

/// A client's tree in a layer file.
#[derive(Debug)]
pub(super) struct ClientFiles {
    synced: Arc<SyncedTree>,
    window: RefCell<Window>,
}

impl ClientFiles {
    /// Opens the layer file; None if the tree is in a folder.
    pub(super) fn open(synced: Arc<SyncedTree>) -> Result<Option<Self>> {
        let Some(file) = LooseFile::open(synced.place())? else { return Ok(None) };
        let window = Window { file, bytes: Vec::new(), at: 0 };
        Ok(Some(Self { synced, window: RefCell::new(window) }))
    }

    /// The entry at `path`, without its name. The root itself is not the client's.
    pub(super) fn one(&self, path: &Path, take: &mut Take<'_>) -> Result<()> {
        if path.as_os_str().is_empty() {
            return take(Found { entry: Entry::directory(PathBuf::new()), bytes: Bytes::At(PathBuf::new()) });
        }
        match self.synced.entries_from(path).first() {
            Some(known) if known.entry.path == path => self.give(known, PathBuf::new(), take),
            _ => Err(Error::NotFound { what: "path", name: path.display().to_string() }),
        }
    }

    pub(super) fn below(&self, folder: &Path, wanted: &Wanted<'_>, take: &mut Take<'_>) -> Result<()> {
        for known in self.synced.entries_from(folder) {
            let Ok(path) = known.entry.path.strip_prefix(folder) else { break };
            if !path.as_os_str().is_empty() && wanted.has(path) {
                self.give(known, path.to_owned(), take)?;
            }
        }
        Ok(())
    }

    fn give(&self, known: &Known, path: PathBuf, take: &mut Take<'_>) -> Result<()> {
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
        let part = Part { window: &self.window, at: extent.at, left: extent.size };
        take(Found { entry, bytes: Bytes::Part(part, known.digest) })
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

/// The piece of the layer file that was read last.
#[derive(Debug)]
struct Window {
    file: LooseFile,
    bytes: Vec<u8>,
    /// Where it begins.
    at: u64,
}

impl Window {
    /// Reads at `at` into `buf`, of `left` bytes that the file has from there.
    fn read(&mut self, at: u64, left: u64, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let held = |window: &Self| {
            let from = usize::try_from(at.checked_sub(window.at)?).ok()?;
            Some(from..window.bytes.len()).filter(|range| !range.is_empty())
        };
        if held(self).is_none() {
            if left >= WINDOW as u64 {
                return self.file.read_at(at, &mut buf[..want]);
            }
            self.at = at;
            self.bytes.resize(WINDOW, 0);
            let count = self.file.read_at(at, &mut self.bytes);
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
    window: &'a RefCell<Window>,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buf.is_empty() {
            return Ok(0);
        }
        let count = self.window.borrow_mut().read(self.at, self.left, buf)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
