//! Faults: what a registry does wrong, to which requests and how often.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Method, Response,
    body::{Frame, Incoming},
};

use tokio::sync::watch;

use super::{Body, Reply, Seen, State, reply, uploads::Upload};

/// Between two bytes of a body that drips.
const DRIP: Duration = Duration::from_millis(20);
/// Between two bytes of a body that trickles.
const TRICKLE: Duration = Duration::from_millis(100);

/// The connection is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by a fault")
    }
}

impl std::error::Error for Cut {}

/// What is done instead of, or with, the right answer.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with a status and headers, and does nothing.
    Status(u16, Vec<(&'static str, String)>),
    /// Answers with a status, headers and a body.
    Answer(u16, Vec<(&'static str, String)>, Bytes),
    /// Cuts the connection before an answer.
    Hang(Hang),
    /// Does what was asked, and cuts the connection before the answer.
    LoseAnswer,
    /// Cuts the connection after so many bytes of the body.
    Cut(usize),
    /// Stops sending after so many bytes of the body, and keeps the connection open.
    Stop(usize),
    /// Sends the body a byte at a time, with a pause after each.
    Drip,
    /// Sends the body a byte now and then until this gate opens, then the rest.
    Trickle(Gate),
    /// Turns one bit of this byte of the body.
    Flip(usize),
    /// Sends the body without saying its length, and so many bytes more than it has.
    Longer(usize),
    /// Sends the body without saying its length, and only so many bytes of it.
    Shorter(usize),
    /// Takes so many bytes of an upload, keeps them, and cuts the connection.
    CutUpload(usize),
    /// Knows no ranges.
    IgnoreRange,
    /// Sets a header of the answer, or takes it away.
    Header(&'static str, Option<String>),
}

/// What bodies that trickle wait for.
#[derive(Clone, Debug)]
pub struct Gate {
    open: watch::Sender<bool>,
    /// Pieces that were sent.
    sent: Arc<AtomicUsize>,
}

impl Gate {
    /// A gate that is closed.
    pub fn closed() -> Self {
        Self { open: watch::Sender::new(false), sent: Arc::default() }
    }

    /// How many bytes trickled so far, of all bodies.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// The body, as it trickles.
    fn body(&self, bytes: Bytes) -> Body {
        let pieces =
            stream::unfold((bytes, self.open.subscribe(), Arc::clone(&self.sent)), |state| async move {
                let (mut bytes, mut gate, sent) = state;
                if bytes.is_empty() {
                    return None;
                }
                let piece = tokio::select! {
                    // The gate lives as long as the registry.
                    _ = gate.wait_for(|open| *open) => bytes.split_to(bytes.len()),
                    () = tokio::time::sleep(TRICKLE) => {
                        sent.fetch_add(1, Ordering::Relaxed);
                        bytes.split_to(1)
                    }
                };
                Some((Ok(Frame::data(piece)), (bytes, gate, sent)))
            });
        StreamBody::new(pieces).boxed_unsync()
    }
}

/// How a connection ends without an answer.
#[derive(Clone, Copy, Debug)]
pub enum Hang {
    /// It is closed.
    Up,
    /// It is kept open, for ever.
    On,
}

/// A rule: which requests, how often, and what is done with them.
#[derive(Clone, Debug)]
pub struct Fault {
    method: Option<&'static str>,
    path: String,
    skip: usize,
    times: usize,
    act: Act,
}

impl Fault {
    /// For each request whose path contains `path`.
    pub fn on(path: impl Into<String>, act: Act) -> Self {
        Self { method: None, path: path.into(), skip: 0, times: usize::MAX, act }
    }

    /// Only for requests of this method.
    pub fn method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// Only so often.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Not for the first ones.
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    fn matches(&self, seen: &Seen) -> bool {
        self.times > 0
            && self.method.is_none_or(|method| method == seen.method)
            && seen.path.contains(&self.path)
    }
}

/// What is to be done with a request: of the first rule that fits.
pub(super) fn next(faults: &mut [Fault], seen: &Seen) -> Option<Act> {
    let fault = faults.iter_mut().find(|fault| fault.matches(seen))?;
    if fault.skip > 0 {
        fault.skip -= 1;
        return None;
    }
    fault.times -= 1;
    Some(fault.act.clone())
}

/// Answers a request, rightly or as `act` says.
pub(super) async fn answer(
    act: Option<Act>,
    method: &Method,
    seen: &Seen,
    body: Incoming,
    state: &Mutex<State>,
) -> Reply {
    let mut seen = seen.clone();
    let mut upload = Upload { body, cut: None };
    match &act {
        Some(Act::Status(status, headers)) => {
            let _ = upload.collect().await;
            return Ok(reply(*status, headers, ""));
        }
        Some(Act::Answer(status, headers, bytes)) => {
            let _ = upload.collect().await;
            return Ok(reply(*status, headers, bytes.clone()));
        }
        Some(Act::Hang(Hang::Up)) => return Err(Cut),
        Some(Act::Hang(Hang::On)) => std::future::pending().await,
        Some(Act::CutUpload(bytes)) => upload.cut = Some(*bytes),
        Some(Act::IgnoreRange) => drop(seen.headers.remove("range")),
        _ => {}
    }
    let response = super::answer(method, &seen, upload, state).await?;
    match act {
        None => Ok(response),
        Some(act) => spoil(act, response).await,
    }
}

async fn spoil(act: Act, response: Response<Body>) -> Reply {
    let (mut parts, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let mut pieces = VecDeque::new();
    let mut end = End::Clean;
    let mut pause = None;
    match act {
        Act::LoseAnswer => return Err(Cut),
        Act::Trickle(gate) => return Ok(Response::from_parts(parts, gate.body(bytes))),
        Act::Cut(at) => {
            pieces.push_back(bytes.slice(..at.min(bytes.len())));
            end = End::Cut;
        }
        Act::Stop(at) => {
            pieces.push_back(bytes.slice(..at.min(bytes.len())));
            end = End::Never;
        }
        Act::Drip => {
            pieces.extend(bytes.chunks(1).map(|byte| bytes.slice_ref(byte)));
            pause = Some(DRIP);
        }
        Act::Flip(at) => {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1;
            pieces.push_back(flipped.into());
        }
        Act::Longer(more) => {
            parts.headers.remove("content-length");
            pieces.extend([bytes, vec![0; more].into()]);
        }
        Act::Shorter(at) => {
            parts.headers.remove("content-length");
            pieces.push_back(bytes.slice(..at.min(bytes.len())));
        }
        Act::Header(name, value) => {
            parts.headers.remove(name);
            if let Some(value) = value {
                parts.headers.insert(name, value.parse().expect("a header's value"));
            }
            pieces.push_back(bytes);
        }
        _ => pieces.push_back(bytes),
    }
    pieces.retain(|piece| !piece.is_empty());
    let body = Pieces { pieces, end, pause, flushed: false, sleeping: None };
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

#[derive(Clone, Copy)]
enum End {
    Clean,
    Cut,
    Never,
}

/// A body of unknown length that ends as told.
struct Pieces {
    pieces: VecDeque<Bytes>,
    end: End,
    pause: Option<Duration>,
    flushed: bool,
    sleeping: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(sleeping) = &mut self.sleeping {
            std::task::ready!(sleeping.as_mut().poll(context));
        }
        self.sleeping = self.pause.map(|pause| Box::pin(tokio::time::sleep(pause)));
        match (self.pieces.pop_front(), self.end) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, End::Clean) => Poll::Ready(None),
            (None, End::Cut) if !self.flushed => {
                // What was written so far goes out before the end.
                self.flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            (None, End::Cut) => Poll::Ready(Some(Err(Cut))),
            // Nobody wakes this: the client gives up first.
            (None, End::Never) => Poll::Pending,
        }
    }
}
