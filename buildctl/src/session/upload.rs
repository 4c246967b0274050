//! Upload: a build context that came as a tar stream on standard input, pulled by the daemon through the session.
//!
//! The daemon asks for it once, by the path of a URL whose host stands for "this session".

use std::{io::Cursor, pin::Pin, sync::Mutex};

use buildd_api::buildkit::moby::upload::v1::{BytesMessage, upload_server::Upload as UploadApi};
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::io::ReaderStream;
use tonic::{Request, Response, Status, Streaming};

/// Bytes of one message.
const PIECE_BYTES: usize = 256 * 1024;

/// A tar stream whose first bytes were already read.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The path the daemon asks for.
    pub(crate) path: String,
    /// The bytes already read; standard input has the rest.
    pub(crate) head: Vec<u8>,
}

impl Upload {
    /// The URL that stands for it in the build's options.
    pub(crate) fn url(&self) -> String {
        format!("http://buildkit-session/{}", self.path)
    }
}

/// Answers the daemon.
#[derive(Debug)]
pub(super) struct UploadService {
    upload: Mutex<Option<Upload>>,
}

impl UploadService {
    pub(super) fn new(upload: Option<Upload>) -> Self {
        Self { upload: Mutex::new(upload) }
    }

    fn take(&self, path: &str) -> Option<Upload> {
        let mut upload = self.upload.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        upload.take_if(|upload| upload.path == path.trim_start_matches('/'))
    }
}

#[tonic::async_trait]
impl UploadApi for UploadService {
    type PullStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let path = request.metadata().get("urlpath").and_then(|path| path.to_str().ok()).unwrap_or_default();
        let upload = self
            .take(path)
            .ok_or_else(|| Status::not_found(format!("no upload {path:?}, or it was pulled before")))?;
        let reader: Box<dyn AsyncRead + Send + Unpin> =
            Box::new(Cursor::new(upload.head).chain(tokio::io::stdin()));
        let stream = ReaderStream::with_capacity(reader, PIECE_BYTES).map(|piece| match piece {
            Ok(bytes) => Ok(BytesMessage { data: bytes.into() }),
            Err(e) => Err(Status::internal(format!("read standard input: {e}"))),
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
