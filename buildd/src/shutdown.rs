//! Shutdown: what makes the daemon leave.
//!
//! SIGTERM and SIGINT stop taking calls and cancel the builds; tasks stay with their shims. `Activity` makes one leave that is idle.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

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
