//! Payload: what a request carries, and the watch over its way out.
//!
//! A blob is never held in memory: it is opened again for each attempt and streamed. The watch tells a network that stands
//! still from a source that is slow: only the first ends the attempt.

use std::{
    future::Future,
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use reqwest::{
    Body, Method, Request, Response,
    header::{CONTENT_LENGTH, HeaderValue},
};

use super::{Timeouts, body::Slow};
use crate::registry::{error::Error, push::BlobSource};

/// What a request carries.
pub(crate) enum Payload<'a> {
    /// Nothing.
    None,
    /// A document.
    Bytes(Bytes),
    /// A part of a blob.
    Blob { source: &'a dyn BlobSource, range: Range<u64> },
}

impl std::fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Blob { range, .. } => write!(f, "Blob({range:?})"),
        }
    }
}

/// Why no answer came.
#[derive(Debug)]
pub(crate) enum Failed {
    /// What was to be sent could not be read.
    Source(Error),
    /// Anything else.
    Network(Arc<dyn std::error::Error + Send + Sync>),
}

impl Payload<'_> {
    /// Puts the payload into a request; a blob's first bytes are there before the request is made (F-32: proxies close
    /// uploads that begin with silence).
    pub(crate) async fn attach(&self, request: &mut Request) -> Result<Sending, Error> {
        let length = match self {
            Self::None if matches!(*request.method(), Method::GET | Method::HEAD) => {
                return Ok(Sending::default());
            }
            Self::None => 0,
            Self::Bytes(bytes) => {
                *request.body_mut() = Some(bytes.clone().into());
                bytes.len() as u64
            }
            Self::Blob { range, .. } => range.end - range.start,
        };
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        let commits = *request.method() == Method::PUT;
        let Self::Blob { source, range } = self else { return Ok(Sending { commits, watch: None }) };
        let mut bytes = source.open(range.start).await?;
        let first = bytes.next().await;
        let watch = Arc::new(Watch::default());
        let outgoing =
            Outgoing { bytes: stream::iter(first).chain(bytes).boxed(), left: length, watch: watch.clone() };
        *request.body_mut() = Some(Body::wrap_stream(outgoing));
        Ok(Sending { commits, watch: Some(watch) })
    }
}

/// A request on its way.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    /// Whether the registry may have to move or hash what it has before it answers.
    commits: bool,
    watch: Option<Arc<Watch>>,
}

impl Sending {
    /// Waits for the answer as long as there is hope.
    pub(crate) async fn run(
        self,
        answer: impl Future<Output = reqwest::Result<Response>>,
        timeouts: &Timeouts,
    ) -> Result<Response, Failed> {
        let network = |error: reqwest::Error| Failed::Network(Arc::new(error.without_url()));
        let Some(watch) = self.watch else {
            let limit = if self.commits { timeouts.upload_answer } else { timeouts.answer };
            return match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer.map_err(network),
                Err(_) => Err(Failed::Network(Arc::new(Slow::Header(limit)))),
            };
        };
        let answer = tokio::select! {
            answer = answer => answer.map_err(network),
            slow = watch.stands_still(timeouts) => Err(Failed::Network(Arc::new(slow))),
        };
        match watch.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) if answer.is_err() => Err(Failed::Source(error)),
            _ => answer,
        }
    }
}

/// Whose turn it is, and since when.
#[derive(Debug)]
struct Watch {
    start: Instant,
    /// Milliseconds since `start` when the network got its last bytes; `AT_SOURCE` while the source is asked for more.
    since: AtomicU64,
    failure: Mutex<Option<Error>>,
    all_sent: AtomicBool,
}

const AT_SOURCE: u64 = u64::MAX;

impl Default for Watch {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            since: AtomicU64::new(0),
            failure: Mutex::default(),
            all_sent: AtomicBool::new(false),
        }
    }
}

impl Watch {
    fn network_has_it(&self) {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(AT_SOURCE - 1);
        self.since.store(since, Ordering::Relaxed);
    }

    /// Ends when the network has taken nothing for too long.
    async fn stands_still(&self, timeouts: &Timeouts) -> Slow {
        loop {
            let done = self.all_sent.load(Ordering::Relaxed);
            let limit = if done { timeouts.upload_answer } else { timeouts.silence };
            let quiet = match self.since.load(Ordering::Relaxed) {
                AT_SOURCE => Duration::ZERO,
                since => self.start.elapsed().saturating_sub(Duration::from_millis(since)),
            };
            if quiet >= limit {
                return if done { Slow::Header(limit) } else { Slow::Silent(limit) };
            }
            tokio::time::sleep(limit - quiet).await;
        }
    }
}

/// The bytes on their way out: exactly as many as were announced.
struct Outgoing {
    bytes: BoxStream<'static, Result<Bytes, Error>>,
    left: u64,
    watch: Arc<Watch>,
}

/// The source has less than its size.
#[derive(Debug, thiserror::Error)]
#[error("it ends {0} bytes before its size")]
struct TooShort(u64);

/// Ends the request; the reason lies in the watch.
#[derive(Debug, thiserror::Error)]
#[error("what was to be sent could not be read")]
struct Unreadable;

impl Stream for Outgoing {
    type Item = Result<Bytes, Unreadable>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.watch.since.store(AT_SOURCE, Ordering::Relaxed);
        if self.left == 0 {
            self.watch.all_sent.store(true, Ordering::Relaxed);
            self.watch.network_has_it();
            return Poll::Ready(None);
        }
        let next = std::task::ready!(self.bytes.poll_next_unpin(context));
        self.watch.network_has_it();
        let error = match next {
            Some(Ok(mut bytes)) => {
                bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= bytes.len() as u64;
                if self.left == 0 {
                    self.watch.all_sent.store(true, Ordering::Relaxed);
                }
                return Poll::Ready(Some(Ok(bytes)));
            }
            Some(Err(error)) => error,
            None => Error::Source { kind: crate::ErrorKind::DataLoss, source: Arc::new(TooShort(self.left)) },
        };
        *self.watch.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        Poll::Ready(Some(Err(Unreadable)))
    }
}
