//! Progress: what a build tells its clients while it runs.
//!
//! Events go through a bounded channel to whoever owns the job; the owner must drain it, then a full channel only slows a
//! step's output down and never loses a line. Counters are dropped when the channel is full: the next one says more.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use buildd_oci::digest::Digest;
use tokio::sync::mpsc;

/// Events that may wait for the job's owner.
pub(crate) const QUEUE: usize = 1024;

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A vertex began or ended.
    Vertex(VertexEvent),
    /// A counter within a vertex moved.
    Status(StatusEvent),
    /// A vertex printed.
    Log(LogEvent),
    /// A vertex warned.
    Warning(WarningEvent),
}

/// A vertex began or ended.
#[derive(Clone, Debug, Default)]
pub struct VertexEvent {
    /// Which.
    pub digest: Option<Digest>,
    /// What it reads.
    pub inputs: Vec<Digest>,
    /// Its name for people.
    pub name: String,
    /// Whether a result of before served.
    pub cached: bool,
    /// When it began.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub completed: Option<SystemTime>,
    /// Why it failed.
    pub error: String,
}

/// A counter.
#[derive(Clone, Debug)]
pub struct StatusEvent {
    /// Of which vertex.
    pub vertex: Digest,
    /// Its name, unique within the vertex.
    pub id: String,
    /// How far it is.
    pub current: i64,
    /// How far it goes; 0 if unknown.
    pub total: i64,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub completed: Option<SystemTime>,
}

/// Output.
#[derive(Clone, Debug)]
pub struct LogEvent {
    /// Of which vertex.
    pub vertex: Digest,
    /// 1 or 2, as a process numbers them.
    pub stream: u32,
    /// The bytes.
    pub data: Vec<u8>,
    /// When.
    pub time: SystemTime,
}

/// A warning.
#[derive(Clone, Debug)]
pub struct WarningEvent {
    /// Of which vertex.
    pub vertex: Digest,
    /// One line.
    pub short: String,
    /// More lines.
    pub detail: Vec<String>,
    /// Where it is explained.
    pub url: String,
}

/// Where one vertex's events go: to every job that waits for it.
#[derive(Clone, Debug)]
pub struct VertexProgress {
    vertex: Digest,
    jobs: Arc<Mutex<Vec<mpsc::Sender<Event>>>>,
}

impl VertexProgress {
    pub(crate) fn new(vertex: Digest, job: mpsc::Sender<Event>) -> Self {
        Self { vertex, jobs: Arc::new(Mutex::new(vec![job])) }
    }

    /// Sends the events to one more job.
    pub(crate) fn join(&self, job: mpsc::Sender<Event>) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push(job);
    }

    fn jobs(&self) -> Vec<mpsc::Sender<Event>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Passes output on; waits while a job's queue is full.
    pub async fn log(&self, stream: u32, data: &[u8]) {
        let event = LogEvent { vertex: self.vertex, stream, data: data.to_vec(), time: SystemTime::now() };
        for job in self.jobs() {
            // A job that is gone needs no output.
            let _ = job.send(Event::Log(event.clone())).await;
        }
    }

    /// Moves a counter.
    pub fn status(
        &self,
        id: &str,
        current: u64,
        total: u64,
        started: SystemTime,
        completed: Option<SystemTime>,
    ) {
        let clamp = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let event = StatusEvent {
            vertex: self.vertex,
            id: id.to_owned(),
            current: clamp(current),
            total: clamp(total),
            started,
            completed,
        };
        for job in self.jobs() {
            let _ = job.try_send(Event::Status(event.clone()));
        }
    }

    /// Warns.
    pub async fn warn(&self, short: &str, detail: Vec<String>) {
        let event = WarningEvent { vertex: self.vertex, short: short.to_owned(), detail, url: String::new() };
        for job in self.jobs() {
            let _ = job.send(Event::Warning(event.clone())).await;
        }
    }
}
