//! Parallel: a large blob over several connections where one is slow, its parts given on in order.
//!
//! A registry often gives one connection less than the way to it could carry. `open` comes here for what is large: the first part tells
//! how fast one connection is, and whether the host sends parts at all; then the rest comes in one go, or in parts.
//!
//! # Concurrency
//! Each part is a task of its own, gone when the stream is dropped. One part is given on while the next ones come, and one
//! blob at a time is fetched so, the others in one go: what lies in memory is bounded by `PART * (CONNECTIONS + 1)`.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle};

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

/// The bytes of a large blob from `offset` on; `None`: it is not one.
pub(super) async fn open(
    repository: &Repository,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<Option<BlobStream>, Error> {
    if descriptor.size.saturating_sub(offset) < LARGE {
        return Ok(None);
    }
    let served = Served::new(repository.clone());
    let blob =
        Blob { repository: repository.clone(), descriptor: descriptor.clone(), served: served.clone() };
    let mut first = blob.part(offset, offset + PART, None);
    first.take_whole();
    first.connect().await?;
    let reading = Reading::First(Box::new(First { host: first.host(), part: first, blob }));
    let bytes = stream::try_unfold(reading, |reading| reading.next()).boxed();
    Ok(Some(BlobStream { bytes, served }))
}

struct Blob {
    repository: Repository,
    descriptor: Descriptor,
    served: Served,
}

impl Blob {
    fn part(&self, start: u64, end: u64, host: Option<String>) -> Download {
        let range = start..end.min(self.descriptor.size);
        let mut part =
            Download::new(self.repository.clone(), self.descriptor.clone(), range, self.served.clone());
        part.prefer(host);
        part
    }

    /// Everything from `start` on, in parts.
    fn parts(self, start: u64, host: Option<String>) -> BoxStream<'static, Result<Bytes, Error>> {
        let size = self.descriptor.size;
        let starts = std::iter::successors(Some(start), |start| start.checked_add(PART));
        let parts = starts
            .take_while(move |start| *start < size)
            .map(move |start| self.part(start, start.saturating_add(PART), host.clone()));
        stream::iter(parts)
            .map(|part| Running(tokio::spawn(part.into_stream().try_collect::<Vec<Bytes>>())))
            .buffered(CONNECTIONS)
            .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }
}

struct First {
    part: Download,
    host: Option<String>,
    blob: Blob,
}

enum Reading {
    First(Box<First>),
    Rest { bytes: BoxStream<'static, Result<Bytes, Error>>, turn: Option<OwnedSemaphorePermit> },
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        loop {
            match self {
                Self::First(mut first) => {
                    if let Some(bytes) = first.part.next().await? {
                        return Ok(Some((bytes, Self::First(first))));
                    }
                    self = Self::rest(*first);
                }
                Self::Rest { mut bytes, turn } => {
                    let next = bytes.try_next().await?;
                    return Ok(next.map(|next| (next, Self::Rest { bytes, turn })));
                }
            }
        }
    }

    /// What comes after the first part, by the time it took.
    fn rest(first: First) -> Self {
        let First { part, host, blob } = first;
        let (start, size) = (part.end(), blob.descriptor.size);
        if start == size {
            // The host sent everything at once.
            return Self::Rest { bytes: stream::empty().boxed(), turn: None };
        }
        let transport = &blob.repository.0.transport;
        let slow = part.waited() >= transport.timeouts.slow_part;
        let turn = slow.then(|| transport.parallel.clone().try_acquire_owned().ok()).flatten();
        let bytes = match turn {
            Some(_) => blob.parts(start, host),
            None => blob.part(start, size, host).into_stream(),
        };
        Self::Rest { bytes, turn }
    }
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
