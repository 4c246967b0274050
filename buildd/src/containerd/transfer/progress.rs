//! Progress: what a transfer reports to its client, which never waits for the client to read it.
//!
//! A transfer reports events, and the state of each of its parts. A task sends them as fast as the client reads; of a part, only its latest
//! state waits to be sent. So a client that reads slowly, or is suspended, skips states and holds nobody up.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buildd_api::containerd::containerd::types::{Descriptor, transfer::Progress};
use buildd_store::{
    Error,
    transfer::progress::{Part, Phase, Watch},
};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::super::streaming::Stream;

/// Between two looks at how far the parts are; Compat: containerd's figure.
const LOOK: Duration = Duration::from_millis(100);
/// Events that wait for a client; older ones are dropped: stops a suspended client from filling memory.
const MAX_EVENTS: usize = 16 << 10;
/// How long the last messages wait for a client that does not read, once the transfer has ended.
const LAST_MESSAGES: Duration = Duration::from_secs(2);

/// Where progress goes, if anybody wants it.
#[derive(Debug)]
pub(super) struct Report(Option<Sending>);

/// The task that sends, and what it is to send. Dropping this ends the task when it has sent the rest.
#[derive(Debug)]
struct Sending {
    board: Arc<Board>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.board.ended.cancel();
    }
}

/// What has not been sent yet.
#[derive(Debug, Default)]
struct Board {
    unsent: Mutex<Unsent>,
    changed: Notify,
    /// Nothing more is reported.
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Unsent {
    queue: VecDeque<Message>,
    /// The latest state of each part that is in the queue.
    parts: HashMap<String, Progress>,
    events: usize,
}

#[derive(Debug)]
enum Message {
    Event(Progress),
    /// A part, by its name.
    Part(String),
}

impl Report {
    /// Reports to nobody.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Reports on a stream.
    pub(super) fn to(stream: Stream) -> Self {
        Self::within(stream, LAST_MESSAGES)
    }

    fn within(stream: Stream, last_messages: Duration) -> Self {
        let board = Arc::new(Board::default());
        let task = tokio::spawn(Arc::clone(&board).send_all(stream, last_messages));
        Self(Some(Sending { board, task: Some(task) }))
    }

    /// Reports something that happened.
    pub(super) fn event(&self, event: &str, name: &str) {
        if let Some(Sending { board, .. }) = &self.0 {
            board.event(Progress { event: event.to_owned(), name: name.to_owned(), ..Progress::default() });
        }
    }

    /// Reports how far the parts of `work` are while it lasts, below a line of their own.
    pub(super) async fn follow<T>(
        &self,
        watch: &Watch,
        above: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let Some(Sending { board, .. }) = &self.0 else { return work.await };
        let mut reported = HashMap::new();
        let mut look = tokio::time::interval(LOOK);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    board.parts(watch, above, &mut reported);
                    return done;
                }
                _ = look.tick() => board.parts(watch, above, &mut reported),
            }
        }
    }

    /// Waits until the client has been sent everything, but not long for one that does not read.
    pub(super) async fn finish(mut self) {
        let Some(sending) = &mut self.0 else { return };
        sending.board.ended.cancel();
        if let Some(task) = sending.task.take() {
            // A task that panicked has sent what it could.
            let _ = task.await;
        }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, event: Progress) {
        let mut unsent = self.lock();
        if unsent.events == MAX_EVENTS {
            let oldest = unsent.queue.iter().position(|message| matches!(message, Message::Event(_)));
            oldest.and_then(|at| unsent.queue.remove(at));
            unsent.events -= 1;
        }
        unsent.events += 1;
        unsent.queue.push_back(Message::Event(event));
        drop(unsent);
        self.changed.notify_one();
    }

    fn part(&self, part: Progress) {
        let mut unsent = self.lock();
        let name = part.name.clone();
        if unsent.parts.insert(name.clone(), part).is_none() {
            unsent.queue.push_back(Message::Part(name));
        }
        drop(unsent);
        self.changed.notify_one();
    }

    /// Reports the parts that changed since the last time.
    fn parts(&self, watch: &Watch, above: &str, reported: &mut HashMap<String, (Phase, u64)>) {
        for part in watch.parts() {
            let now = (part.phase(), part.done());
            if reported.insert(part.name.clone(), now) != Some(now) {
                self.part(progress(&part, above, now));
            }
        }
    }

    fn take(&self) -> Option<Progress> {
        let mut unsent = self.lock();
        match unsent.queue.pop_front()? {
            Message::Event(event) => {
                unsent.events -= 1;
                Some(event)
            }
            Message::Part(name) => unsent.parts.remove(&name),
        }
    }

    /// What is to be sent next, as soon as there is something; None at the end.
    async fn next(&self) -> Option<Progress> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = self.ended.cancelled() => return self.take(),
            }
        }
    }

    async fn send_all(self: Arc<Self>, stream: Stream, last_messages: Duration) {
        let send = async {
            while let Some(message) = self.next().await {
                stream.send(&message).await;
            }
            stream.settle().await;
        };
        let given_up = async {
            self.ended.cancelled().await;
            tokio::time::sleep(last_messages).await;
        };
        tokio::select! {
            () = send => {}
            () = given_up => {}
            () = stream.closed() => {}
        }
    }
}

fn progress(part: &Part, above: &str, (phase, done): (Phase, u64)) -> Progress {
    let parent = if part.parent.is_empty() { above } else { &part.parent };
    let descriptor = &part.descriptor;
    Progress {
        event: phase.word().to_owned(),
        name: part.name.clone(),
        parents: vec![parent.to_owned()],
        progress: i64::try_from(done).unwrap_or(i64::MAX),
        total: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        desc: Some(Descriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.to_string(),
            size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
            annotations: descriptor.annotations.clone().into_iter().collect(),
        }),
    }
}

#[cfg(test)]
mod tests;
