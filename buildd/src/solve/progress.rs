//! Progress: what a build has told so far, for any number of `Status` calls, early or late.
//!
//! # Invariants
//! A reader sees every message from the first on, in order, and the end after the last. What is kept is bounded: beyond
//! [`MAX_KEPT`] bytes of logs a build's further output is shown to nobody, and a line where it stops says so.

use std::sync::{Arc, Mutex, PoisonError};

use buildd_api::buildkit::moby::buildkit::v1::{StatusResponse, VertexLog};
use futures::{Stream, stream};
use tokio::sync::watch;

/// Bytes of logs of one build that are kept: stops `RUN yes` from filling memory.
const MAX_KEPT: usize = 64 << 20;

/// Where a build tells what happens.
#[derive(Debug)]
pub(crate) struct Progress {
    told: Mutex<Told>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Told {
    messages: Vec<Arc<StatusResponse>>,
    log_bytes: usize,
    /// Output is left out from here on.
    clipped: bool,
    ended: bool,
}

/// Puts the word that there is more in the place of output.
fn clip(log: &mut VertexLog) {
    let mebibytes = MAX_KEPT >> 20;
    log.msg = format!("\n[the output of this build is longer than {mebibytes} MiB: the rest is not shown]\n")
        .into();
}

impl Default for Progress {
    fn default() -> Self {
        Self { told: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Progress {
    /// Tells something.
    pub(crate) fn tell(&self, mut message: StatusResponse) {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes: usize = message.logs.iter().map(|log| log.msg.len()).sum();
            if told.clipped {
                message.logs.clear();
            } else if told.log_bytes + bytes > MAX_KEPT {
                told.clipped = true;
                message.logs.truncate(1);
                message.logs.iter_mut().for_each(clip);
            } else {
                told.log_bytes += bytes;
            }
            told.messages.push(Arc::new(message));
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.changes.send_modify(|count| *count += 1);
    }

    fn get(&self, index: usize) -> (Option<Arc<StatusResponse>>, bool) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        (told.messages.get(index).cloned(), told.ended)
    }

    /// Everything from the first message to the end.
    pub(crate) fn messages(self: Arc<Self>) -> impl Stream<Item = Arc<StatusResponse>> + Send + 'static {
        let changes = self.changes.subscribe();
        stream::unfold((self, changes, 0), |(progress, mut changes, index)| async move {
            loop {
                changes.mark_unchanged();
                match progress.get(index) {
                    (Some(message), _) => return Some((message, (progress, changes, index + 1))),
                    (None, true) => return None,
                    (None, false) => changes.changed().await.ok()?,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
