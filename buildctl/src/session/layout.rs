//! Layout: OCI layouts that the daemon may read images from, as containerd's `Content` service offers blobs.
//!
//! A layout is asked for by the name that the build gave it, a blob by its digest; nothing else of the folder can be had, and nothing is written.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use buildd_api::containerd::containerd::services::content::v1::{
    AbortRequest, DeleteContentRequest, Info, InfoRequest, InfoResponse, ListContentRequest,
    ListContentResponse, ListStatusesRequest, ListStatusesResponse, ReadContentRequest, ReadContentResponse,
    StatusRequest, StatusResponse, UpdateRequest, UpdateResponse, WriteContentRequest, WriteContentResponse,
    content_server::Content,
};
use buildd_fs::path::{open_in_root, open_root};
use buildd_oci::digest::Digest;
use futures::stream::BoxStream;
use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

/// Names the layout in the metadata of a call.
const STORE_KEY: &str = "buildkit-attachable-store-id";
/// The kind of store that a layout is.
const KIND: &str = "oci:";
/// Bytes of one message.
const CHUNK: usize = 1 << 20;
/// Messages that wait for the daemon.
const QUEUE: usize = 4;

/// Where a layout keeps a blob.
pub(crate) fn blob_path(digest: &Digest) -> PathBuf {
    Path::new("blobs").join(digest.algorithm().as_str()).join(digest.hex())
}

/// Opens a regular file of a layout: links may lead about in the layout, but not out of it.
pub(crate) fn open(layout: &Path, path: &Path) -> io::Result<File> {
    let root = open_root(layout)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(open_in_root(root.as_fd(), path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a file")),
    }
}

/// Answers the daemon.
#[derive(Debug)]
pub(super) struct LayoutService {
    layouts: BTreeMap<String, PathBuf>,
}

impl LayoutService {
    pub(super) fn new(layouts: BTreeMap<String, PathBuf>) -> Self {
        Self { layouts }
    }

    /// The file of a blob, and its size.
    async fn blob(&self, metadata: &MetadataMap, digest: &str) -> Result<(Digest, File, u64), Status> {
        let store = metadata.get(STORE_KEY).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let layout = store.strip_prefix(KIND).and_then(|name| self.layouts.get(name)).cloned();
        let layout = layout.ok_or_else(|| Status::not_found(format!("no OCI layout {store:?} was given")))?;
        let digest: Digest = digest
            .parse()
            .map_err(|error: buildd_oci::error::Error| Status::invalid_argument(error.to_string()))?;
        let work = move || {
            let file = open(&layout, &blob_path(&digest))?;
            let size = file.metadata()?.len();
            Ok((digest, file, size))
        };
        buildd_fs::blocking::run(work).await.map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Status::not_found(format!("blob {digest} is not in the OCI layout")),
            _ => Status::internal(format!("read blob {digest} of the OCI layout: {error}")),
        })
    }
}

fn only_read<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("an OCI layout of a client is only read, by digest"))
}

#[tonic::async_trait]
impl Content for LayoutService {
    type ListStream = BoxStream<'static, Result<ListContentResponse, Status>>;
    type ReadStream = ReceiverStream<Result<ReadContentResponse, Status>>;
    type WriteStream = BoxStream<'static, Result<WriteContentResponse, Status>>;

    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let (digest, _, size) = self.blob(request.metadata(), &request.get_ref().digest).await?;
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let info = Info { digest: digest.to_string(), size, ..Info::default() };
        Ok(Response::new(InfoResponse { info: Some(info) }))
    }

    async fn read(&self, request: Request<ReadContentRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let (_, file, size) = self.blob(request.metadata(), &request.get_ref().digest).await?;
        let ReadContentRequest { offset, size: wanted, .. } = request.into_inner();
        let unsigned =
            |number| u64::try_from(number).map_err(|_| Status::invalid_argument("a negative range"));
        let (offset, wanted) = (unsigned(offset)?, unsigned(wanted)?);
        let end = if wanted == 0 { size } else { size.min(offset.saturating_add(wanted)) };
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || send(&file, offset, end, &sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list(&self, _: Request<ListContentRequest>) -> Result<Response<Self::ListStream>, Status> {
        only_read()
    }

    async fn update(&self, _: Request<UpdateRequest>) -> Result<Response<UpdateResponse>, Status> {
        only_read()
    }

    async fn delete(&self, _: Request<DeleteContentRequest>) -> Result<Response<()>, Status> {
        only_read()
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        only_read()
    }

    async fn list_statuses(
        &self,
        _: Request<ListStatusesRequest>,
    ) -> Result<Response<ListStatusesResponse>, Status> {
        only_read()
    }

    async fn write(
        &self,
        _: Request<Streaming<WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        only_read()
    }

    async fn abort(&self, _: Request<AbortRequest>) -> Result<Response<()>, Status> {
        only_read()
    }
}

/// Sends a range of a blob, until it is sent or the daemon has enough.
fn send(file: &File, mut offset: u64, end: u64, sender: &mpsc::Sender<Result<ReadContentResponse, Status>>) {
    while offset < end {
        let length = usize::try_from(end - offset).map_or(CHUNK, |left| left.min(CHUNK));
        let mut data = vec![0; length];
        let message = match file.read_exact_at(&mut data, offset) {
            Ok(()) => Ok(ReadContentResponse { offset: i64::try_from(offset).unwrap_or(i64::MAX), data }),
            Err(error) => Err(Status::internal(format!("read a blob of the OCI layout: {error}"))),
        };
        let failed = message.is_err();
        if sender.blocking_send(message).is_err() || failed {
            return;
        }
        offset += length as u64;
    }
}
