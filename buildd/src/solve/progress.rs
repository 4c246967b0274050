//! Progress: what a build has told so far, for any number of `Status` calls, early or late.
//!
//! # Invariants
//! A reader sees every message from the first on, in order, and the end after the last. What is kept is bounded: beyond
//! [`MAX_KEPT`] bytes of logs a build's further output is shown to nobody, and a line where it stops says so. What an ended build told
//! is one piece of memory: many small ones of many builds would keep the heap as large as it ever was.

use std::sync::{Arc, Mutex, PoisonError};

use buildd_api::buildkit::moby::buildkit::v1::{StatusResponse, VertexLog};
use futures::{Stream, stream};
use prost::Message as _;
use tokio::sync::watch;

/// Bytes of logs of one build that are kept: stops `RUN yes` from filling memory.
const MAX_KEPT: usize = 64 << 20;

/// Output of an ended build that is copied to save memory: what has more is in large pieces anyway.
const MAX_PACKED: usize = 1 << 20;

/// Where a build tells what happens.
#[derive(Debug)]
pub(crate) struct Progress {
    told: Mutex<StatusLog>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct StatusLog {
    messages: Vec<Arc<StatusResponse>>,
    /// The same of an ended build, encoded, unless it has much output; and where each of them ends there.
    packed: (Vec<u8>, Vec<usize>),
    log_bytes: usize,
    /// Output is left out from here on.
    clipped: bool,
    ended: bool,
}

impl StatusLog {
    fn pack(&mut self) {
        let messages = std::mem::take(&mut self.messages);
        let mut bytes = Vec::with_capacity(messages.iter().map(|message| message.encoded_len()).sum());
        let encode = |message: Arc<StatusResponse>| {
            message.encode(&mut bytes).expect("memory has room");
            bytes.len()
        };
        let ends = messages.into_iter().map(encode).collect();
        self.packed = (bytes, ends);
    }

    fn get(&self, index: usize) -> Option<Arc<StatusResponse>> {
        if let Some(message) = self.messages.get(index) {
            return Some(Arc::clone(message));
        }
        let (bytes, ends) = &self.packed;
        let end = *ends.get(index)?;
        let begin = index.checked_sub(1).map_or(0, |before| ends[before]);
        let bytes = &bytes[begin..end];
        Some(Arc::new(StatusResponse::decode(bytes).expect("it was encoded here")))
    }
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
    /// Tells something, unless it is after the end.
    pub(crate) fn tell(&self, mut message: StatusResponse) {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.ended {
                return;
            }
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
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if !told.ended && told.log_bytes <= MAX_PACKED {
                told.pack();
            }
            told.ended = true;
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// Bytes of logs that are kept.
    pub(crate) fn log_bytes(&self) -> usize {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).log_bytes
    }

    fn get(&self, index: usize) -> (Option<Arc<StatusResponse>>, bool) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        (told.get(index), told.ended)
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
