//! Shown: a stream whose bytes somebody sees, by pieces and where they lie, before they are read: to hash, count or keep them.

use std::io::{self, BufRead, Read};

/// Shows every byte to `see`, once and in order, with the piece that it comes in.
#[derive(Debug)]
pub struct Shown<R, F> {
    inner: R,
    see: F,
    /// Bytes of the current piece that were shown.
    seen: usize,
}

impl<R: BufRead, F: FnMut(&[u8]) -> io::Result<()>> Shown<R, F> {
    /// Reads `inner`.
    pub fn new(inner: R, see: F) -> Self {
        Self { inner, see, seen: 0 }
    }
}

impl<R: BufRead, F: FnMut(&[u8]) -> io::Result<()>> BufRead for Shown<R, F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let piece = self.inner.fill_buf()?;
        if let Some(fresh) = piece.get(self.seen..).filter(|fresh| !fresh.is_empty()) {
            (self.see)(fresh)?;
            self.seen = piece.len();
        }
        Ok(piece)
    }

    fn consume(&mut self, count: usize) {
        self.seen -= count;
        self.inner.consume(count);
    }
}

impl<R: BufRead, F: FnMut(&[u8]) -> io::Result<()>> Read for Shown<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
