//! Blob: the bytes of one digest, opened, wherever they lie.
//!
//! Most lie in a file of their own. An uncompressed layer that is a layer file lies there: its tar is that blob, and has no second copy. Some of that may be
//! external data in a client's files (`layer/external.rs`).

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use super::external::ExternalData;

/// An opened blob; reads from its begin, or anywhere.
#[derive(Debug)]
pub struct Blob {
    file: File,
    begin: u64,
    size: u64,
    at: u64,
    external: Option<ExternalData>,
}

impl Blob {
    /// A blob that is a whole file.
    pub(crate) fn whole(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, begin: 0, size, at: 0, external: None })
    }

    /// A blob that is a part of a file, but for what `external` has of it.
    pub(crate) fn part(file: File, begin: u64, size: u64, external: Option<ExternalData>) -> Self {
        Self { file, begin, size, at: 0, external }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads some bytes at `offset`; none at the end.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = offset.min(self.size);
        let want = buf.len().min(usize::try_from(self.size - offset).unwrap_or(usize::MAX));
        let buf = &mut buf[..want];
        match &self.external {
            Some(external) => external.read_at(&self.file, self.begin, buf, offset),
            None => self.file.read_at(buf, self.begin + offset),
        }
    }

    /// Fills `buf` with the bytes at `offset`.
    pub fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }
}

impl Read for Blob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.read_at(buf, self.at)?;
        if n == 0 && self.at < self.size && !buf.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        Ok(n)
    }
}
