//! Push: an image from the store into a registry.
//!
//! Transfers and exporters come here. What goes is planned first, so that an image that is not whole is refused before anything is sent; `send`
//! sends it.
//!
//! # Sources
//! containerd `core/transfer/local/push.go`, `core/remotes/handlers.go`.

use std::{
    collections::HashSet,
    io::{self, Read},
    sync::Arc,
};

use buildd_fs::blocking;
use buildd_oci::{
    blob::{Provider as _, read_document},
    copy::MAX_DEPTH,
    descriptor::Descriptor,
    manifest::{Index, Manifest},
    media_type,
    platform::Platform,
    reference::Reference,
    registry::{Error as RegistryError, Repository, push::BlobSource},
};
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;

use crate::{
    error::{Error, Result},
    root::Store,
    transfer::{progress::Watch, pull::SOURCE_LABEL, send},
};

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
    let plan = blocking::run(move || Plan::make(&opened, &request, &domain)).await?;
    let root = plan.documents.last().map(|item| item.descriptor.clone());
    let root = root.ok_or_else(|| Error::NotFound { what: "manifest", name: reference.to_string() })?;
    let part = |item: &Item| watch.add(&item.descriptor, &item.parent);
    let blob = |item: Item| {
        let source =
            StoredBlob { store: Arc::clone(store), ns: plan.ns.clone(), descriptor: item.descriptor.clone() };
        send::Blob { part: part(&item), source: Box::new(source), mounts: item.mounts }
    };
    let blobs = plan.blobs.into_iter().map(blob).collect();
    let document = |item: Item| send::Document { part: part(&item), bytes: Bytes::from(item.bytes) };
    let documents = plan.documents.into_iter().map(document).collect();
    send::send(repository, blobs, documents, reference.tag()).await?;
    Ok(root)
}

/// One thing that goes.
#[derive(Debug)]
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
        let name = crate::transfer::progress::name(document);
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
    index.find(platform).cloned().ok_or_else(|| {
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
struct StoredBlob {
    store: Arc<Store>,
    ns: String,
    descriptor: Descriptor,
}

#[async_trait::async_trait]
impl BlobSource for StoredBlob {
    async fn open(
        &self,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, RegistryError>>, RegistryError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(self.clone().read_ahead(offset, sender));
        let pieces = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        Ok(pieces.boxed())
    }
}

impl StoredBlob {
    /// Reads until the end, or until nobody wants more. A registry that does not take keeps a task waiting, and no thread.
    async fn read_ahead(self, offset: u64, pieces: mpsc::Sender<Result<Bytes, RegistryError>>) {
        let blob = self.clone();
        let mut data = match blocking::run(move || blob.open_at(offset)).await {
            Ok(data) => data,
            Err(error) => return drop(pieces.send(Err(error)).await),
        };
        loop {
            // A place in the queue comes first: nothing is read that could not be sent.
            let Ok(place) = pieces.reserve().await else { return };
            let (returned, piece) = blocking::run(move || {
                let piece = read_piece(&mut data);
                (data, piece)
            })
            .await;
            data = returned;
            match piece {
                Ok(piece) if piece.is_empty() => return,
                Ok(piece) => place.send(Ok(Bytes::from(piece))),
                Err(error) => return place.send(Err(self.broken(error))),
            }
        }
    }

    /// The blob's bytes from `offset` on.
    fn open_at(&self, offset: u64) -> Result<Box<dyn Read + Send>, RegistryError> {
        let content = self.store.content.in_namespace(&self.ns);
        let mut data = content.open(&self.descriptor).map_err(|error| self.failed(error))?;
        io::copy(&mut data.by_ref().take(offset), &mut io::sink()).map_err(|error| self.broken(error))?;
        Ok(data)
    }

    fn broken(&self, source: io::Error) -> RegistryError {
        self.failed(buildd_oci::Error::Blob { operation: "read", digest: self.descriptor.digest, source })
    }

    fn failed(&self, source: buildd_oci::Error) -> RegistryError {
        RegistryError::Content { url: self.descriptor.digest.to_string(), source: Arc::new(source) }
    }
}

/// The next bytes, as many as a piece has; fewer are the last ones, none the end.
fn read_piece(data: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(PIECE);
    data.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece)
}
