//! Transport: a gRPC channel towards the client, inside the byte stream that the client opened.
//!
//! `Control.Session` is a pipe of byte messages whose boundaries mean nothing. The client runs an HTTP/2 server at its end of the pipe,
//! we are the HTTP/2 client. The windows are large: with HTTP/2's default a build context crawls.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use buildd_api::buildkit::moby::buildkit::v1::BytesMessage;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt, TryStreamExt};
use hyper_util::rt::TokioIo;
use tokio::{io::BufWriter, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{
    io::{CopyToBytes, SinkWriter, StreamReader},
    sync::PollSender,
};
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

/// Bytes of one message, either way; BuildKit's and containerd's figure.
pub(crate) const MESSAGE_LIMIT: usize = 16 << 20;
/// Bytes in flight of one call; the outer stream has the same (see `buildkit::serve`).
pub(crate) const STREAM_WINDOW: u32 = 8 << 20;
/// Bytes in flight of all calls of a session.
pub(crate) const CONNECTION_WINDOW: u32 = 32 << 20;
/// Bytes of one frame, which each end takes: with HTTP/2's default of 16 KiB a large file is tens of thousands of messages within messages.
pub(crate) const FRAME: u32 = 256 << 10;
/// Bytes of one chunk: HTTP/2 writes the head of a frame by itself, and each chunk is a message of the outer stream.
const CHUNK: usize = 64 << 10;
/// Chunks that wait for the client to read: then HTTP/2 waits.
const CHUNKS: usize = 32;

/// The channel, and what the `Session` call answers with. The channel works once: it never reconnects.
pub(crate) fn channel(
    incoming: Streaming<BytesMessage>,
) -> (Channel, impl Stream<Item = Result<BytesMessage, Status>> + Send + 'static) {
    let (sender, receiver) = mpsc::channel::<Bytes>(CHUNKS);
    let bytes = incoming.map_ok(|message| Bytes::from(message.data)).map_err(io::Error::other);
    let reader = StreamReader::new(Box::pin(bytes));
    let sink = PollSender::new(sender).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
    let writer = BufWriter::with_capacity(CHUNK, Box::pin(SinkWriter::new(CopyToBytes::new(sink))));
    let pipe = Arc::new(Mutex::new(Some(TokioIo::new(tokio::io::join(reader, writer)))));
    let connector = tower::service_fn(move |_| {
        let pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { pipe.ok_or_else(|| io::Error::other("the session has ended")) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .connect_with_connector_lazy(connector);
    let outgoing = ReceiverStream::new(receiver).map(|chunk| Ok(BytesMessage { data: chunk.into() }));
    (channel, outgoing)
}
