//! Terminal: our own in raw mode while a container has one, and its size kept in step.

use std::io::IsTerminal as _;

use buildd_api::containerd::containerd::services::tasks::v1::ResizePtyRequest;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Client;

/// Restores the terminal when dropped.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Puts our terminal into raw mode if our input is one and goes to the container.
pub(super) fn raw(input: bool) -> Option<Raw> {
    if !input || !std::io::stdin().is_terminal() {
        return None;
    }
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
    Some(Raw { before })
}

/// Tells the container our terminal's size, now and whenever it changes.
pub(super) async fn follow_size(client: Client, id: String) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Ok(size) = tcgetwinsize(std::io::stdout()) {
            let request = ResizePtyRequest {
                container_id: id.clone(),
                exec_id: String::new(),
                width: size.ws_col.into(),
                height: size.ws_row.into(),
            };
            if let Err(e) = client.tasks().resize_pty(request).await {
                tracing::debug!(error = %e, "resize the terminal");
            }
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}
