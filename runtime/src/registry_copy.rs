//! Registry copy: an image from one registry into another, through memory, not through the store.
//!
//! Transfers between two registries come here. Children go before the documents that point at them; blobs that the other side has, or can take
//! from a repository of its own, do not travel.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use buildd_oci::{
    copy::MAX_DEPTH,
    descriptor::Descriptor,
    digest::Digest,
    manifest::{Index, Manifest},
    media_type,
    reference::Reference,
    registry::{
        Error as RegistryError, Repository,
        push::{BlobSource, Pushed},
    },
};
use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};

use crate::{
    error::{Error, Result},
    watch::{Part, Phase, Watch, name},
};

/// Blobs that go at once.
const PARALLEL_BLOBS: usize = 4;
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
    let mut walk = Walk { from, watch, seen: HashSet::new(), blobs: Vec::new(), documents: HashMap::new() };
    walk.documents(&target).await?;
    // In one registry the blobs need not travel at all.
    let same = from.reference.domain() == to.reference.domain();
    let mounts: Vec<String> = same.then(|| from.reference.path().to_owned()).into_iter().collect();
    let mut documents = Vec::new();
    walk.children_first(target.digest, &mut documents);
    let blobs = walk.blobs;
    let send = |(blob, part): (Descriptor, Arc<Part>)| {
        let mounts = &mounts;
        async move {
            part.enter(Phase::Uploading);
            let source = Remote { repository: from.repository.clone(), blob, part: Arc::clone(&part) };
            let pushed = to.repository.push_blob(&source.blob, &source, mounts).await?;
            part.enter(match pushed {
                Pushed::Uploaded => Phase::Complete,
                Pushed::Mounted => Phase::Mounted,
                Pushed::Existed => Phase::Exists,
            });
            Ok::<_, Error>(())
        }
    };
    stream::iter(blobs.into_iter().map(send)).buffer_unordered(PARALLEL_BLOBS).try_collect::<()>().await?;
    for document in documents {
        document.part.enter(Phase::Uploading);
        let tag = if document.descriptor.digest == target.digest { to.reference.tag() } else { None };
        to.repository.push_manifest(&document.descriptor, document.bytes, tag).await?;
        document.part.enter(Phase::Complete);
    }
    Ok(target)
}

struct Walk<'a> {
    from: &'a Side,
    watch: &'a Watch,
    seen: HashSet<Digest>,
    blobs: Vec<(Descriptor, Arc<Part>)>,
    documents: HashMap<Digest, Document>,
}

struct Document {
    descriptor: Descriptor,
    bytes: Bytes,
    part: Arc<Part>,
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
                    .insert(document.digest, Document { descriptor: document, bytes, part, children });
            }
            if next.is_empty() {
                return Ok(());
            }
            level = next;
        }
        Err(limit(target, format!("{MAX_DEPTH} indexes in each other")))
    }

    /// Moves a document, after those that it points at; digests cannot point in a circle.
    fn children_first(&mut self, digest: Digest, order: &mut Vec<Document>) {
        let Some(document) = self.documents.remove(&digest) else { return };
        for child in &document.children {
            self.children_first(*child, order);
        }
        order.push(document);
    }

    fn blobs(&mut self, manifest: &Manifest, parent: &str) {
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if !media_type::is_foreign(&blob.media_type) && self.seen.insert(blob.digest) {
                self.blobs.push((blob.clone(), self.watch.add(blob, parent)));
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
    part: Arc<Part>,
}

#[async_trait::async_trait]
impl BlobSource for Remote {
    async fn open(
        &self,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, RegistryError>>, RegistryError> {
        self.part.set_done(offset);
        let part = Arc::clone(&self.part);
        let pieces = self.repository.open(&self.blob, offset).await?;
        Ok(pieces.inspect_ok(move |piece| part.add(piece.len())).boxed())
    }
}
