//! File: a client's files in a layer file.
//!
//! A file's place is reserved when it is announced, and it moves if it turns out to be longer: it was written to meanwhile.

use std::{collections::HashMap, path::Path};

use buildd_store::{
    error::{Error, Result},
    layer::{Entry, EntryKind, Extent, LooseFileWriter},
};

use super::{Known, SyncedTree, TreeStore};

/// A layer file in the making.
#[derive(Debug)]
pub(super) struct FileStore {
    writer: LooseFileWriter,
    open: HashMap<u32, Growing>,
    /// Hard links: what they name may still be open.
    links: Vec<Entry>,
}

#[derive(Debug)]
struct Growing {
    entry: Entry,
    reserved: Extent,
    written: u64,
}

impl FileStore {
    pub(super) fn new(path: &Path, earlier: Option<&Path>) -> Result<Self> {
        let writer = LooseFileWriter::new(path, earlier)?;
        Ok(Self { writer, open: HashMap::new(), links: Vec::new() })
    }
}

impl TreeStore for FileStore {
    fn make(&mut self, entry: &Entry) -> Result<()> {
        match entry.kind {
            EntryKind::Hardlink(_) => {
                self.links.push(entry.clone());
                Ok(())
            }
            _ => self.writer.entry(entry, None),
        }
    }

    fn reuse(&mut self, _: &SyncedTree, known: &Known) -> Result<Option<Extent>> {
        let missing =
            || Error::NotFound { what: "earlier copy of", name: known.entry.path.display().to_string() };
        let here = self.writer.reuse(known.extent.ok_or_else(missing)?)?;
        let entry = Entry { kind: EntryKind::File { size: here.size }, ..known.entry.clone() };
        self.writer.entry(&entry, Some(here))?;
        Ok(Some(here))
    }

    fn begin(&mut self, id: u32, entry: &Entry) -> Result<()> {
        let EntryKind::File { size } = entry.kind else { return self.make(entry) };
        let growing = Growing { entry: entry.clone(), reserved: self.writer.reserve(size)?, written: 0 };
        self.open.insert(id, growing);
        Ok(())
    }

    fn write(&mut self, id: u32, data: &[u8]) -> Result<()> {
        let Some(file) = self.open.get_mut(&id) else { return Ok(()) };
        let end = file.written + data.len() as u64;
        if end > file.reserved.size {
            let place = self.writer.reserve(end.saturating_mul(2))?;
            self.writer.copy_within(Extent { at: file.reserved.at, size: file.written }, place.at)?;
            file.reserved = place;
        }
        self.writer.write_at(file.reserved.at + file.written, data)?;
        file.written = end;
        Ok(())
    }

    fn end(&mut self, id: u32) -> Result<Option<Extent>> {
        let Some(mut file) = self.open.remove(&id) else { return Ok(None) };
        let here = Extent { at: file.reserved.at, size: file.written };
        file.entry.kind = EntryKind::File { size: here.size };
        self.writer.entry(&file.entry, Some(here))?;
        Ok(Some(here))
    }

    fn finish(&mut self) -> Result<()> {
        for link in std::mem::take(&mut self.links) {
            self.writer.entry(&link, None)?;
        }
        self.writer.finish()
    }
}
