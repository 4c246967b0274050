//! Head: the first block of a layer file: what it is, where its parts lie, and a checksum of the index, without which nothing of it is found.
//!
//! Written last, so that a file without a head is no layer file. `open_tar` reads it to read the tar again: that range is what is exported
//! and what the diff_id is of. `check_index` proves the rest.
//!
//! # On disk
//! ```text
//! 0             8                16             24                       28   1024
//! | "buildd1\n" | tar, bytes LE  | index, at LE | crc32c of superblock   | 0… | superblock
//! | "buildd0\n" | 0: no tar      |              | and index, LE          |
//! | "buildd3\n" | the same, with a data file: its slot is in the sum; then extents, at LE |
//! ```
//! "buildd2\n" is that of a file from before, which has external data and holes in its tar. An index at 0 is that of a file from before there was a checksum:
//! it is not checked.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::{Path, PathBuf},
};

use buildd_fs::overlay::{OverlayError, erofs};

use super::{
    erofs::{DESCRIBED, NAME_AT, PLAIN, SUPERBLOCK, SUPERBLOCK_AT},
    external::{ExternalData, TarLayout, data_file_of},
};
use crate::{
    disk,
    error::{Error, Result},
    layer::Blob,
};

/// Bytes before the tar.
pub(super) const HEAD: u64 = 4096;
const MAGIC: [u8; 8] = *b"buildd1\n";
/// The same of a file that has no tar.
const NO_TAR: [u8; 8] = *b"buildd0\n";
/// The same of a file with external data, with holes in its tar: from before `CUT`.
const HOLES: [u8; 8] = *b"buildd2\n";
/// The same of a file with external data.
const CUT: [u8; 8] = *b"buildd3\n";
/// Bytes of the index that are read at once.
const BUFFER: usize = 256 << 10;

/// Passes an index on and sums it up.
#[derive(Debug)]
pub(super) struct Summing<W> {
    inner: W,
    sum: u32,
    size: u64,
}

impl<W: Write> Summing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, sum: 0, size: 0 }
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What was written to, and the sum.
    pub(super) fn end(self) -> (W, u32) {
        (self.inner, self.sum)
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum = crc32c::crc32c_append(self.sum, &bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What a head says of a layer file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// Bytes of the tar; None without one.
    pub(super) tar: Option<u64>,
    /// Where the index begins, and the sum of what is there.
    pub(super) index: u64,
    pub(super) sum: u32,
    /// Where the extents begin, if there is external data.
    pub(super) extents: Option<u64>,
}

/// Writes superblock and head.
pub(super) fn write_head(file: &File, head: Head, superblock: &[u8; DESCRIBED]) -> io::Result<()> {
    file.write_all_at(superblock, SUPERBLOCK_AT)?;
    let (magic, summed) = match (head.tar, head.extents) {
        (None, _) => (&NO_TAR, SUPERBLOCK),
        (Some(_), None) => (&MAGIC, SUPERBLOCK),
        (Some(_), Some(_)) => (&CUT, DESCRIBED),
    };
    let sum = crc32c::crc32c_append(head.sum, &superblock[..summed]);
    let mut bytes = [0; 36];
    bytes[..8].copy_from_slice(magic);
    bytes[8..16].copy_from_slice(&head.tar.unwrap_or(0).to_le_bytes());
    bytes[16..24].copy_from_slice(&head.index.to_le_bytes());
    bytes[24..28].copy_from_slice(&sum.to_le_bytes());
    bytes[28..].copy_from_slice(&head.extents.unwrap_or(0).to_le_bytes());
    file.write_all_at(&bytes, 0)
}

/// The data file of the layer file `path`; None if it has no external data.
pub(crate) fn data_file(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut magic = [0; 8];
    File::open(path)?.read_exact_at(&mut magic, 0)?;
    Ok(form(&magic).map(|_| data_file_of(path)))
}

/// How the tar of a file with this magic number leaves out external data; None if it has none.
fn form(magic: &[u8]) -> Option<TarLayout> {
    match magic.try_into() {
        Ok(HOLES) => Some(TarLayout::Holes),
        Ok(CUT) => Some(TarLayout::Cut),
        _ => None,
    }
}

fn not_whole() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not a whole layer file")
}

