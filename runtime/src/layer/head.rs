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
//! ```
//! An index at 0 is that of a file from before there was a checksum: it is not checked.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use super::erofs::{SUPERBLOCK, SUPERBLOCK_AT};
use crate::{
    content::Blob,
    error::{Error, Result},
};

/// Bytes before the tar.
pub(super) const HEAD: u64 = 4096;
const MAGIC: [u8; 8] = *b"buildd1\n";
/// The same of a file that has no tar.
const NO_TAR: [u8; 8] = *b"buildd0\n";
/// Bytes of the index that are read at once.
const BUFFER: usize = 256 << 10;

/// Passes an index on and sums it up.
#[derive(Debug)]
pub(super) struct Summing<W> {
    inner: W,
    sum: u32,
}

impl<W: Write> Summing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, sum: 0 }
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
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes superblock and head of a layer file whose index begins at `index` and has the sum `sum`; None is one without a tar.
pub(super) fn write_head(
    file: &File,
    tar_size: Option<u64>,
    index: u64,
    sum: u32,
    superblock: &[u8; SUPERBLOCK],
) -> io::Result<()> {
    file.write_all_at(superblock, SUPERBLOCK_AT)?;
    let sum = crc32c::crc32c_append(sum, superblock);
    let mut head = [0; 28];
    head[..8].copy_from_slice(if tar_size.is_some() { &MAGIC } else { &NO_TAR });
    head[8..16].copy_from_slice(&tar_size.unwrap_or(0).to_le_bytes());
    head[16..24].copy_from_slice(&index.to_le_bytes());
    head[24..].copy_from_slice(&sum.to_le_bytes());
    file.write_all_at(&head, 0)
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

/// Opens the tar of a layer file; None if it has none.
pub fn open_tar(path: &Path) -> Result<Option<Blob>> {
    let open = || {
        let file = File::open(path)?;
        let mut head = [0; 16];
        file.read_exact_at(&mut head, 0)?;
        if head[..8] == NO_TAR {
            return Ok(None);
        }
        let size = u64::from_le_bytes(head[8..].try_into().expect("eight bytes"));
        let whole = file.metadata()?.len();
        if head[..8] != MAGIC || HEAD.checked_add(size).is_none_or(|end| end > whole) {
            return Err(not_whole());
        }
        Ok(Some(Blob::part(file, HEAD, size)))
    };
    open().map_err(Error::file("open layer file", path))
}

/// Fails unless the index of a layer file is the one that was written.
pub(crate) fn check_index(path: &Path) -> Result<()> {
    let check = || {
        let mut file = File::open(path)?;
        let mut head = [0; SUPERBLOCK_AT as usize + SUPERBLOCK];
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
        summing.write_all(&head[SUPERBLOCK_AT as usize..])?;
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
