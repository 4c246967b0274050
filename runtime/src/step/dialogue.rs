//! Dialogue: what the owner of a running step still has to say: input, signals, the size of its terminal.

use std::{convert::Infallible, path::Path};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::unix::pipe::{OpenOptions, Receiver, Sender},
    sync::mpsc,
};

use crate::error::{Error, Result};

/// The named pipe of a step's standard input, in its folder.
pub(super) const INPUT: &str = "stdin";
/// Pieces and orders that wait to be taken.
const QUEUE: usize = 16;

/// A word to a step's helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// A signal for the container's first process.
    Signal(i32),
    /// The terminal's size.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
}

impl Order {
    /// A signal by its name, with or without `SIG`.
    pub fn signal(name: &str) -> Option<Self> {
        let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
        full.parse().ok().map(|signal: nix::sys::signal::Signal| Self::Signal(signal as i32))
    }
}

/// The step's side of a conversation.
#[derive(Debug)]
pub struct Dialogue {
    /// Its standard input, which ends with the channel.
    input: mpsc::Receiver<Vec<u8>>,
    orders: mpsc::Receiver<Order>,
}

impl Dialogue {
    /// Both sides: the owner's senders, for input and for orders.
    pub fn new() -> (mpsc::Sender<Vec<u8>>, mpsc::Sender<Order>, Self) {
        let ((give, input), (order, orders)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        (give, order, Self { input, orders })
    }

    /// An owner who says nothing.
    pub(super) fn none() -> Self {
        Self::new().2
    }

    /// Passes on what the owner says, as long as the step runs.
    pub(super) async fn hold(
        self,
        stdin: Option<Sender>,
        helper: &mut (impl AsyncWrite + Unpin),
    ) -> Infallible {
        let Self { mut input, mut orders } = self;
        let feed = async move {
            // The step has read all that it wants once its end is closed: what comes then goes nowhere.
            if let Some(mut stdin) = stdin {
                while let Some(piece) = input.recv().await {
                    if stdin.write_all(&piece).await.is_err() {
                        break;
                    }
                }
            }
        };
        let tell = async {
            while let Some(order) = orders.recv().await {
                let mut line = serde_json::to_vec(&order).expect("numbers have a JSON form");
                line.push(b'\n');
                if helper.write_all(&line).await.is_err() {
                    break;
                }
            }
        };
        tokio::join!(feed, tell);
        std::future::pending().await
    }
}

/// Makes the pipe; its writing end, and a reading end to be held while the step runs: what is written before the helper has
/// opened the pipe would be lost without it.
pub(super) fn pipe(path: &Path) -> Result<(Sender, Receiver)> {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .map_err(|error| Error::file("create", path)(error.into()))?;
    let reader = OpenOptions::new().open_receiver(path).map_err(Error::file("open", path))?;
    let writer = OpenOptions::new().open_sender(path).map_err(Error::file("open", path))?;
    Ok((writer, reader))
}
