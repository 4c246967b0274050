//! Copy: an image's blobs from a `Provider` to an `Ingester`, children before the documents that point at them.
//!
//! Whoever stops a copy in the middle leaves blobs without a parent, never a parent without its blobs.
//!
//! # Invariants
//! Each blob comes once. Depth, count and the size of documents are bounded, so a hostile index ends in an error.

use std::collections::HashSet;

use crate::{
    blob::{Ingester, Provider, read_document},
    descriptor::Descriptor,
    digest::Digest,
    error::Error,
    manifest::{Index, Manifest},
    media_type,
    verify::VerifyingReader,
};

/// Deepest nesting of indexes that is followed.
pub const MAX_DEPTH: usize = 4;
/// Most blobs of one image: an index of indexes multiplies quickly.
const MAX_BLOBS: usize = 100_000;

/// Every blob of `target`, itself included and last.
pub fn walk_children(provider: &dyn Provider, target: &Descriptor) -> Result<Vec<Descriptor>, Error> {
    let mut walk = Walk { provider, seen: HashSet::new(), blobs: Vec::new() };
    walk.descend(target, 0)?;
    Ok(walk.blobs)
}

/// Copies what `to` does not have yet of `target`; every byte is verified on the way.
pub fn copy(from: &dyn Provider, to: &dyn Ingester, target: &Descriptor) -> Result<(), Error> {
    for blob in walk_children(from, target)? {
        if !to.exists(&blob.digest)? {
            let mut data = VerifyingReader::new(from.open(&blob)?, blob.digest, blob.size);
            to.ingest(&blob, &mut data)?;
        }
    }
    Ok(())
}

struct Walk<'a> {
    provider: &'a dyn Provider,
    seen: HashSet<Digest>,
    blobs: Vec<Descriptor>,
}

impl Walk<'_> {
    fn descend(&mut self, blob: &Descriptor, depth: usize) -> Result<(), Error> {
        if !self.seen.insert(blob.digest) {
            return Ok(());
        }
        let fail = |limit: String| Error::WalkLimit { digest: blob.digest, limit };
        if self.seen.len() > MAX_BLOBS {
            return Err(fail(format!("{MAX_BLOBS} blobs")));
        }
        let children = if media_type::is_manifest(&blob.media_type) {
            let manifest = Manifest::parse(&read_document(self.provider, blob)?)?;
            std::iter::once(manifest.config).chain(manifest.layers).collect()
        } else if media_type::is_index(&blob.media_type) {
            if depth >= MAX_DEPTH {
                return Err(fail(format!("{MAX_DEPTH} indexes in each other")));
            }
            Index::parse(&read_document(self.provider, blob)?)?.manifests
        } else {
            Vec::new()
        };
        for child in &children {
            self.descend(child, depth + 1)?;
        }
        self.blobs.push(blob.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
