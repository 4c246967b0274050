//! Streams: byte pipes that a client opens first and a transfer then takes by their id.
//!
//! The first message of a call names its stream and is answered at once. The receiver of bytes grants credit, the sender spends it;
//! the end of the call is the end of the bytes.
//!
//! # Sources
//! containerd `core/transfer/streaming`, `plugins/services/streaming`.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use buildd_api::containerd::containerd::{
    services::streaming::v1::{StreamInit, streaming_server::Streaming as StreamingService},
    types::transfer::{Data, WindowUpdate},
};
use prost::Name;
use prost_types::Any;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Services;

/// How long a transfer waits for a stream that it names.
const WAIT: Duration = Duration::from_secs(5);
/// Streams that nobody has taken yet: stops a client from filling memory.
const MAX_WAITING: usize = 1024;
/// What the last messages of a stream are given to reach a client before the answer of its call does.
const SETTLE: Duration = Duration::from_millis(10);
/// How long the client of an import or an export may be silent: stops one that is suspended from holding a thread, and what it has written, for
/// ever.
const SILENCE: Duration = Duration::from_secs(600);
/// Messages in flight each way.
const QUEUE: usize = 16;
/// Bytes that a sender may have in flight: containerd lets 64 KiB, and every half of it is a message back.
const WINDOW: i32 = 1 << 20;
/// Bytes of one message.
const CHUNK: usize = 32 * 1024;

/// A message in its envelope: the full name without a host, as containerd's typeurl writes it.
pub(super) fn envelope<M: Name>(message: &M) -> Any {
    Any { type_url: M::full_name(), value: message.encode_to_vec() }
}

/// The message of an envelope, if it is of this type.
pub(super) fn open<M: Name + Default>(any: &Any) -> Result<Option<M>, Status> {
    if any.type_url.rsplit('/').next() != Some(M::full_name().as_str()) {
        return Ok(None);
    }
    let message = M::decode(any.value.as_slice());
    message.map(Some).map_err(|error| Status::invalid_argument(format!("decode {}: {error}", M::full_name())))
}

/// Our end of a stream; dropping it ends the call.
#[derive(Debug)]
pub(super) struct Stream {
    incoming: mpsc::Receiver<Any>,
    outgoing: mpsc::Sender<Result<Any, Status>>,
}

/// The streams that no transfer has taken yet.
#[derive(Debug)]
pub(super) struct Streams {
    waiting: Mutex<HashMap<(String, String), Stream>>,
    arrivals: watch::Sender<u64>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { waiting: Mutex::default(), arrivals: watch::Sender::new(0) }
    }
}

impl Streams {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Stream>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, ns: &str, id: String, stream: Stream) -> Result<(), Status> {
        let mut waiting = self.lock();
        waiting.retain(|_, stream| !stream.outgoing.is_closed());
        if waiting.len() >= MAX_WAITING {
            return Err(Status::resource_exhausted("too many streams"));
        }
        if waiting.contains_key(&(ns.to_owned(), id.clone())) {
            return Err(Status::already_exists(format!("stream {id:?} already exists")));
        }
        waiting.insert((ns.to_owned(), id), stream);
        drop(waiting);
        self.arrivals.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Takes a stream, as soon as it is there.
    pub(super) async fn take(&self, ns: &str, id: &str) -> Result<Stream, Status> {
        let missing = || Status::not_found(format!("stream {id:?} not found"));
        let key = (ns.to_owned(), id.to_owned());
        let deadline = Instant::now() + WAIT;
        let mut arrivals = self.arrivals.subscribe();
        loop {
            arrivals.mark_unchanged();
            if let Some(stream) = self.lock().remove(&key) {
                return Ok(stream);
            }
            let arrival = timeout_at(deadline, arrivals.changed()).await;
            arrival.map_err(|_| missing())?.map_err(|_| missing())?;
        }
    }
}

#[tonic::async_trait]
impl StreamingService for Services {
    type StreamStream = ReceiverStream<Result<Any, Status>>;

    async fn stream(&self, request: Request<Streaming<Any>>) -> Result<Response<Self::StreamStream>, Status> {
        let ns = super::namespace(&request)?;
        let mut messages = request.into_inner();
        let first = messages.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("a stream begins with its id"))?;
        let init: Option<StreamInit> = open(&first)?;
        let init = init.ok_or_else(|| Status::invalid_argument("a stream begins with its id"))?;
        let (forward, incoming) = mpsc::channel(QUEUE);
        let (outgoing, answers) = mpsc::channel(QUEUE);
        let hello = Any { type_url: "google.protobuf.Empty".to_owned(), value: Vec::new() };
        outgoing.send(Ok(hello)).await.map_err(|_| Status::cancelled("the client left"))?;
        self.streams.offer(&ns, init.id, Stream { incoming, outgoing })?;
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                if forward.send(message).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

impl Stream {
    #[cfg(test)]
    pub(super) fn of(incoming: mpsc::Receiver<Any>, outgoing: mpsc::Sender<Result<Any, Status>>) -> Self {
        Self { incoming, outgoing }
    }

