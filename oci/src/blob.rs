//! Blobs: the two narrow traits through which everything here reads and writes content.
//!
//! A content store, an archive and a registry are all a `Provider`; what takes blobs is an `Ingester`.

use std::io::Read;

use crate::{descriptor::Descriptor, digest::Digest, error::Error};

/// Largest JSON document that is read into memory: hostile manifests end here. Agrees with containerd's import.
pub const MAX_DOCUMENT: u64 = 20 << 20;

/// Something that has blobs.
pub trait Provider: Send + Sync {
    /// Opens a blob at its start; whether the bytes are verified on the way is the provider's matter.
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error>;
}

/// Something that takes blobs.
pub trait Ingester: Send + Sync {
    /// Whether it has the blob already.
    fn exists(&self, digest: &Digest) -> Result<bool, Error>;
    /// Takes a blob; it becomes visible whole and verified, or not at all.
    fn ingest(&self, expected: &Descriptor, data: &mut dyn Read) -> Result<(), Error>;
}

/// Reads a small blob (a document) whole and verifies it.
pub fn read_document(provider: &dyn Provider, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    if descriptor.size > MAX_DOCUMENT {
        return Err(Error::InvalidDocument {
            what: "document",
            digest: descriptor.digest,
            reason: format!("{} bytes, at most {MAX_DOCUMENT} are read", descriptor.size),
        });
    }
    let mut bytes = Vec::new();
    provider
        .open(descriptor)?
        .take(MAX_DOCUMENT + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Blob { operation: "read", digest: descriptor.digest, source })?;
    if bytes.len() as u64 != descriptor.size {
        return Err(Error::SizeMismatch {
            digest: descriptor.digest,
            expected: descriptor.size,
            actual: bytes.len() as u64,
        });
    }
    let mut digester = descriptor.digest.algorithm().digester();
    digester.update(&bytes);
    let (size, actual) = (digester.size(), digester.finish());
    if actual != descriptor.digest {
        return Err(Error::DigestMismatch { expected: descriptor.digest, actual: Box::new(actual), size });
    }
    Ok(bytes)
}
