//! Walk: visits the vertices that a result needs, each once, inputs first.
//!
//! What one vertex needs to know of another (whether it is forced, its key, its result) is a `Call`: the asking future waits for the answer,
//! and the walk runs the answering one beside it. So no future is inside another, and the stack is as deep for a chain of
//! 100,000 vertices as for one. The memo tables see to it that a call is made once in a job, so a walk costs as much as the
//! graph has edges, not as it has paths.
//!
//! # Concurrency
//! A walk runs its futures itself: dropping it drops them all. Two walks of one job share the memo tables; the one that comes second to a
//! cell waits for the first, and takes over if that is dropped.
//!
//! # Errors
//! The first error of any call is the walk's: an answer is always a success.

use std::{
    future::{Future, pending, poll_fn},
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use buildd_oci::digest::Digest;
use futures::{
    future::{BoxFuture, FutureExt},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::sync::oneshot;

use super::{
    Job, SolveError,
    memo::{Exec, Pinned},
};
use crate::graph::Edge;

/// Something that a vertex asks of another, and where the answer goes.
pub(super) enum Call {
    /// Whether results of before may not serve for a vertex.
    Forced(Digest, oneshot::Sender<bool>),
    /// `exec(v)` from what is known.
    Estimate(Digest, oneshot::Sender<Exec>),
    /// The result of an output, from the cache or made now.
    Obtain(Edge, oneshot::Sender<Pinned>),
}

/// One visit to a graph.
pub(super) struct Walk<'a> {
    pub(super) job: &'a Job,
    /// Calls that are not begun: each has a cell of a memo table to fill, so they are at most three for a vertex and output.
    calls: Mutex<Vec<Call>>,
    /// Whether since the last look a call was made or answered, which lets another future go on.
    moved: AtomicBool,
}

impl Job {
    /// The result of an output; the job keeps it.
    pub(super) async fn walk(&self, target: Edge) -> Result<Pinned, SolveError> {
        let walk = Walk { job: self, calls: Mutex::default(), moved: AtomicBool::default() };
        let mut answers = FuturesUnordered::new();
        let mut result = std::pin::pin!(walk.materialise(target));
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(pinned) = result.as_mut().poll(cx) {
                    return Poll::Ready(Ok(pinned));
                }
                let calls = mem::take(&mut *walk.calls());
                answers.extend(calls.into_iter().map(|call| walk.answer(call)));
                match answers.poll_next_unpin(cx) {
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(Some(Ok(()))) => {}
                    Poll::Ready(None) | Poll::Pending if walk.moved.swap(false, Ordering::Relaxed) => {}
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}

impl Walk<'_> {
    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> T {
        let (answer, answered) = oneshot::channel();
        self.calls().push(call(answer));
        self.moved.store(true, Ordering::Relaxed);
        match answered.await {
            Ok(answer) => answer,
            // The walk has failed and drops this future next.
            Err(_) => pending().await,
        }
    }

    /// A box for each kind: a call that only waits for others is not as large as one that runs a step.
    fn answer(&self, call: Call) -> BoxFuture<'_, Result<(), SolveError>> {
        match call {
            Call::Forced(vertex, to) => self.tell(to, async move { self.is_forced(&vertex).await }).boxed(),
            Call::Estimate(vertex, to) => {
                let vertex = self.job.vertex(&vertex);
                self.tell(to, async move { self.exec(&vertex).await }).boxed()
            }
            Call::Obtain(edge, to) => self.tell(to, self.obtain(edge)).boxed(),
        }
    }

    async fn tell<T>(
        &self,
        to: oneshot::Sender<T>,
        answer: impl Future<Output = Result<T, SolveError>>,
    ) -> Result<(), SolveError> {
        // Who asked is gone only if the walk is.
        let _ = to.send(answer.await?);
        self.moved.store(true, Ordering::Relaxed);
        Ok(())
    }
}
