//! Push: an image from the store into a registry.
//!
//! Transfers and exporters come here. Blobs go first and at once, then manifests, then indexes, the one with the tag last: a tag never
//! points at something that is not whole.
//!
//! # Sources
//! containerd `core/transfer/local/push.go`, `core/remotes/handlers.go`; distribution-spec 1.1 "push"; spec registries.md 77-81.

use std::{
    collections::HashSet,
    io::{self, Read},
    sync::Arc,
};

use buildd_oci::{
    blob::{Provider as _, read_document},
    copy::MAX_DEPTH,
    descriptor::Descriptor,
    manifest::{Index, Manifest},
    media_type,
    platform::Platform,
    reference::Reference,
    registry::{
        Error as RegistryError, Repository,
        push::{BlobSource, Pushed},
    },
};
use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;

use crate::{
    error::{Error, Result},
    pull::SOURCE_LABEL,
    store::Store,
    watch::{Part, Phase, Watch},
};

/// Blobs that go at once.
const PARALLEL_BLOBS: usize = 4;
/// Bytes of one piece of a blob.
const PIECE: usize = 256 << 10;
/// Pieces that are read ahead.
const QUEUE: usize = 4;

/// What is to be pushed.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// Whose image it is.
    pub ns: String,
    /// Its manifest or index.
    pub target: Descriptor,
    /// The platforms of an index that go; all if there is none. One alone goes as a manifest, as in containerd.
    pub platforms: Vec<Platform>,
}

/// Pushes an image; what the registry has already is not sent. Returns what the tag points at.
pub async fn push(
    store: &Arc<Store>,
    reference: &Reference,
    repository: &Repository,
    request: PushRequest,
    watch: &Watch,
) -> Result<Descriptor> {
    let (opened, domain) = (Arc::clone(store), reference.domain().to_owned());
    let plan = buildd_fs::blocking::run(move || Plan::make(&opened, &request, &domain)).await?;
    let parted = |item: &Item| (item.clone(), watch.add(&item.descriptor, &item.parent));
    let sender = Sender {
        store: Arc::clone(store),
        ns: plan.ns.clone(),
        repository: repository.clone(),
        blobs: plan.blobs.iter().map(parted).collect(),
    };
    let documents: Vec<(Item, Arc<Part>)> = plan.documents.iter().map(parted).collect();
    sender.send_blobs().await?;
    // Children come before the documents that point at them, the root is last.
    let mut pushed = None;
    for (item, part) in documents {
        part.enter(Phase::Uploading);
        let is_root = item.parent.is_empty();
        let tag = if is_root { reference.tag() } else { None };
        sender.send_document(&item, tag).await?;
        part.enter(Phase::Complete);
        pushed = is_root.then(|| item.descriptor.clone());
    }
    pushed.ok_or_else(|| Error::NotFound { what: "manifest", name: reference.to_string() })
}

/// Sends the parts of one image.
struct Sender {
    store: Arc<Store>,
    ns: String,
    repository: Repository,
    blobs: Vec<(Item, Arc<Part>)>,
}

impl Sender {
    async fn send_blobs(&self) -> Result<()> {
        let blobs: Vec<BoxFuture<'_, Result<()>>> =
            self.blobs.iter().map(|(item, part)| self.send_blob(item, part).boxed()).collect();
        stream::iter(blobs).buffer_unordered(PARALLEL_BLOBS).try_collect::<()>().await
    }

    async fn send_blob(&self, item: &Item, part: &Arc<Part>) -> Result<()> {
        part.enter(Phase::Uploading);
        let blob =
            Blob { store: Arc::clone(&self.store), ns: self.ns.clone(), descriptor: item.descriptor.clone() };
        let watched = Watched { blob, part: Arc::clone(part) };
        let pushed = self.repository.push_blob(&item.descriptor, &watched, &item.mounts).await?;
        part.enter(match pushed {
            Pushed::Uploaded => Phase::Complete,
            Pushed::Mounted => Phase::Mounted,
            Pushed::Existed => Phase::Exists,
        });
        Ok(())
    }

    /// A registry that collected a blob after it said that it had it gets the blobs once more (F-36).
    async fn send_document(&self, item: &Item, tag: Option<&str>) -> Result<()> {
        let send = || self.repository.push_manifest(&item.descriptor, Bytes::from(item.bytes.clone()), tag);
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

/// One thing that goes.
#[derive(Clone, Debug)]
struct Item {
    descriptor: Descriptor,
    parent: String,
    /// A document's.
    bytes: Vec<u8>,
    /// Repositories of the same host that had this blob.
    mounts: Vec<String>,
}

/// Everything that goes, in order.
#[derive(Debug)]
struct Plan<'a> {
    store: &'a Store,
    domain: &'a str,
    seen: HashSet<buildd_oci::digest::Digest>,
    going: Going,
}

#[derive(Debug, Default)]
struct Going {
    ns: String,
    blobs: Vec<Item>,
    documents: Vec<Item>,
}

impl Plan<'_> {
    fn make(store: &Store, request: &PushRequest, domain: &str) -> Result<Going> {
        let target = chosen(store, request)?;
        let going = Going { ns: request.ns.clone(), ..Going::default() };
        let mut plan = Plan { store, domain, seen: HashSet::new(), going };
        plan.descend(&target, String::new(), 0, None)?;
        Ok(plan.going)
    }

