//! Activity: whether anybody calls, and what happens when nobody does.
//!
//! A daemon that buildctl started leaves, and every daemon gives back memory that it no longer uses.
//!
//! # Invariants
//! A call lasts until its answer is there and the bodies of both directions are over: a daemon that streams is not idle.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buildd_fs::memory;
use buildd_runtime::task::Tasks;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, codegen::http};
use tower::{Layer, Service};

/// Health checks do not keep a daemon alive.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// How often idleness is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long after a call memory goes back: threads that a crowd needed have ended by then, with what they kept of it.
const SETTLED: Duration = Duration::from_secs(5);

/// Counts calls, to know when there are none.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    began: Instant,
    calls: AtomicUsize,
    last_millis: AtomicU64,
    /// Told when a call ends.
    ended: Notify,
}

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(Counts {
            began: Instant::now(),
            calls: AtomicUsize::new(0),
            last_millis: AtomicU64::new(0),
            ended: Notify::new(),
        }))
    }
}

impl Activity {
    fn touch(&self) {
        let millis = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_millis.store(millis, Ordering::Relaxed);
    }

    fn idle(&self) -> Option<Duration> {
        if self.0.calls.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let last = Duration::from_millis(self.0.last_millis.load(Ordering::Relaxed));
        Some(self.0.began.elapsed().saturating_sub(last))
    }

    /// Acts on idleness from now on; with `leave_after`, cancels the token once there was neither a call nor a task for so long.
    pub(crate) fn watch(self, leave_after: Option<Duration>, leave: CancellationToken, tasks: Arc<Tasks>) {
        if let Some(after) = leave_after {
            tokio::spawn(self.clone().leave_when_idle(after, leave, tasks));
        }
        tokio::spawn(self.give_memory_back());
    }

    async fn leave_when_idle(self, after: Duration, leave: CancellationToken, tasks: Arc<Tasks>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if !tasks.all().is_ok_and(|all| all.is_empty()) {
                self.touch();
            }
            if self.idle().is_some_and(|idle| idle >= after) {
                tracing::info!("idle for {} seconds: leaving", after.as_secs());
                return leave.cancel();
            }
        }
    }

    /// Gives memory back some time after a call, or after many. Others may be in flight: one that waits for a container lasts as long as that.
    async fn give_memory_back(self) {
        loop {
            self.0.ended.notified().await;
            tokio::time::sleep(SETTLED).await;
            buildd_fs::blocking::run(memory::give_back).await;
        }
    }
}

/// A call that is not over: neither its answer nor the bodies of both directions.
struct Call(Activity);

impl Call {
    fn begin(activity: Activity) -> Self {
        activity.0.calls.fetch_add(1, Ordering::Relaxed);
        Self(activity)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.0.calls.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
        self.0.0.ended.notify_one();
    }
}

impl<S> Layer<S> for Activity {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, activity: self.clone() }
    }
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    activity: Activity,
}

impl<S> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path().starts_with(HEALTH) {
            return Box::pin(self.inner.call(request));
        }
        let call = Arc::new(Call::begin(self.activity.clone()));
        let answer = self.inner.call(request.map(|body| CountedBody::of(body, &call)));
        Box::pin(async move { Ok(answer.await?.map(|body| CountedBody::of(body, &call))) })
    }
}

/// A body that belongs to a call: as long as somebody streams in either direction, the call lasts.
struct CountedBody {
    body: Body,
    _call: Arc<Call>,
}

impl CountedBody {
    fn of(body: Body, call: &Arc<Call>) -> Body {
        Body::new(Self { body, _call: Arc::clone(call) })
    }
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
