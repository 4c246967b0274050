//! Terminal: our own in raw mode while a container has one, and its size kept in step.

use std::io::IsTerminal as _;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// Restores the terminal when dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Puts our terminal into raw mode if our input is one and goes to the container.
pub(crate) fn raw(input: bool) -> Option<Raw> {
    if !input || !std::io::stdin().is_terminal() {
        return None;
    }
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
    Some(Raw { before })
}

/// Our terminal's size, now and whenever it changes: columns and rows.
pub(crate) fn sizes() -> mpsc::Receiver<(u16, u16)> {
    let (tell, sizes) = mpsc::channel(1);
    tokio::spawn(async move {
        let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
        loop {
            if let Ok(size) = tcgetwinsize(std::io::stdout())
                && tell.send((size.ws_col, size.ws_row)).await.is_err()
            {
                return;
            }
            tokio::select! {
                change = changes.recv() => if change.is_none() { return },
                () = tell.closed() => return,
            }
        }
    });
    sizes
}
