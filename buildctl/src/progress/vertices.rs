//! Vertices: the state of a build as its status messages tell it, in the order of first mention.

use std::collections::{HashMap, VecDeque};

use buildd_api::buildkit::{
    google::protobuf::Timestamp,
    moby::buildkit::v1::{StatusResponse, Vertex as WireVertex, VertexStatus},
};

/// Lines of a vertex's log that are kept for the display.
pub(super) const LOG_LINES: usize = 200;
/// Bytes of one kept line: a line without end must not fill memory.
const LINE_BYTES: usize = 16 * 1024;

/// One step.
#[derive(Debug, Default)]
pub(super) struct Vertex {
    pub(super) name: String,
    pub(super) cached: bool,
    pub(super) error: String,
    pub(super) started: Option<f64>,
    pub(super) completed: Option<f64>,
    /// Its jobs: downloads, transfers; in order of first mention.
    pub(super) statuses: Vec<VertexStatus>,
    /// The last lines of its log.
    pub(super) log: VecDeque<String>,
    pub(super) partial: Vec<u8>,
}

impl Vertex {
    /// Seconds from start to end, or until now.
    pub(super) fn seconds(&self, now: f64) -> f64 {
        self.started.map_or(0.0, |started| (self.completed.unwrap_or(now) - started).max(0.0))
    }
}

/// What one message changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The vertex started (or was named and is done already).
    Started(usize),
    /// A job of it ended: its index.
    Status(usize, usize),
    /// It logged whole lines, each with its time after the start in milliseconds.
    Log(usize, Vec<(i64, String)>),
    /// It ended.
    Completed(usize),
    /// The daemon warns.
    Warning(String),
}

/// The build so far.
#[derive(Debug, Default)]
pub(super) struct Vertices {
    all: Vec<Vertex>,
    by_digest: HashMap<String, usize>,
}

impl Vertices {
    /// All vertices in order.
    pub(super) fn all(&self) -> &[Vertex] {
        &self.all
    }

    fn index(&mut self, digest: &str) -> usize {
        let next = self.all.len();
        let index = *self.by_digest.entry(digest.to_owned()).or_insert(next);
        if index == next {
            self.all.push(Vertex::default());
        }
        index
    }

    /// Takes a message in.
    pub(super) fn update(&mut self, status: &StatusResponse) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut completed = Vec::new();
        for wire in &status.vertexes {
            self.vertex(wire, &mut changes, &mut completed);
        }
        for wire in &status.statuses {
            self.status(wire, &mut changes);
        }
        for log in &status.logs {
            let index = self.index(&log.vertex);
            let time = log.timestamp.as_ref().map(seconds);
            let lines = self.all[index].take_lines(&log.msg, time);
            if !lines.is_empty() {
                changes.push(Change::Log(index, lines));
            }
        }
        for index in completed {
            if let Some(line) = self.all[index].rest() {
                changes.push(Change::Log(index, vec![line]));
            }
            changes.push(Change::Completed(index));
        }
        for warning in &status.warnings {
            changes.push(Change::Warning(String::from_utf8_lossy(&warning.short).into_owned()));
        }
        changes
    }

    fn vertex(&mut self, wire: &WireVertex, changes: &mut Vec<Change>, completed: &mut Vec<usize>) {
        let index = self.index(&wire.digest);
        let vertex = &mut self.all[index];
        vertex.name.clone_from(&wire.name);
        vertex.cached |= wire.cached;
        vertex.error.clone_from(&wire.error);
        let was = (vertex.started.is_some(), vertex.completed.is_some());
        vertex.started = wire.started.as_ref().map(seconds).or(vertex.started);
        vertex.completed = wire.completed.as_ref().map(seconds).or(vertex.completed);
        if vertex.completed.is_some() && vertex.started.is_none() {
            vertex.started = vertex.completed;
        }
        if !was.0 && vertex.started.is_some() {
            changes.push(Change::Started(index));
        }
        if !was.1 && vertex.completed.is_some() {
            completed.push(index);
        }
    }

    fn status(&mut self, wire: &VertexStatus, changes: &mut Vec<Change>) {
        let index = self.index(&wire.vertex);
        let statuses = &mut self.all[index].statuses;
        let known = statuses.iter().position(|status| status.id == wire.id);
        let at = known.unwrap_or(statuses.len());
        let ended = known.is_some_and(|at| statuses[at].completed.is_some());
        match known {
            Some(at) => statuses[at].clone_from(wire),
            None => statuses.push(wire.clone()),
        }
        if !ended && wire.completed.is_some() {
            changes.push(Change::Status(index, at));
        }
    }
}

impl Vertex {
    fn take_lines(&mut self, bytes: &[u8], time: Option<f64>) -> Vec<(i64, String)> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES.saturating_sub(self.partial.len());
            let whole = piece.ends_with(b"\n");
            let text = if whole { &piece[..piece.len() - 1] } else { piece };
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if whole {
                lines.push(self.line(time));
            }
        }
        lines
    }

    /// The line that had no newline when the vertex ended.
    fn rest(&mut self) -> Option<(i64, String)> {
        (!self.partial.is_empty()).then(|| self.line(self.completed))
    }

    fn line(&mut self, time: Option<f64>) -> (i64, String) {
        let text = String::from_utf8_lossy(&self.partial).trim_end_matches('\r').to_owned();
        self.partial.clear();
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(text.clone());
        let elapsed = time.zip(self.started).map_or(0.0, |(time, started)| (time - started).max(0.0));
        ((elapsed * 1000.0) as i64, text)
    }
}

/// A timestamp in seconds.
pub(super) fn seconds(timestamp: &Timestamp) -> f64 {
    timestamp.seconds as f64 + f64::from(timestamp.nanos) / 1e9
}

#[cfg(test)]
mod tests;
