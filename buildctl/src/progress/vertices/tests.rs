//! Messages as the daemon sends them, split in every unpleasant way.
use buildd_api::buildkit::moby::buildkit::v1::VertexLog;

use super::*;

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn vertex(name: &str, started: Option<Timestamp>, completed: Option<Timestamp>) -> StatusResponse {
    let vertex = WireVertex {
        digest: format!("d-{name}"),
        name: name.into(),
        started,
        completed,
        ..WireVertex::default()
    };
    StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() }
}

fn log(name: &str, text: &str, seconds: i64) -> StatusResponse {
    let log = VertexLog { vertex: format!("d-{name}"), timestamp: at(seconds), stream: 1, msg: text.into() };
    StatusResponse { logs: vec![log], ..StatusResponse::default() }
}

#[test]
fn a_vertex_starts_logs_and_ends() {
    let mut vertices = Vertices::default();
    assert_eq!(vertices.update(&vertex("a", None, None)), []);
    assert_eq!(vertices.update(&vertex("a", at(10), None)), [Change::Started(0)]);
    assert_eq!(vertices.update(&log("a", "one\ntw", 11)), [Change::Log(0, vec![(1000, "one".into())])]);
    assert_eq!(vertices.update(&log("a", "o\r\n", 12)), [Change::Log(0, vec![(2000, "two".into())])]);
    assert_eq!(vertices.update(&log("a", "rest", 12)), []);
    assert_eq!(
        vertices.update(&vertex("a", at(10), at(13))),
        [Change::Log(0, vec![(3000, "rest".into())]), Change::Completed(0)]
    );
    assert_eq!(vertices.update(&vertex("a", at(10), at(13))), [], "said once");
    assert_eq!(vertices.all()[0].seconds(99.0), 3.0);
    assert_eq!(vertices.all()[0].log, ["one", "two", "rest"]);
}

#[test]
fn a_log_without_end_is_bounded() {
    let mut vertices = Vertices::default();
    vertices.update(&vertex("a", at(0), None));
    for _ in 0..LOG_LINES * 3 {
        vertices.update(&log("a", "x\n", 1));
    }
    vertices.update(&log("a", &"y".repeat(LINE_BYTES * 2), 1));
    vertices.update(&log("a", &format!("{}\n", "z".repeat(LINE_BYTES)), 1));
    let kept = &vertices.all()[0].log;
    assert_eq!(kept.len(), LOG_LINES);
    assert_eq!(kept.back().map(String::len), Some(LINE_BYTES));
}

#[test]
fn a_job_ends_once() {
    let mut vertices = Vertices::default();
    let job = |completed| StatusResponse {
        statuses: vec![VertexStatus {
            id: "j".into(),
            vertex: "v".into(),
            completed,
            ..VertexStatus::default()
        }],
        ..StatusResponse::default()
    };
    assert_eq!(vertices.update(&job(None)), []);
    assert_eq!(vertices.update(&job(at(1))), [Change::Status(0, 0)]);
    assert_eq!(vertices.update(&job(at(1))), []);
}
