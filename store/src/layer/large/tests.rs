//! Bytes that two threads share: all of them, in order, and an end when either side fails.

use buildd_oci::digest::Digest;

use super::*;
use crate::chunks::PIECE;

/// Gives its bytes in uneven reads.
struct Uneven<'a>(&'a [u8], usize);

impl Read for Uneven<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 = (self.1 * 31 + 7) % 900_000;
        let count = into.len().min(self.0.len()).min(self.1 + 1);
        let (these, rest) = self.0.split_at(count);
        into[..count].copy_from_slice(these);
        self.0 = rest;
        Ok(count)
    }
}

/// Takes so many bytes.
struct Small(usize);

impl Write for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => self.0 = left,
            None => return Err(io::ErrorKind::StorageFull.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_byte_is_written_and_hashed_in_order() {
    let bytes: Vec<u8> = (0..9 * PIECE + 5).map(|at| (at % 253) as u8).collect();
    for size in [0, 1, PIECE, PIECE + 1, bytes.len()] {
        let mut out = Vec::new();
        let mut before = Digester::default();
        before.update(b"before");
        let mut data = Uneven(&bytes, size);
        let (digester, copied) = copy(&mut data, size as u64, &mut out, before);
        copied.expect("enough bytes");
        assert!(out == bytes[..size], "{size}");
        assert_eq!(digester.size(), size as u64 + 6);
        assert_eq!(digester.finish(), Digest::of(&[b"before", &bytes[..size]].concat()), "{size}");
    }
}

#[test]
fn it_ends_when_there_is_too_little_to_read_or_no_room() {
    let bytes = vec![1; 6 * PIECE];
    let size = bytes.len() as u64;
    let (_, short) = copy(&mut Uneven(&bytes, 1), size + 1, &mut io::sink(), Digester::default());
    assert_eq!(short.expect_err("one byte too few").kind(), io::ErrorKind::UnexpectedEof);
    let (_, full) = copy(&mut Uneven(&bytes, 1), size, &mut Small(PIECE), Digester::default());
    assert_eq!(full.expect_err("no room").kind(), io::ErrorKind::StorageFull);
}
