//! Pipeline: blocking work that may wait for somebody outside, on threads of its own.
//!
//! A layer that comes from a registry, an archive that goes to a client, an import that a client sends: each blocks for as long as the other
//! end wants. On the shared threads of `blocking` a few such would keep everybody waiting. So each kind of them has a [`Limit`]: a pipeline
//! enters it, asynchronously, before the first of its threads starts, and then starts as many as it has stages.
//!
//! # Invariants
//! No stage waits for a thread that another stage of its pipeline holds: a pipeline has its place before it has threads, and a thread is never
//! taken from a pool. No kind waits for another: each has a limit of its own.
//!
//! # Concurrency
//! A place is given back when the pipeline is dropped and its last stage has ended. A future that is dropped does not stop a stage: its
//! channels do, which end with whoever held their other ends.

use std::{any::Any, panic, sync::Arc, thread};

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

/// How many pipelines of one kind may be at work; the others wait, without a thread.
#[derive(Debug)]
pub struct Limit {
    /// The name of the kind's threads: at most 15 bytes, which is what the kernel keeps.
    name: &'static str,
    places: Semaphore,
}

impl Limit {
    /// Allows `pipelines` at a time.
    pub const fn new(name: &'static str, pipelines: usize) -> Self {
        Self { name, places: Semaphore::const_new(pipelines) }
    }

    /// Waits for a place.
    pub async fn enter(&'static self) -> Pipeline {
        let place = self.places.acquire().await.expect("nobody closes the semaphore");
        Pipeline { name: self.name, place: Arc::new(place) }
    }

    /// Runs a pipeline of one stage.
    pub async fn run<T: Send + 'static>(&'static self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.enter().await.start(work).ended().await
    }
}

/// A place among the pipelines of a kind.
#[derive(Clone, Debug)]
pub struct Pipeline {
    name: &'static str,
    /// Each stage has a share, so that the place is free when all of them have ended.
    place: Arc<SemaphorePermit<'static>>,
}

impl Pipeline {
    /// Starts a stage at once, on a thread of its own, with the caller's span.
    ///
    /// # Panics
    /// If the kernel has no thread left for it, as `std::thread::spawn`.
    pub fn start<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Stage<T> {
        let (ended, result) = oneshot::channel();
        let (place, span) = (Arc::clone(&self.place), tracing::Span::current());
        let stage = move || {
            let done = panic::catch_unwind(panic::AssertUnwindSafe(|| span.in_scope(work)));
            // Whoever learns that the last stage has ended finds its place free.
            drop(place);
            // A panic that nobody awaits any more was printed by the panic hook.
            let _ = ended.send(done);
        };
        let thread = thread::Builder::new().name(self.name.to_owned()).spawn(stage);
        thread.unwrap_or_else(|error| panic!("start a {} thread: {error}", self.name));
        Stage(result)
    }
}

/// What a stage ends with, or the panic that ended it.
type Ended<T> = Result<T, Box<dyn Any + Send>>;

/// A stage at work; dropping this leaves it to itself.
#[derive(Debug)]
pub struct Stage<T>(oneshot::Receiver<Ended<T>>);

impl<T> Stage<T> {
    /// Waits for its end; a panic in it goes on in the caller.
    pub async fn ended(self) -> T {
        match self.0.await.expect("a stage sends how it ended") {
            Ok(value) => value,
            Err(panic) => panic::resume_unwind(panic),
        }
    }
}

#[cfg(test)]
mod tests;
