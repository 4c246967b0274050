//! Growth: how much a compressed stream may become, for a few bytes can stand for very many (BLOB-01).
//!
//! What a stream becomes is counted while it is read, against the compressed bytes that were read for it: no size that it claims is believed.

use std::{
    io::{self, BufRead, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::shown::Shown;

/// What a compressed stream may become: `free` bytes in any case, and `ratio` times its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Bytes.
    pub free: u64,
    /// Uncompressed bytes for a compressed one. Disks that are mostly empty reach 100; gzip itself ends at 1032, zstd beyond 10,000.
    pub ratio: u64,
}

impl Default for Growth {
    fn default() -> Self {
        Self { free: 8_000_000_000, ratio: 200 }
    }
}

/// A stream that became more than it may.
#[derive(Debug, thiserror::Error)]
#[error("{packed} compressed bytes become more than {most}: a bomb?")]
pub struct Outgrown {
    packed: u64,
    most: u64,
}

impl Outgrown {
    /// Whether this is why something could not be read.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// A stream, and where its bytes are counted: by pieces, however much of the last one was used.
pub(super) fn counted(inner: impl BufRead) -> (impl BufRead, Arc<AtomicU64>) {
    let count = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&count);
    let shown = Shown::new(inner, move |piece: &[u8]| {
        counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok(())
    });
    (shown, count)
}

/// A decompressor that fails where its stream outgrows what it may become.
pub(super) struct Bounded<R> {
    pub(super) inner: R,
    pub(super) packed: Arc<AtomicU64>,
    pub(super) growth: Growth,
    pub(super) unpacked: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.unpacked += read as u64;
        if self.unpacked > self.growth.free {
            let packed = self.packed.load(Ordering::Relaxed);
            let most = self.growth.free.saturating_add(packed.saturating_mul(self.growth.ratio));
            if self.unpacked > most {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, Outgrown { packed, most }));
            }
        }
        Ok(read)
    }
}
