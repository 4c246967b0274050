//! External data: bytes of a layer file that lie in a client's layer file, so that a copy does not write them a second time.
//!
//! The tar of such a layer is written without these bytes and the zeros that fill their last block: whoever reads it gets them from the data file (`Blob`),
//! and the index leads there, for EROFS knows further devices. The data file lies beside the layer file, as a hard link of the client's. So it goes with
//! the layer, whatever becomes of the client's tree.
//!
//! # On disk
//! ```text
//! layers/<id>        head | superblock | device slot | tar without the external data | index | extents
//! layers/<id>.data   the data file
//! an extent: first byte in the tar, bytes, first byte in the data file; 8 bytes LE each
//! ```
//! Files from before have holes in the tar instead, and zeros of their own behind them (`TarLayout::Holes`).
//!
//! # Invariants
//! A data file never changes: it is a committed layer. Extents are sorted, do not overlap, begin at blocks, and lie inside the tar and the data file.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::erofs::BLOCK;
use crate::disk;

/// Bytes of an extent on disk.
const EXTENT_BYTES: usize = 24;
/// Extents of one layer: whoever reads its tar has all of them in memory.
const MAX_EXTENTS: usize = 1 << 20;

/// What the tar has where bytes are external.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TarLayout {
    /// Nothing: what follows lies where they would.
    Cut,
    /// A hole as large as they are.
    Holes,
}

/// Where a file's bytes lie: in a file that never changes.
#[derive(Clone, Copy, Debug)]
pub struct ExternalBytes<'a> {
    /// That file.
    pub file: &'a File,
    /// The first of them.
    pub at: u64,
}

/// Bytes of a tar that lie in another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExternalExtent {
    /// First byte in the tar.
    pub(super) at: u64,
    /// Bytes.
    pub(super) size: u64,
    /// First byte in the data file.
    pub(super) from: u64,
}

impl ExternalExtent {
    /// Where the layer file's own bytes go on in the tar.
    fn end(&self, form: TarLayout) -> io::Result<u64> {
        let end = self.at.checked_add(self.size);
        let end = if form == TarLayout::Cut {
            end.and_then(|end| end.checked_next_multiple_of(BLOCK))
        } else {
            end
        };
        end.ok_or_else(invalid)
    }
}

/// An extent, and what it means for what follows it.
#[derive(Clone, Copy, Debug)]
struct PlacedExtent {
    extent: ExternalExtent,
    /// Where the layer file's own bytes go on in the tar.
    end: u64,
    /// Bytes of the tar up to there that the layer file does not have.
    missing: u64,
}

/// The external data of a layer, and its data file.
#[derive(Debug)]
pub(crate) struct ExternalData {
    data_file: File,
    /// Its device and number there.
    id: (u64, u64),
    extents: Vec<PlacedExtent>,
}

/// Where the data file of the layer file `path` lies, if it has one.
pub(crate) fn data_file_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".data");
    PathBuf::from(name)
}

/// The layer whose data file has this name.
pub(crate) fn layer_of_data_file(name: &str) -> Option<&str> {
    name.strip_suffix(".data")
}

impl ExternalData {
    /// No external data yet.
    pub(super) fn new(data_file: &File) -> io::Result<Self> {
        Ok(Self { data_file: data_file.try_clone()?, id: id(data_file)?, extents: Vec::new() })
    }