/// Whether a layer file has no tar.
pub(super) fn is_loose(file: &File) -> io::Result<bool> {
    let mut magic = [0; 8];
    file.read_exact_at(&mut magic, 0)?;
    Ok(magic == NO_TAR)
}

/// Whether a layer file shows as it lies what a stack of it alone does: it hides nothing. A client's files never do.
pub(crate) fn is_plain(path: &Path) -> Result<bool> {
    let read = || {
        let file = File::open(path)?;
        let mut name = [0; PLAIN.len()];
        file.read_exact_at(&mut name, SUPERBLOCK_AT + NAME_AT as u64)?;
        Ok(name == *PLAIN || is_loose(&file)?)
    };
    read().map_err(Error::file("open layer file", path))
}

/// Opens the tar of a layer file; None if it has none.
pub fn open_tar(path: &Path) -> Result<Option<Blob>> {
    let open = || {
        let file = File::open(path)?;
        let mut head = [0; 36];
        file.read_exact_at(&mut head, 0)?;
        if head[..8] == NO_TAR {
            return Ok(None);
        }
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let (size, whole) = (number(8), file.metadata()?.len());
        let external = match form(&head[..8]) {
            Some(form) => {
                let data_file = File::open(data_file_of(path))?;
                Some(ExternalData::read(&file, number(28), size, form, data_file)?)
            }
            None if head[..8] == MAGIC => None,
            None => return Err(not_whole()),
        };
        let missing = external.as_ref().map_or(0, ExternalData::missing);
        match size.checked_sub(missing).and_then(|written| HEAD.checked_add(written)) {
            Some(end) if end <= whole => Ok(Some(Blob::part(file, HEAD, size, external))),
            _ => Err(not_whole()),
        }
    };
    open().map_err(Error::file("open layer file", path))
}

/// Fails unless the index of a layer file is the one that was written.
pub(crate) fn check_index(path: &Path) -> Result<()> {
    let check = || {
        let mut file = File::open(path)?;
        let mut head = [0; SUPERBLOCK_AT as usize + DESCRIBED];
        file.read_exact(&mut head)?;
        let index = u64::from_le_bytes(head[16..24].try_into().expect("eight bytes"));
        if index == 0 {
            return Ok(());
        }
        if index < HEAD || index > file.metadata()?.len() {
            return Err(not_whole());
        }
        file.seek(SeekFrom::Start(index))?;
        let mut summing = Summing::new(io::sink());
        io::copy(&mut BufReader::with_capacity(BUFFER, file), &mut summing)?;
        let summed = if form(&head[..8]).is_some() { DESCRIBED } else { SUPERBLOCK };
        summing.write_all(&head[SUPERBLOCK_AT as usize..][..summed])?;
        let (_, sum) = summing.end();
        match head[24..28] == sum.to_le_bytes() {
            true => Ok(()),
            false => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "its index is not the one that was written"))
            }
        }
    };
    check().map_err(Error::file("check layer file", path))
}

/// Makes the bytes of a layer file last, and of its external data.
pub(crate) fn sync_layer(path: &Path) -> Result<()> {
    let data_file = data_file(path).map_err(Error::file("open layer file", path))?;
    for path in data_file.iter().map(PathBuf::as_path).chain([path]) {
        let synced = File::open(path).and_then(|file| disk::sync_file(&file, path));
        synced.map_err(Error::file("sync", path))?;
    }
    Ok(())
}

/// A layer file, mounted without a place in the tree; an error names `target`, where it is to be seen.
pub(crate) fn mount_layer(path: &Path, target: &Path) -> Result<OwnedFd> {
    let mounted = data_file(path).and_then(|data_file| erofs(path, data_file.as_deref()));
    Ok(mounted.map_err(OverlayError::mount("layer", target))?)
}
