//! Blocking: short work that blocks, called from async code.
//!
//! Files, hashing, mounts and the database run on tokio's blocking threads, with the caller's span. A future that is
//! dropped does not stop the work: what must stop early takes a flag of its own.
//!
//! Everybody shares these threads, so nothing on them may wait for somebody outside (a client, a registry): that is `pipeline`'s.

/// Runs `work` where it may block; a panic in it goes on in the caller.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down: nobody awaits this any more.
            Err(_) => std::future::pending().await,
        },
    }
}
