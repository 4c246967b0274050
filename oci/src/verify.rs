//! Verify: reads a blob, and fails at its end if it was another.

use std::io::{self, Read};

use crate::{
    digest::{Digest, Digester},
    error::Error,
};

/// A reader that fails at the end if the bytes were not those of `digest` and `size`.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    digest: Digest,
    size: u64,
    digester: Option<Digester>,
}

impl<R: Read> VerifyingReader<R> {
    /// Wraps `inner`, which should give `size` bytes that hash to `digest`.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        Self { inner, digest, size, digester: Some(digest.algorithm().digester()) }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(digester) = &mut self.digester else { return Ok(0) };
        if buf.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buf)?;
        digester.update(&buf[..n]);
        let size = digester.size();
        if n > 0 && size <= self.size {
            return Ok(n);
        }
        let digester = self.digester.take().expect("checked above");
        if size != self.size {
            let error = Error::SizeMismatch { digest: self.digest, expected: self.size, actual: size };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        let actual = digester.finish();
        if actual != self.digest {
            let error = Error::DigestMismatch { expected: self.digest, actual: Box::new(actual), size };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(0)
    }
}
