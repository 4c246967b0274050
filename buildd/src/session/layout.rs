//! Layout: an OCI layout that a client has, read blob by blob through containerd's `Content` service in its session.
//!
//! A read is a task that takes messages off the wire and a reader on a pipeline's thread (`worker::source::layout`); between them a short queue.
//!
//! # Sources
//! BuildKit `session/content`: the metadata that names the layout.

use std::io::{self, Read};

use buildd_api::containerd::containerd::services::content::v1::{
    ReadContentRequest, content_client::ContentClient,
};
use buildd_oci::{ErrorKind, blob::Provider, descriptor::Descriptor, digest::Digest, error::Error};
use buildd_worker::session::SessionError;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Request, metadata::AsciiMetadataValue, transport::Channel};

use super::calls::refused;
use crate::session::transport::MESSAGE_LIMIT;

/// Names the layout in the metadata of a call; its value begins with the kind of store.
const STORE_KEY: &str = "buildkit-attachable-store-id";
/// Messages that wait for the reader.
const QUEUE: usize = 8;

/// A layout of a client.
#[derive(Debug)]
pub(super) struct Layout {
    channel: Channel,
    store: AsciiMetadataValue,
    gone: CancellationToken,
    tasks: Handle,
}

impl Layout {
    /// The layout `name`; whether it is there shows when it is read.
    pub(super) fn new(channel: Channel, name: &str, gone: CancellationToken) -> Result<Self, SessionError> {
        let store = format!("oci:{name}").parse().map_err(|_| SessionError {
            kind: ErrorKind::InvalidArgument,
            message: format!("OCI layout {name:?}: its name is not plain text"),
        })?;
        Ok(Self { channel, store, gone, tasks: Handle::current() })
    }
}

impl Provider for Layout {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let digest = descriptor.digest;
        let mut request =
            Request::new(ReadContentRequest { digest: digest.to_string(), ..ReadContentRequest::default() });
        request.metadata_mut().insert(STORE_KEY, self.store.clone());
        let (sender, pieces) = mpsc::channel(QUEUE);
        let (channel, gone) = (self.channel.clone(), self.gone.clone());
        self.tasks.spawn(async move {
            let ended = tokio::select! {
                ended = send(channel, request, &sender) => ended,
                () = gone.cancelled() => Err(failed(ErrorKind::Canceled, &digest, "the client's session has ended")),
            };
            if let Err(error) = ended {
                // Nobody may want it any more.
                let _ = sender.send(Err(error)).await;
            }
        });
        let mut blob = Blob { pieces, piece: Vec::new(), at: 0 };
        // A blob that is not there is told now, and by its class.
        match blob.fill() {
            Ok(_) => Ok(Box::new(blob)),
            Err(source) => {
                let kind = source.get_ref().and_then(|error| error.downcast_ref::<SessionError>());
                let kind = kind.map_or(ErrorKind::Unavailable, |error| error.kind);
                let operation = "read from the client's OCI layout";
                Err(Error::Store { operation, digest, kind, source: Box::new(source) })
            }
        }
    }
}

/// Hands over the messages of a read until its end, or until nobody wants more.
async fn send(
    channel: Channel,
    request: Request<ReadContentRequest>,
    sender: &mpsc::Sender<io::Result<Vec<u8>>>,
) -> io::Result<()> {
    let refuse = |status: tonic::Status| io::Error::other(refused("the client", &status));
    let mut client = ContentClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    let mut messages = client.read(request).await.map_err(refuse)?.into_inner();
    while let Some(message) = messages.message().await.map_err(refuse)? {
        if sender.send(Ok(message.data)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn failed(kind: ErrorKind, digest: &Digest, message: &str) -> io::Error {
    io::Error::other(SessionError { kind, message: format!("{digest}: {message}") })
}

/// A blob as it comes.
#[derive(Debug)]
struct Blob {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Blob {
    /// What is there to read; nothing at the end.
    fn fill(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() {
            match self.pieces.blocking_recv() {
                Some(piece) => (self.piece, self.at) = (piece?, 0),
                None => break,
            }
        }
        Ok(&self.piece[self.at..])
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill()?;
        let count = buffer.len().min(there.len());
        buffer[..count].copy_from_slice(&there[..count]);
        self.at += count;
        Ok(count)
    }
}
