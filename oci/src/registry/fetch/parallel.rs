//! Parallel: a large blob over several connections, its parts given on in order.
//!
//! One connection to a registry is often slower than the way to it. `open` comes here for what is large; hosts that do not send
//! parts are read in one go.
//!
//! # Concurrency
//! Each part is a task of its own, gone when the stream is dropped. At most one part is given on while the next ones come,
//! and one blob at a time is fetched so, the others in one go: what lies in memory is bounded by `PART * (CONNECTIONS + 1)`.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinHandle;

use super::{BlobStream, Served, download::Download};
use crate::{
    descriptor::Descriptor,
    registry::{Repository, error::Error},
};

/// What is worth it: below this, one connection is done before others are up to speed.
const LARGE: u64 = 32 << 20;
/// One part: large enough for the time that a request takes to matter little.
const PART: u64 = 8 << 20;
/// Parts on their way at once.
const CONNECTIONS: usize = 3;

/// The bytes of a blob from `offset` on; `None`: it is to be read in one go.
pub(super) async fn open(
    repository: &Repository,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<Option<BlobStream>, Error> {
    let size = descriptor.size;
    if size.saturating_sub(offset) < LARGE {
        return Ok(None);
    }
    let Ok(turn) = repository.0.transport.parallel.clone().try_acquire_owned() else { return Ok(None) };
    let (repository, descriptor, served_by) =
        (repository.clone(), descriptor.clone(), Served::new(repository.clone()));
    let served = served_by.clone();
    let part = move |start: u64| {
        let range = start..size.min(start.saturating_add(PART));
        Download::new(repository.clone(), descriptor.clone(), range, served.clone())
    };
    let mut first = part(offset);
    first.take_whole();
    first.connect().await?;
    if first.covers(size) {
        return Ok(Some(BlobStream { bytes: first.into_stream(), served: served_by, turn: None }));
    }
    let host = first.host();
    let starts = std::iter::successors(Some(offset + PART), move |start| start.checked_add(PART));
    let rest = starts.take_while(move |start| *start < size).map(move |start| {
        let mut part = part(start);
        part.prefer(host.clone());
        part
    });
    let parts = stream::iter(std::iter::once(first).chain(rest))
        .map(|part| Running(tokio::spawn(part.into_stream().try_collect::<Vec<Bytes>>())))
        .buffered(CONNECTIONS)
        .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok)))
        .try_flatten();
    Ok(Some(BlobStream { bytes: parts.boxed(), served: served_by, turn: Some(turn) }))
}

/// A part on its way; nobody wants it any more once this is dropped.
struct Running(JoinHandle<Result<Vec<Bytes>, Error>>);

impl Future for Running {
    type Output = Result<Vec<Bytes>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::task::ready!(Pin::new(&mut self.0).poll(context)) {
            Ok(outcome) => Poll::Ready(outcome),
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down: nobody awaits this any more.
                Err(_) => Poll::Pending,
            },
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
