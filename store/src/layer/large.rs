//! Large: a large file's bytes into a tar, hashed by a second thread while the first one reads and writes.
//!
//! `TarWriter` comes here where a thread costs little beside the bytes. Hashing takes about as long as the rest.

use std::{
    io::{self, BufRead as _, Read, Write},
    thread,
};

use buildd_oci::digest::Digester;

use super::write::shorter;
use crate::chunks;

/// Bytes from which on a second thread is worth its start, and borrowing what it keeps. Tests, which look at every state of a disk, have smaller files.
pub const LARGE: u64 = if cfg!(test) { 256 << 10 } else { 4 << 20 };

/// Copies `size` bytes; the digester has taken them, even if writing failed.
pub(super) fn copy(
    data: &mut dyn Read,
    size: u64,
    out: &mut dyn Write,
    mut digester: Digester,
) -> (Digester, io::Result<()>) {
    thread::scope(|scope| {
        let (beside, mut written) = chunks::queue();
        let hashing = scope.spawn(move || {
            while let Ok(piece) = written.fill_buf()
                && !piece.is_empty()
            {
                digester.update(piece);
                let count = piece.len();
                written.consume(count);
            }
            digester
        });
        let copied = chunks::each(&mut data.take(size), |piece| {
            out.write_all(piece)?;
            beside.send(Ok(piece.clone())).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        drop(beside);
        let digester = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (digester, copied.and_then(|copied| if copied < size { Err(shorter()) } else { Ok(()) }))
    })
}

#[cfg(test)]
mod tests;
