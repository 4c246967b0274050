//! Stage: work that is no vertex of a definition, shown to the client as one.

use std::{sync::Arc, time::SystemTime};

use buildd_api::buildkit::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog};
use buildd_oci::digest::Digest;
use tonic::Status;

use super::{event::timestamp, progress::Progress};

/// A vertex of its own.
#[derive(Debug)]
pub(super) struct Stage {
    progress: Arc<Progress>,
    vertex: Vertex,
}

impl Stage {
    /// Shows that the work has begun.
    pub(super) fn begin(progress: &Arc<Progress>, name: &str) -> Self {
        let unique = format!("{name} {:032x}", rand::random::<u128>());
        let vertex = Vertex {
            digest: Digest::of(unique.as_bytes()).to_string(),
            name: name.to_owned(),
            started: Some(timestamp(SystemTime::now())),
            ..Vertex::default()
        };
        let stage = Self { progress: Arc::clone(progress), vertex };
        stage.tell();
        stage
    }

    /// Shows what the work says on stream 1 or 2.
    pub(super) fn log(&self, stream: u32, bytes: &[u8]) {
        let log = VertexLog {
            vertex: self.vertex.digest.clone(),
            timestamp: Some(timestamp(SystemTime::now())),
            stream: i64::from(stream),
            msg: bytes.to_vec(),
        };
        self.progress.tell(StatusResponse { logs: vec![log], ..StatusResponse::default() });
    }

    /// Shows that it has ended, and why if it failed.
    pub(super) fn end(mut self, failure: Option<&Status>) {
        self.vertex.completed = Some(timestamp(SystemTime::now()));
        if let Some(status) = failure {
            status.message().clone_into(&mut self.vertex.error);
        }
        self.tell();
    }

    fn tell(&self) {
        let vertexes = vec![self.vertex.clone()];
        self.progress.tell(StatusResponse { vertexes, ..StatusResponse::default() });
    }
}
