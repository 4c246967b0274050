//! Raw JSON: each status message as one line, in the field names of BuildKit's Go client.

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use buildd_api::buildkit::{google::protobuf::Timestamp, moby::buildkit::v1::StatusResponse};
use serde_json::{Map, Value, json};

use crate::timestamp::rfc3339;

/// Writes the message to standard error.
pub(super) fn show(status: &StatusResponse) {
    let _ = writeln!(std::io::stderr(), "{}", to_json(status));
}

fn to_json(status: &StatusResponse) -> Value {
    let mut object = Map::new();
    let mut list = |name: &str, items: Vec<Value>| {
        if !items.is_empty() {
            object.insert(name.to_owned(), Value::Array(items));
        }
    };
    let vertex = |v: &_| vertex(v);
    list("vertexes", status.vertexes.iter().map(vertex).collect());
    list(
        "statuses",
        status
            .statuses
            .iter()
            .map(|s| {
                pruned(json!({
                    "id": s.id, "vertex": s.vertex, "name": s.name, "current": s.current, "total": s.total,
                    "timestamp": time(s.timestamp.as_ref()), "started": time(s.started.as_ref()),
                    "completed": time(s.completed.as_ref()),
                }))
            })
            .collect(),
    );
    let log = |l: &buildd_api::buildkit::moby::buildkit::v1::VertexLog| {
        pruned(json!({
            "vertex": l.vertex, "stream": l.stream, "data": STANDARD.encode(&l.msg),
            "timestamp": time(l.timestamp.as_ref()),
        }))
    };
    list("logs", status.logs.iter().map(log).collect());
    let warning = |w: &buildd_api::buildkit::moby::buildkit::v1::VertexWarning| {
        let detail: Vec<String> = w.detail.iter().map(|line| STANDARD.encode(line)).collect();
        pruned(json!({
            "vertex": w.vertex, "level": w.level, "short": STANDARD.encode(&w.short), "detail": detail, "url": w.url,
        }))
    };
    list("warnings", status.warnings.iter().map(warning).collect());
    Value::Object(object)
}

fn vertex(v: &buildd_api::buildkit::moby::buildkit::v1::Vertex) -> Value {
    pruned(json!({
        "digest": v.digest, "inputs": v.inputs, "name": v.name, "cached": v.cached, "error": v.error,
        "started": time(v.started.as_ref()), "completed": time(v.completed.as_ref()),
    }))
}

/// Go leaves out what is empty.
fn pruned(mut value: Value) -> Value {
    if let Value::Object(object) = &mut value {
        object.retain(|_, value| match value {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Number(number) => number.as_i64() != Some(0),
            Value::Object(_) => true,
        });
    }
    value
}

fn time(timestamp: Option<&Timestamp>) -> Value {
    let text = |at: &Timestamp| {
        let whole = rfc3339(at.seconds);
        format!("{}.{:09}Z", whole.trim_end_matches('Z'), at.nanos.max(0))
    };
    timestamp.map(text).into()
}
