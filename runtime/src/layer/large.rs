//! Large: a large file's bytes into a tar, hashed by a second thread while the first one reads and writes.
//!
//! `TarWriter` comes here where a thread costs little beside the bytes. Hashing takes about as long as the rest.

use std::{
    io::{self, Read, Write},
    sync::mpsc,
    thread,
};

use buildd_oci::digest::Digester;

/// Bytes from which on a second thread is worth its start.
pub(super) const LARGE: u64 = 4 << 20;
/// Bytes of one piece.
const PIECE: usize = 1 << 20;
/// Pieces in memory: one is read and written, one hashed, one waits.
const PIECES: usize = 3;

/// Copies `size` bytes; the digester has taken them, even if writing failed.
pub(super) fn copy(
    data: &mut dyn Read,
    size: u64,
    out: &mut dyn Write,
    mut digester: Digester,
) -> (Digester, io::Result<()>) {
    thread::scope(|scope| {
        let (full, filled) = mpsc::channel::<Vec<u8>>();
        let (empty, emptied) = mpsc::channel();
        let hashing = scope.spawn(move || {
            for piece in filled {
                digester.update(&piece);
                // Nobody wants it back when the last one was read.
                let _ = empty.send(piece);
            }
            digester
        });
        let mut pieces = 0;
        let mut next = || match pieces < PIECES {
            true => {
                pieces += 1;
                Ok(Vec::new())
            }
            false => emptied.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe)),
        };
        let mut write = || -> io::Result<()> {
            let mut left = size;
            while left > 0 {
                let mut piece = next()?;
                piece.resize(PIECE.min(usize::try_from(left).unwrap_or(PIECE)), 0);
                let count = read_some(data, &mut piece)?;
                piece.truncate(count);
                left -= count as u64;
                out.write_all(&piece)?;
                full.send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            }
            Ok(())
        };
        let written = write();
        drop(full);
        (hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), written)
    })
}

/// Reads at least one byte.
pub(super) fn read_some(data: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match data.read(into) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;
