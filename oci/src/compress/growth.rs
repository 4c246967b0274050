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

/// Counts what is read, by pieces: those that were looked at count, however much of the last one was used.
pub(super) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
    /// Bytes of the current piece that were counted.
    seen: usize,
}

impl<R: BufRead> Counted<R> {
    /// The reader, and where its bytes are counted.
    pub(super) fn new(inner: R) -> (Self, Arc<AtomicU64>) {
        let count = Arc::<AtomicU64>::default();
        (Self { inner, count: Arc::clone(&count), seen: 0 }, count)
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = buffer.len().min(piece.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let piece = self.inner.fill_buf()?;
        if piece.len() > self.seen {
            self.count.fetch_add((piece.len() - self.seen) as u64, Ordering::Relaxed);
            self.seen = piece.len();
        }
        Ok(piece)
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.seen -= count;
    }
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
