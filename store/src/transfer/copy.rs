//! Registry copy: an image from one registry into another, through memory, not through the store.
//!
//! Transfers between two registries come here. Blobs that the other side has, or can take from a repository of its own, do not travel; `send`
//! sends the rest.

use std::collections::{HashMap, HashSet};

use buildd_oci::{
    copy::MAX_DEPTH,
    descriptor::Descriptor,
    digest::Digest,
    manifest::{Index, Manifest},
    media_type,
    reference::Reference,
    registry::{Error as RegistryError, Repository, push::BlobSource},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};

use crate::{
    error::{Error, Result},
    transfer::{
        progress::{Watch, name},
        send,
    },
};

/// Most documents of one image: an index of indexes multiplies quickly.
const MAX_DOCUMENTS: usize = 4096;

/// One side.
#[derive(Clone, Debug)]
pub struct Side {
    /// The image's name there.
    pub reference: Reference,
    /// The way there.
    pub repository: Repository,
}

/// Copies an image with all its platforms; what the tag points at then.
pub async fn copy(from: &Side, to: &Side, watch: &Watch) -> Result<Descriptor> {
    let target = from.repository.resolve().await?;
    // In one registry the blobs need not travel at all.
    let same = from.reference.domain() == to.reference.domain();
    let mounts = same.then(|| from.reference.path().to_owned()).into_iter().collect();
    let mut walk =
        Walk { from, mounts, watch, seen: HashSet::new(), blobs: Vec::new(), documents: HashMap::new() };
    walk.documents(&target).await?;
    let mut documents = Vec::new();
    walk.children_first(target.digest, &mut documents);
    send::send(&to.repository, walk.blobs, documents, to.reference.tag()).await?;
    Ok(target)
}

struct Walk<'a> {
    from: &'a Side,
    /// Repositories of the other side that have the blobs.
    mounts: Vec<String>,
    watch: &'a Watch,
    seen: HashSet<Digest>,
    blobs: Vec<send::Blob>,
    documents: HashMap<Digest, Document>,
}

struct Document {
    sent: send::Document,
    /// Documents that it points at.
    children: Vec<Digest>,
}

impl Walk<'_> {
    /// Reads every document, level by level.
    async fn documents(&mut self, target: &Descriptor) -> Result<()> {
        let mut level = vec![(target.clone(), String::new())];
        for _ in 0..=MAX_DEPTH {
            let mut next = Vec::new();
            for (document, parent) in level {
                if !self.seen.insert(document.digest) {
                    continue;
                }
                if self.documents.len() >= MAX_DOCUMENTS {
                    return Err(limit(target, format!("{MAX_DOCUMENTS} documents")));
                }
                let bytes = self.from.repository.document(&document).await?;
                let part = self.watch.add(&document, &parent);
                let mut children = Vec::new();
                if media_type::is_index(&document.media_type) {
                    let manifests = Index::parse(&bytes)?.manifests;
                    children.extend(manifests.iter().map(|child| child.digest));
                    next.extend(manifests.into_iter().map(|child| (child, name(&document))));
                } else {
                    self.blobs(&Manifest::parse(&bytes)?, &name(&document));
                }
                self.documents
                    .insert(document.digest, Document { sent: send::Document { part, bytes }, children });
            }
            if next.is_empty() {
                return Ok(());
            }
            level = next;
        }
        Err(limit(target, format!("{MAX_DEPTH} indexes in each other")))
    }

    /// Moves a document, after those that it points at; digests cannot point in a circle.
    fn children_first(&mut self, digest: Digest, order: &mut Vec<send::Document>) {
        let Some(document) = self.documents.remove(&digest) else { return };
        for child in &document.children {
            self.children_first(*child, order);
        }
        order.push(document.sent);
    }

    fn blobs(&mut self, manifest: &Manifest, parent: &str) {
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if !media_type::is_foreign(&blob.media_type) && self.seen.insert(blob.digest) {
                let source = Remote { repository: self.from.repository.clone(), blob: blob.clone() };
                self.blobs.push(send::Blob {
                    part: self.watch.add(blob, parent),
                    source: Box::new(source),
                    mounts: self.mounts.clone(),
                });
            }
        }
    }
}

fn limit(target: &Descriptor, limit: String) -> Error {
    buildd_oci::Error::WalkLimit { digest: target.digest, limit }.into()
}

/// A blob of a registry, opened anew for each attempt.
struct Remote {
    repository: Repository,
    blob: Descriptor,
}

#[async_trait::async_trait]
impl BlobSource for Remote {
    async fn open(
        &self,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, RegistryError>>, RegistryError> {
        Ok(self.repository.open(&self.blob, offset).await?.boxed())
    }
}
