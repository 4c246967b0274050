//! Flight: one execution that any number of jobs wait for.
//!
//! Equal work (same `exec`, same freshness) is joined while it is active; an unforced request may join a forced flight,
//! never the reverse. Each waiter holds the flight; when the last lets go, the execution is dropped, which cancels it.
//! Results are saved before anyone is answered, so that whoever comes later finds them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use buildd_oci::{ErrorKind, digest::Digest};
use futures::future::{AbortHandle, BoxFuture, FutureExt, Shared, abortable};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::Solver;
use crate::{
    cache::NewResult,
    cache_key,
    explain::Record,
    op::{Freshness, Op, OpContext, OpError, SessionGroup},
    progress::{Event, VertexProgress},
    result::{OpResult, ResultId},
};

/// What a flight gives.
pub(super) type Made = Arc<Vec<(ResultId, OpResult)>>;

/// Work to be done.
pub(super) struct Order {
    pub(super) op: Arc<dyn Op>,
    pub(super) cx: OpContext,
    pub(super) inputs: Vec<OpResult>,
    pub(super) exec: Digest,
    pub(super) record: Record,
    /// The job's own share of the places.
    pub(super) share: Arc<Semaphore>,
}

/// Entries of flights that are gone are looked for when there are twice as many as were left the last time, and at least so many: each time
/// anything starts would be too often where very many wait for a place.
const SWEEP_FROM: usize = 64;

/// The flights of a solver.
#[derive(Debug, Default)]
pub(super) struct Flights {
    active: Mutex<Active>,
}

/// An entry whose flight is gone means nothing.
#[derive(Debug, Default)]
struct Active {
    flights: HashMap<(Digest, Freshness), Weak<Flight>>,
    sweep_at: usize,
}

impl Active {
    fn sweep(&mut self) {
        if self.flights.len() >= self.sweep_at {
            self.flights.retain(|_, flight| flight.strong_count() > 0);
            self.sweep_at = SWEEP_FROM.max(self.flights.len() * 2);
        }
    }
}

#[derive(Debug)]
struct Flight {
    outcome: Shared<BoxFuture<'static, Result<Made, OpError>>>,
    abort: AbortHandle,
    sessions: Arc<SessionGroup>,
    progress: VertexProgress,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the step was cancelled")]
struct Cancelled;

impl Solver {
    /// Joins an equal flight, or starts one.
    pub(super) async fn fly(
        self: &Arc<Self>,
        order: Order,
        job: &mpsc::Sender<Event>,
    ) -> Result<Made, OpError> {
        let flight = self.board(order, job);
        flight.outcome.clone().await
    }

    fn board(self: &Arc<Self>, order: Order, job: &mpsc::Sender<Event>) -> Arc<Flight> {
        let mut active = self.flights.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.sweep();
        let joinable: &[Freshness] = match order.cx.freshness {
            Freshness::Any => &[Freshness::Forced, Freshness::Any],
            Freshness::Forced => &[Freshness::Forced],
        };
        for freshness in joinable {
            if let Some(flight) = active.flights.get(&(order.exec, *freshness)).and_then(Weak::upgrade)
                && flight.outcome.peek().is_none()
            {
                for id in order.cx.sessions.ids() {
                    flight.sessions.join(&id);
                }
                flight.progress.join(job.clone());
                return flight;
            }
        }
        let key = (order.exec, order.cx.freshness);
        let flight = Arc::new(self.start(order));
        active.flights.insert(key, Arc::downgrade(&flight));
        flight
    }

    fn start(self: &Arc<Self>, mut order: Order) -> Flight {
        // The flight's own group: the first client's exit must not end it for those who joined.
        let sessions = Arc::new(SessionGroup::default());
        for id in order.cx.sessions.ids() {
            sessions.join(&id);
        }
        order.cx.sessions = sessions.clone();
        let progress = order.cx.progress.clone();
        let (work, abort) = abortable(execute(self.clone(), order));
        let task = tokio::spawn(work);
        let outcome = async move {
            match task.await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_aborted)) => Err(OpError::new(ErrorKind::Canceled, Cancelled)),
                Err(error) => Err(OpError::new(ErrorKind::Internal, error)),
            }
        };
        Flight { outcome: outcome.boxed().shared(), abort, sessions, progress }
    }
}

async fn execute(solver: Arc<Solver>, order: Order) -> Result<Made, OpError> {
    let _places = match order.op.is_heavy() {
        true => Some(places(&solver, &order.share).await),
        false => None,
    };
    let results = order.op.exec(&order.cx, &order.inputs).await?;
    let new = (0..).zip(&results).map(|(output, result)| NewResult {
        key: cache_key::output(&order.exec, output),
        exec: order.exec,
        record: order.record.clone(),
        result: result.clone(),
    });
    let ids = solver.store.save(new.collect()).await?;
    Ok(Arc::new(ids.into_iter().zip(results).collect()))
}

/// Waits for a place. No job stands in the line of all with more of its steps than there are places: who comes with few is not behind
/// thousands of another.
async fn places<'a>(solver: &'a Solver, share: &'a Semaphore) -> [SemaphorePermit<'a>; 2] {
    let own = share.acquire().await.expect("the semaphore is never closed");
    [own, solver.places.acquire().await.expect("the semaphore is never closed")]
}
