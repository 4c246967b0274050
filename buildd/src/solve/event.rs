//! Events of the solver as clients read them.

use std::time::SystemTime;

use buildd_api::buildkit::{
    google::protobuf::Timestamp,
    moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning},
};
use buildd_solver::progress::Event;

/// A time on BuildKit's wire.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

/// One event as one message.
pub(super) fn message(event: Event) -> StatusResponse {
    let mut message = StatusResponse::default();
    match event {
        Event::Vertex(event) => message.vertexes.push(Vertex {
            digest: event.digest.map(|digest| digest.to_string()).unwrap_or_default(),
            inputs: event.inputs.iter().map(ToString::to_string).collect(),
            name: event.name,
            cached: event.cached,
            started: event.started.map(timestamp),
            completed: event.completed.map(timestamp),
            error: event.error,
            progress_group: None,
        }),
        Event::Status(event) => message.statuses.push(VertexStatus {
            vertex: event.vertex.to_string(),
            name: event.id.clone(),
            id: event.id,
            current: event.current,
            total: event.total,
            timestamp: Some(timestamp(SystemTime::now())),
            started: Some(timestamp(event.started)),
            completed: event.completed.map(timestamp),
        }),
        Event::Log(event) => message.logs.push(VertexLog {
            vertex: event.vertex.to_string(),
            timestamp: Some(timestamp(event.time)),
            stream: i64::from(event.stream),
            msg: event.data,
        }),
        Event::Warning(event) => message.warnings.push(VertexWarning {
            vertex: event.vertex.to_string(),
            level: 1,
            short: event.short.into_bytes(),
            detail: event.detail.into_iter().map(String::into_bytes).collect(),
            url: event.url,
            ..VertexWarning::default()
        }),
    }
    message
}
