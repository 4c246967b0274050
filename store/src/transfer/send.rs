//! Send: the parts of one image into a registry, in the order that a registry needs.
//!
//! Pushes and copies between registries come here; they differ in where the bytes come from. Blobs go first and at once, then documents,
//! children before those that point at them: a tag never points at something that is not whole.
//!
//! # Sources
//! distribution-spec 1.1 "push"; spec registries.md 77-81.

use std::sync::Arc;

use buildd_oci::registry::{
    Error as RegistryError, Repository,
    push::{BlobSource, Pushed},
};
use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};

use crate::{
    error::Result,
    transfer::progress::{Part, Phase},
};

/// Blobs that go at once.
const PARALLEL_BLOBS: usize = 4;

/// A blob that goes.
pub(crate) struct Blob {
    /// Which, and who watches it go.
    pub(crate) part: Arc<Part>,
    /// Its bytes.
    pub(crate) source: Box<dyn BlobSource>,
    /// Repositories of the same registry that may have it.
    pub(crate) mounts: Vec<String>,
}

/// A document that goes.
pub(crate) struct Document {
    /// Which, and who watches it go.
    pub(crate) part: Arc<Part>,
    /// Its bytes.
    pub(crate) bytes: Bytes,
}

/// Sends blobs, then documents in their order; the last one is the root and gets the tag.
pub(crate) async fn send(
    repository: &Repository,
    blobs: Vec<Blob>,
    documents: Vec<Document>,
    tag: Option<&str>,
) -> Result<()> {
    let sender = Sender { repository, blobs };
    sender.send_blobs().await?;
    let count = documents.len();
    for (number, document) in documents.iter().enumerate() {
        document.part.enter(Phase::Uploading);
        sender.send_document(document, tag.filter(|_| number + 1 == count)).await?;
        document.part.enter(Phase::Complete);
    }
    Ok(())
}

struct Sender<'a> {
    repository: &'a Repository,
    blobs: Vec<Blob>,
}

impl Sender<'_> {
    async fn send_blobs(&self) -> Result<()> {
        let blobs: Vec<BoxFuture<'_, Result<()>>> =
            self.blobs.iter().map(|blob| self.send_blob(blob).boxed()).collect();
        stream::iter(blobs).buffer_unordered(PARALLEL_BLOBS).try_collect::<()>().await
    }

    async fn send_blob(&self, blob: &Blob) -> Result<()> {
        let part = &blob.part;
        part.enter(Phase::Uploading);
        let counted = Counted { source: &*blob.source, part };
        part.enter(match self.repository.push_blob(&part.descriptor, &counted, &blob.mounts).await? {
            Pushed::Uploaded => Phase::Complete,
            Pushed::Mounted => Phase::Mounted,
            Pushed::Existed => Phase::Exists,
        });
        Ok(())
    }

    /// A registry that collected a blob after it said that it had it gets the blobs once more (F-36).
    async fn send_document(&self, document: &Document, tag: Option<&str>) -> Result<()> {
        let send = || self.repository.push_manifest(&document.part.descriptor, document.bytes.clone(), tag);
        match send().await {
            Err(error) if ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"].iter().any(|code| error.says(code)) => {
                tracing::warn!(%error, "a registry lost blobs that it had; they are sent again");
                self.send_blobs().await?;
                Ok(send().await?)
            }
            sent => Ok(sent?),
        }
    }
}

/// A source whose bytes are counted as they go.
struct Counted<'a> {
    source: &'a dyn BlobSource,
    part: &'a Arc<Part>,
}

#[async_trait::async_trait]
impl BlobSource for Counted<'_> {
    async fn open(
        &self,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, RegistryError>>, RegistryError> {
        self.part.set_done(offset);
        let part = Arc::clone(self.part);
        let pieces = self.source.open(offset).await?;
        Ok(pieces.inspect_ok(move |piece| part.add(piece.len())).boxed())
    }
}