    fn descend(
        &mut self,
        document: &Descriptor,
        parent: String,
        depth: usize,
        platform: Option<&Platform>,
    ) -> Result<()> {
        if !self.seen.insert(document.digest) {
            return Ok(());
        }
        let platform = document.platform.as_ref().or(platform);
        let content = self.store.content.in_namespace(&self.going.ns);
        let bytes = read_document(&content, document).map_err(|error| lacking(error, document, platform))?;
        let name = crate::watch::name(document);
        if media_type::is_index(&document.media_type) {
            if depth >= MAX_DEPTH {
                let limit = format!("{MAX_DEPTH} indexes in each other");
                return Err(buildd_oci::Error::WalkLimit { digest: document.digest, limit }.into());
            }
            for child in Index::parse(&bytes)?.manifests {
                self.descend(&child, name.clone(), depth + 1, platform)?;
            }
        } else {
            let manifest = Manifest::parse(&bytes)?;
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                self.blob(blob, &name, platform)?;
            }
        }
        self.going.documents.push(Item { descriptor: document.clone(), parent, bytes, mounts: Vec::new() });
        Ok(())
    }

    fn blob(&mut self, blob: &Descriptor, parent: &str, platform: Option<&Platform>) -> Result<()> {
        if media_type::is_foreign(&blob.media_type) || !self.seen.insert(blob.digest) {
            return Ok(());
        }
        let info = self.store.content.info(&self.going.ns, &blob.digest).map_err(|error| match error {
            Error::NotFound { .. } => {
                lacking(buildd_oci::Error::BlobNotFound { digest: blob.digest }, blob, platform)
            }
            error => error,
        })?;
        let sources = info.labels.get(&format!("{SOURCE_LABEL}{}", self.domain));
        let mounts = sources.into_iter().flat_map(|text| text.split(',')).map(str::to_owned).collect();
        let item = Item { descriptor: blob.clone(), parent: parent.to_owned(), bytes: Vec::new(), mounts };
        self.going.blobs.push(item);
        Ok(())
    }
}

/// What the tag will point at: the target, or the manifests of it that were asked for.
fn chosen(store: &Store, request: &PushRequest) -> Result<Descriptor> {
    if request.platforms.is_empty() || !media_type::is_index(&request.target.media_type) {
        return Ok(request.target.clone());
    }
    let content = store.content.in_namespace(&request.ns);
    let index = Index::parse(&read_document(&content, &request.target)?)?;
    let [platform] = request.platforms.as_slice() else {
        return Err(Error::Invalid {
            what: "platforms",
            name: request.target.digest.to_string(),
            reason: "a push takes one platform, or all".to_owned(),
        });
    };
    let fits = |d: &&Descriptor| d.platform.as_ref().is_none_or(|p| platform.matches(p));
    let found = index.manifests.iter().find(fits).cloned();
    found.ok_or_else(|| {
        buildd_oci::Error::NoPlatform { digest: request.target.digest, wanted: platform.to_string() }.into()
    })
}

/// Says of a blob that is not here which platform it belongs to.
fn lacking(error: buildd_oci::Error, blob: &Descriptor, platform: Option<&Platform>) -> Error {
    match (&error, platform) {
        (buildd_oci::Error::BlobNotFound { .. }, Some(platform)) => {
            Error::Incomplete { platform: platform.to_string(), digest: blob.digest }
        }
        _ => error.into(),
    }
}

/// A blob of the store, opened anew for each attempt.
#[derive(Clone, Debug)]
struct Blob {
    store: Arc<Store>,
    ns: String,
    descriptor: Descriptor,
}

/// The same, and who watches it go.
struct Watched {
    blob: Blob,
    part: Arc<Part>,
}

#[async_trait::async_trait]
impl BlobSource for Watched {
    async fn open(
        &self,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, RegistryError>>, RegistryError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (blob, part) = (self.blob.clone(), Arc::clone(&self.part));
        part.set_done(offset);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = blob.read(offset, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        let pieces = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let counted = pieces.inspect_ok(move |piece| part.add(piece.len()));
        Ok(counted.boxed())
    }
}

impl Blob {
    /// Reads until the end, or until nobody wants more.
    fn read(
        &self,
        offset: u64,
        pieces: &mpsc::Sender<Result<Bytes, RegistryError>>,
    ) -> Result<(), RegistryError> {
        let fail = |source: buildd_oci::Error| RegistryError::Content {
            url: self.descriptor.digest.to_string(),
            source: Arc::new(source),
        };
        let broken = |source| {
            fail(buildd_oci::Error::Blob { operation: "read", digest: self.descriptor.digest, source })
        };
        let mut data = self.store.content.in_namespace(&self.ns).open(&self.descriptor).map_err(fail)?;
        io::copy(&mut data.by_ref().take(offset), &mut io::sink()).map_err(broken)?;
        loop {
            let mut piece = vec![0; PIECE];
            let mut filled = 0;
            while filled < PIECE {
                match data.read(&mut piece[filled..]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(broken(error)),
                }
            }
            piece.truncate(filled);
            if filled == 0 || pieces.blocking_send(Ok(Bytes::from(piece))).is_err() {
                return Ok(());
            }
        }
    }
}