    /// Sends one message; a client that left does not matter.
    pub(super) async fn send<M: Name>(&self, message: &M) {
        let _ = self.outgoing.send(Ok(envelope(message))).await;
    }

    /// Waits until what was sent is on the wire. Clients stop reading a progress stream when their call is answered.
    pub(super) async fn settle(&self) {
        // There is room for a whole queue when the queue is empty, or there is nobody who reads it.
        let _ = self.outgoing.reserve_many(self.outgoing.max_capacity()).await;
        tokio::time::sleep(SETTLE).await;
    }

    /// Waits until the client has left.
    pub(super) async fn closed(&self) {
        self.outgoing.closed().await;
    }

    /// The next message of this kind; None if the client is done.
    pub(super) async fn receive<M: Name + Default>(&mut self) -> Result<Option<M>, Status> {
        while let Some(any) = self.incoming.recv().await {
            if let Some(message) = open(&any)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The bytes that the client sends, for a pipeline's thread; made on an async one.
    pub(super) fn into_reader(self) -> Reader {
        self.into_reader_within(SILENCE)
    }

    /// The same of a client that may be silent for so long.
    pub(super) fn into_reader_within(self, silence: Duration) -> Reader {
        Reader { pipe: Pipe::new(self, silence), credit: 0, piece: Vec::new(), at: 0 }
    }

    /// Bytes for the client, for a pipeline's thread; made on an async one.
    pub(super) fn into_writer(self) -> Writer {
        Writer { pipe: Pipe::new(self, SILENCE), credit: 0 }
    }
}

fn left() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the client left")
}

/// A stream as a thread without an async runtime uses it; a client that is silent for too long ends it.
#[derive(Debug)]
struct Pipe {
    stream: Stream,
    /// How long the client may be silent.
    silence: Duration,
    tasks: Handle,
}

impl Pipe {
    fn new(stream: Stream, silence: Duration) -> Self {
        Self { stream, silence, tasks: Handle::current() }
    }

    /// What the client sends next; None if it is done.
    fn receive(&mut self, wanted: &str) -> io::Result<Option<Any>> {
        let received = async { timeout(self.silence, self.stream.incoming.recv()).await };
        self.tasks.block_on(received).map_err(|_| silent(wanted, self.silence))
    }

    /// Sends, as soon as the client takes it; whether it is still there.
    fn send(&self, message: Any, what: &str) -> io::Result<bool> {
        let sent = async { timeout(self.silence, self.stream.outgoing.send(Ok(message))).await };
        let sent = self.tasks.block_on(sent).map_err(|_| silent(what, self.silence))?;
        Ok(sent.is_ok())
    }
}

fn silent(what: &str, silence: Duration) -> io::Error {
    let message = format!("the client has {what} nothing for {} seconds", silence.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// See [`Stream::into_reader`].
#[derive(Debug)]
pub(super) struct Reader {
    pipe: Pipe,
    credit: i32,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            if self.credit < WINDOW / 2 {
                // A sender that is done does not need more credit.
                let _ = self.pipe.send(envelope(&WindowUpdate { update: WINDOW }), "read")?;
                self.credit += WINDOW;
            }
            let Some(any) = self.pipe.receive("sent")? else { return Ok(0) };
            if let Some(data) = open::<Data>(&any).map_err(io::Error::other)? {
                self.credit -= i32::try_from(data.data.len()).unwrap_or(i32::MAX).min(self.credit);
                (self.piece, self.at) = (data.data, 0);
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// See [`Stream::into_writer`].
#[derive(Debug)]
pub(super) struct Writer {
    pipe: Pipe,
    credit: usize,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        while self.credit == 0 {
            let any = self.pipe.receive("read")?.ok_or_else(left)?;
            if let Some(window) = open::<WindowUpdate>(&any).map_err(io::Error::other)? {
                self.credit += usize::try_from(window.update).unwrap_or_default();
            }
        }
        let count = bytes.len().min(self.credit).min(CHUNK);
        let data = envelope(&Data { data: bytes[..count].to_vec() });
        if !self.pipe.send(data, "read")? {
            return Err(left());
        }
        self.credit -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
