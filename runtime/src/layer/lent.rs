//! Lent: bytes of a layer file that lie in a client's layer file, so that a copy of large files does not write them a second time.
//!
//! The tar of such a layer has holes where these bytes belong: whoever reads it gets them from the lender (`Blob`), and the index leads there, for
//! EROFS knows further devices. The lender lies beside the layer file, as a hard link of the client's. So it goes with the layer, whatever becomes
//! of the client's tree.
//!
//! # On disk
//! ```text
//! layers/<id>        head | superblock | device slot | tar with holes | index | loans
//! layers/<id>.data   the lender
//! a loan: first byte in the tar, bytes, first byte in the lender; 8 bytes LE each
//! ```
//!
//! # Invariants
//! A lender never changes: it is a committed layer. Loans are sorted, do not overlap, and lie inside the tar and the lender.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::disk;

/// Bytes of a loan on disk.
const LOAN: usize = 24;
/// Loans of one layer: more large files than it can hold.
const MAX_LOANS: u64 = 1 << 20;

/// Where a file's bytes lie: in a file that never changes.
#[derive(Clone, Copy, Debug)]
pub struct Lies<'a> {
    /// That file.
    pub file: &'a File,
    /// The first of them.
    pub at: u64,
}

/// Bytes of a tar that lie in another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loan {
    /// First byte in the tar.
    pub(crate) at: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// First byte in the lender.
    pub(crate) from: u64,
}

/// All that a layer borrows, and from where.
#[derive(Debug)]
pub(crate) struct Lent {
    lender: File,
    loans: Vec<Loan>,
}

/// Where the lender of the layer file `path` lies, if it has one.
pub(crate) fn lender_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".data");
    PathBuf::from(name)
}

/// The layer whose lender has this name.
pub(crate) fn borrower(name: &str) -> Option<&str> {
    name.strip_suffix(".data")
}

impl Lent {
    /// Nothing borrowed yet.
    pub(super) fn new(lender: &File) -> io::Result<Self> {
        Ok(Self { lender: lender.try_clone()?, loans: Vec::new() })
    }

    /// Bytes of the lender.
    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.lender.metadata()?.len())
    }

    /// Whether this is the file that lends.
    pub(super) fn is_from(&self, file: &File) -> io::Result<bool> {
        let (ours, other) = (self.lender.metadata()?, file.metadata()?);
        Ok((ours.dev(), ours.ino()) == (other.dev(), other.ino()))
    }

    /// Borrows; what lies further ahead in the tar comes later.
    pub(super) fn push(&mut self, loan: Loan) {
        self.loans.push(loan);
    }

    /// Puts the lender beside the layer file `path`.
    pub(super) fn keep(&self, path: &Path) -> io::Result<()> {
        disk::link(&self.lender, &lender_of(path))
    }

    /// Writes the loans.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for Loan { at, size, from } in &self.loans {
            [at, size, from].into_iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))?;
        }
        Ok(())
    }

    /// Reads the loans that lie in `file` from `begin` on, of a tar of `tar` bytes; `lender` is what it borrows from.
    pub(super) fn read(file: &File, begin: u64, tar: u64, lender: File) -> io::Result<Self> {
        let invalid =
            || io::Error::new(io::ErrorKind::InvalidData, "what it borrows is not as it was written");
        let size = file.metadata()?.len().checked_sub(begin);
        let size = size.filter(|size| *size <= MAX_LOANS * LOAN as u64).ok_or_else(invalid)?;
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| invalid())?];
        file.read_exact_at(&mut bytes, begin)?;
        let number =
            |loan: &[u8], n: usize| u64::from_le_bytes(loan[8 * n..8 * n + 8].try_into().expect("8"));
        let loans = bytes.chunks_exact(LOAN);
        if !loans.remainder().is_empty() || loans.len() == 0 {
            return Err(invalid());
        }
        let loans: Vec<Loan> = loans
            .map(|loan| Loan { at: number(loan, 0), size: number(loan, 1), from: number(loan, 2) })
            .collect();
        let has = lender.metadata()?.len();
        let mut end = 0;
        for Loan { at, size, from } in &loans {
            let inside = from.checked_add(*size).is_some_and(|last| last <= has);
            let after = at.checked_add(*size).filter(|last| *at >= end && *last <= tar);
            end = after.filter(|_| inside).ok_or_else(invalid)?;
        }
        Ok(Self { lender, loans })
    }

    /// Reads bytes at `offset` of the tar, which are in `file` from `begin` on unless they are borrowed.
    pub(crate) fn read_at(&self, file: &File, begin: u64, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let next = self.loans.partition_point(|loan| loan.at + loan.size <= offset);
        let most = |size: u64, buf: &[u8]| buf.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        match self.loans.get(next) {
            Some(loan) if loan.at <= offset => {
                let want = most(loan.at + loan.size - offset, buf);
                self.lender.read_at(&mut buf[..want], loan.from + (offset - loan.at))
            }
            Some(loan) => {
                let want = most(loan.at - offset, buf);
                file.read_at(&mut buf[..want], begin + offset)
            }
            None => file.read_at(buf, begin + offset),
        }
    }
}

#[cfg(test)]
mod tests;