    /// Bytes of the data file.
    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.data_file.metadata()?.len())
    }

    /// Whether this is the data file.
    pub(super) fn is_from(&self, file: &File) -> io::Result<bool> {
        Ok(self.id == id(file)?)
    }

    /// Whether there may be one extent more.
    pub(super) fn has_room(&self) -> bool {
        self.extents.len() < MAX_EXTENTS
    }

    /// Adds an extent; what lies further ahead in the tar comes later.
    pub(super) fn push(&mut self, extent: ExternalExtent) -> io::Result<()> {
        self.place(extent, extent.end(TarLayout::Cut)?, TarLayout::Cut);
        Ok(())
    }

    fn place(&mut self, extent: ExternalExtent, end: u64, form: TarLayout) {
        let missing = if form == TarLayout::Cut { self.missing() + (end - extent.at) } else { 0 };
        self.extents.push(PlacedExtent { extent, end, missing });
    }

    /// Bytes of the tar so far that the layer file does not have.
    pub(super) fn missing(&self) -> u64 {
        self.extents.last().map_or(0, |last| last.missing)
    }

    /// Puts the data file beside the layer file `path`.
    pub(super) fn keep(&self, path: &Path) -> io::Result<()> {
        disk::link(&self.data_file, &data_file_of(path))
    }

    /// Writes the extents.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for ExternalExtent { at, size, from } in self.extents.iter().map(|placed| placed.extent) {
            [at, size, from].into_iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))?;
        }
        Ok(())
    }

    /// Reads the extents that lie in `file` from `begin` on, of a tar of `tar` bytes; `data_file` is its data file.
    pub(super) fn read(
        file: &File,
        begin: u64,
        tar: u64,
        form: TarLayout,
        data_file: File,
    ) -> io::Result<Self> {
        let size = file.metadata()?.len().checked_sub(begin).and_then(|size| usize::try_from(size).ok());
        let size = size.filter(|size| *size <= MAX_EXTENTS * EXTENT_BYTES).ok_or_else(invalid)?;
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, begin)?;
        let number =
            |extent: &[u8], n: usize| u64::from_le_bytes(extent[8 * n..8 * n + 8].try_into().expect("8"));
        let extents = bytes.chunks_exact(EXTENT_BYTES);
        if !extents.remainder().is_empty() || extents.len() == 0 {
            return Err(invalid());
        }
        let mut external =
            Self { id: id(&data_file)?, data_file, extents: Vec::with_capacity(extents.len()) };
        let has = external.size()?;
        for extent in extents {
            let extent =
                ExternalExtent { at: number(extent, 0), size: number(extent, 1), from: number(extent, 2) };
            let inside = extent.from.checked_add(extent.size).is_some_and(|end| end <= has);
            let end = extent.end(form)?;
            let before = external.extents.last().map_or(0, |last| last.end);
            if !inside || extent.at < before || end > tar {
                return Err(invalid());
            }
            external.place(extent, end, form);
        }
        Ok(external)
    }

    /// Reads bytes at `offset` of the tar: those of the layer file itself are in `file` from `begin` on. Fills `buf` unless a file ends.
    pub(crate) fn read_at(&self, file: &File, begin: u64, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut next = self.extents.partition_point(|placed| placed.end <= offset);
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            next += usize::from(self.extents.get(next).is_some_and(|placed| placed.end <= at));
            let buf = &mut buf[done..];
            let most = |size: u64| buf.len().min(usize::try_from(size).unwrap_or(usize::MAX));
            let before = next.checked_sub(1).map_or(0, |before| self.extents[before].missing);
            let count = match self.extents.get(next) {
                None => file.read_at(buf, begin + at - before)?,
                Some(PlacedExtent { extent, .. }) if at < extent.at => {
                    let want = most(extent.at - at);
                    file.read_at(&mut buf[..want], begin + at - before)?
                }
                Some(PlacedExtent { extent, .. }) if at < extent.at + extent.size => {
                    let want = most(extent.at + extent.size - at);
                    self.data_file.read_at(&mut buf[..want], extent.from + (at - extent.at))?
                }
                Some(placed) => {
                    let want = most(placed.end - at);
                    buf[..want].fill(0);
                    want
                }
            };
            match count {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }
}

/// Device and number of a file.
fn id(file: &File) -> io::Result<(u64, u64)> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what it borrows is not as it was written")
}

#[cfg(test)]
mod tests;
