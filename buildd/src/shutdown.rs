//! Shutdown: when the daemon leaves, and what it waits for.
//!
//! SIGTERM and SIGINT stop taking calls and cancel the builds; tasks stay with their shims. A daemon that buildctl started leaves when idle.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buildd_runtime::task::Tasks;
use futures::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, codegen::http};
use tower::{Layer, Service};

/// Health checks do not keep a daemon alive.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// How often idleness is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Cancels the token at the first signal to leave.
pub(crate) fn on_signal(leave: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("leaving");
        leave.cancel();
    });
    Ok(())
}

/// Counts calls, to know when there are none.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    began: Instant,
    calls: AtomicUsize,
    last_millis: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        let counts =
            Counts { began: Instant::now(), calls: AtomicUsize::new(0), last_millis: AtomicU64::new(0) };
        Self(Arc::new(counts))
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

    /// Cancels the token after this long without a call and without a task.
    pub(crate) fn leave_when_idle(self, after: Duration, leave: CancellationToken, tasks: Arc<Tasks>) {
        tokio::spawn(async move {
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
        });
    }
}

struct Call(Activity);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.0.calls.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
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
    S: Service<http::Request<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let counts = !request.uri().path().starts_with(HEALTH);
        let call = counts.then(|| {
            self.activity.0.calls.fetch_add(1, Ordering::Relaxed);
            Call(self.activity.clone())
        });
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(call);
            answer
        })
    }
}
