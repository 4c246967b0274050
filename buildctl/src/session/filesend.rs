//! File send: results of the build that the daemon sends to us: an archive as bytes, or a folder as packets.
//!
//! Both come over the one method `FileSend/DiffCopy`, whose messages differ by the exporter that the header names; so this service takes
//! messages raw and decodes them by the target.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use buildd_api::bytes_message::SharedBytes;
use bytes::{Buf as _, BufMut as _, Bytes};
use futures::{Stream, future::BoxFuture};
use http_body_util::BodyExt as _;
use prost::Message as _;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, NamedService, StreamingService},
};

use super::directory;
use crate::connection::MESSAGE_BYTES;

/// Where the result of one exporter goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// An archive, whole or not at all.
    File(PathBuf),
    /// An archive to standard output.
    Stdout,
    /// A tree, merged into this folder.
    Directory(PathBuf),
}

/// Answers the daemon.
#[derive(Debug, Clone)]
pub(super) struct FileSendService {
    targets: Arc<Vec<Option<Target>>>,
}

impl FileSendService {
    pub(super) fn new(targets: Vec<Option<Target>>) -> Self {
        Self { targets: Arc::new(targets) }
    }
}

impl NamedService for FileSendService {
    const NAME: &'static str = "moby.filesync.v1.FileSend";
}

impl tower::Service<http::Request<Body>> for FileSendService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != "/moby.filesync.v1.FileSend/DiffCopy" {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let request = request.map(|body| Body::new(body.map_err(broken_off)));
            let mut grpc =
                Grpc::new(RawCodec).apply_max_message_size_config(Some(MESSAGE_BYTES), Some(MESSAGE_BYTES));
            Ok(grpc.streaming(service, request).await)
        })
    }
}

/// A call that the daemon gave up, as an error.
///
/// tonic reads a reset with CANCEL as the end of the messages, which is how a whole archive ends.
fn broken_off(status: Status) -> Status {
    match status.code() {
        Code::Cancelled => Status::aborted("the daemon broke off"),
        _ => status,
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl StreamingService<Bytes> for FileSendService {
    type Response = Bytes;
    type ResponseStream = Replies;
    type Future = BoxFuture<'static, Result<Response<Replies>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let targets = Arc::clone(&self.targets);
        Box::pin(async move {
            let exporter = request.metadata().get("buildkit-attachable-exporter-id");
            let index: usize = match exporter {
                Some(id) => id
                    .to_str()
                    .ok()
                    .and_then(|id| id.parse().ok())
                    .ok_or_else(|| Status::invalid_argument("bad exporter id"))?,
                None => 0,
            };
            let target = targets.get(index).cloned().flatten().ok_or_else(|| {
                Status::failed_precondition(format!("exporter {index} has no destination here"))
            })?;
            let incoming = request.into_inner();
            match target {
                Target::Directory(path) => Ok(Response::new(directory::receive(path, incoming))),
                Target::File(path) => archive(incoming, Some(path)).await,
                Target::Stdout => archive(incoming, None).await,
            }
        })
    }
}

/// Writes an archive; a file appears under its name only when it is complete.
async fn archive(mut incoming: Streaming<Bytes>, path: Option<PathBuf>) -> Result<Response<Replies>, Status> {
    let name = path.as_ref().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    let failed = |e: io::Error| Status::internal(format!("write {name}: {e}"));
    let mut file = ArchiveFile::create(path).map_err(failed)?;
    while let Some(message) = incoming.message().await? {
        let piece = SharedBytes::decode(message).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let (returned, written) = buildd_fs::blocking::run(move || {
            let written = file.write_all(&piece.data);
            (file, written)
        })
        .await;
        file = returned;
        written.map_err(failed)?;
    }
    file.finish().map_err(failed)?;
    Ok(Response::new(Box::pin(futures::stream::empty())))
}

#[derive(Debug)]
enum ArchiveFile {
    /// A temporary file beside its destination.
    Regular(tempfile::NamedTempFile, PathBuf),
    /// A pipe or device, written as it comes.
    Special(std::fs::File),
    Stdout,
}

impl ArchiveFile {
    fn create(path: Option<PathBuf>) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let Some(path) = path else { return Ok(Self::Stdout) };
        if std::fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Ok(Self::Special(std::fs::File::options().write(true).open(&path)?));
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.map_or_else(|| PathBuf::from("."), PathBuf::from);
        let temporary = tempfile::Builder::new()
            .prefix(".buildctl-")
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(dir)?;
        Ok(Self::Regular(temporary, path))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Regular(file, _) => file.write_all(bytes),
            Self::Special(file) => file.write_all(bytes),
            Self::Stdout => io::stdout().lock().write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Regular(file, path) => {
                file.persist(path)?;
                Ok(())
            }
            Self::Special(mut file) => file.flush(),
            Self::Stdout => io::stdout().lock().flush(),
        }
    }
}

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
