//! Lent: bytes of a layer file that lie in a client's layer file, so that a copy does not write them a second time.
//!
//! The tar of such a layer is written without these bytes and the zeros that fill their last block: whoever reads it gets them from the lender (`Blob`),
//! and the index leads there, for EROFS knows further devices. The lender lies beside the layer file, as a hard link of the client's. So it goes with
//! the layer, whatever becomes of the client's tree.
//!
//! # On disk
//! ```text
//! layers/<id>        head | superblock | device slot | tar without what is lent | index | loans
//! layers/<id>.data   the lender
//! a loan: first byte in the tar, bytes, first byte in the lender; 8 bytes LE each
//! ```
//! Files from before have holes in the tar instead, and zeros of their own behind them (`Form::Holes`).
//!
//! # Invariants
//! A lender never changes: it is a committed layer. Loans are sorted, do not overlap, begin at blocks, and lie inside the tar and the lender.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::erofs::BLOCK;
use crate::disk;

/// Bytes of a loan on disk.
const LOAN: usize = 24;
/// Loans of one layer: whoever reads its tar has all of them in memory.
const MAX_LOANS: usize = 1 << 20;

/// What the tar has where bytes are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing: what follows lies where they would.
    Cut,
    /// A hole as large as they are.
    Holes,
}

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
pub(super) struct Loan {
    /// First byte in the tar.
    pub(super) at: u64,
    /// Bytes.
    pub(super) size: u64,
    /// First byte in the lender.
    pub(super) from: u64,
}

impl Loan {
    /// Where the layer file's own bytes go on in the tar.
    fn end(&self, form: Form) -> io::Result<u64> {
        let end = self.at.checked_add(self.size);
        let end =
            if form == Form::Cut { end.and_then(|end| end.checked_next_multiple_of(BLOCK)) } else { end };
        end.ok_or_else(invalid)
    }
}

/// A loan, and what it means for what follows it.
#[derive(Clone, Copy, Debug)]
struct Placed {
    loan: Loan,
    /// Where the layer file's own bytes go on in the tar.
    end: u64,
    /// Bytes of the tar up to there that the layer file does not have.
    missing: u64,
}

/// All that a layer borrows, and from where.
#[derive(Debug)]
pub(crate) struct Lent {
    lender: File,
    /// Its device and number there.
    id: (u64, u64),
    loans: Vec<Placed>,
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
        Ok(Self { lender: lender.try_clone()?, id: id(lender)?, loans: Vec::new() })
    }

    /// Bytes of the lender.
    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.lender.metadata()?.len())
    }

    /// Whether this is the file that lends.
    pub(super) fn is_from(&self, file: &File) -> io::Result<bool> {
        Ok(self.id == id(file)?)
    }

    /// Whether there may be one loan more.
    pub(super) fn has_room(&self) -> bool {
        self.loans.len() < MAX_LOANS
    }

    /// Borrows; what lies further ahead in the tar comes later.
    pub(super) fn push(&mut self, loan: Loan) -> io::Result<()> {
        self.place(loan, loan.end(Form::Cut)?, Form::Cut);
        Ok(())
    }

    fn place(&mut self, loan: Loan, end: u64, form: Form) {
        let missing = if form == Form::Cut { self.missing() + (end - loan.at) } else { 0 };
        self.loans.push(Placed { loan, end, missing });
    }

    /// Bytes of the tar so far that the layer file does not have.
    pub(super) fn missing(&self) -> u64 {
        self.loans.last().map_or(0, |last| last.missing)
    }

    /// Puts the lender beside the layer file `path`.
    pub(super) fn keep(&self, path: &Path) -> io::Result<()> {
        disk::link(&self.lender, &lender_of(path))
    }

    /// Writes the loans.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for Loan { at, size, from } in self.loans.iter().map(|placed| placed.loan) {
            [at, size, from].into_iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))?;
        }
        Ok(())
    }

    /// Reads the loans that lie in `file` from `begin` on, of a tar of `tar` bytes; `lender` is what it borrows from.
    pub(super) fn read(file: &File, begin: u64, tar: u64, form: Form, lender: File) -> io::Result<Self> {
        let size = file.metadata()?.len().checked_sub(begin).and_then(|size| usize::try_from(size).ok());
        let size = size.filter(|size| *size <= MAX_LOANS * LOAN).ok_or_else(invalid)?;
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, begin)?;
        let number =
            |loan: &[u8], n: usize| u64::from_le_bytes(loan[8 * n..8 * n + 8].try_into().expect("8"));
        let loans = bytes.chunks_exact(LOAN);
        if !loans.remainder().is_empty() || loans.len() == 0 {
            return Err(invalid());
        }
        let mut lent = Self { id: id(&lender)?, lender, loans: Vec::with_capacity(loans.len()) };
        let has = lent.size()?;
        for loan in loans {
            let loan = Loan { at: number(loan, 0), size: number(loan, 1), from: number(loan, 2) };
            let inside = loan.from.checked_add(loan.size).is_some_and(|end| end <= has);
            let end = loan.end(form)?;
            let before = lent.loans.last().map_or(0, |last| last.end);
            if !inside || loan.at < before || end > tar {
                return Err(invalid());
            }
            lent.place(loan, end, form);
        }
        Ok(lent)
    }

    /// Reads bytes at `offset` of the tar: those of the layer file itself are in `file` from `begin` on. Fills `buf` unless a file ends.
    pub(crate) fn read_at(&self, file: &File, begin: u64, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut next = self.loans.partition_point(|placed| placed.end <= offset);
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            next += usize::from(self.loans.get(next).is_some_and(|placed| placed.end <= at));
            let buf = &mut buf[done..];
            let most = |size: u64| buf.len().min(usize::try_from(size).unwrap_or(usize::MAX));
            let before = next.checked_sub(1).map_or(0, |before| self.loans[before].missing);
            let count = match self.loans.get(next) {
                None => file.read_at(buf, begin + at - before)?,
                Some(Placed { loan, .. }) if at < loan.at => {
                    let want = most(loan.at - at);
                    file.read_at(&mut buf[..want], begin + at - before)?
                }
                Some(Placed { loan, .. }) if at < loan.at + loan.size => {
                    let want = most(loan.at + loan.size - at);
                    self.lender.read_at(&mut buf[..want], loan.from + (at - loan.at))?
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
