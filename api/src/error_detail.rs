//! Error details: the typed facts that BuildKit's clients read beside a gRPC error.
//!
//! `buildd` puts them on a status with [`encode`], `buildctl` reads them back with [`decode`]: without the source range no client can print the
//! excerpt of the Dockerfile, without the exit message the exit code is lost.
//!
//! # Wire
//!
//! `google.rpc.Status.details` is a list of `Any`; the type URL names a Go type with the suffix `+json`, the value is that struct in
//! Go's JSON (protobuf field names, bytes in base64, zero fields left out). The status travels in the header `grpc-status-details-bin`.
//!
//! # Sources
//!
//! moby/buildkit: `solver/errdefs`, `util/grpcerrors`, `frontend/gateway/pb/exit.go`; containerd/typeurl.

use prost::Message;
use serde::{Deserialize, Serialize};

mod step;

use crate::buildkit::google::rpc;
pub use step::FailedStep;

const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";
const VERTEX: &str = "github.com/moby/buildkit/errdefs.Vertex+json";
const SOLVE: &str = "github.com/moby/buildkit/errdefs.Solve+json";
const EXIT: &str = "github.com/moby/buildkit/gatewayapi.ExitMessage+json";

/// Details of one status that are read: stops a hostile peer's list without end.
const MAX_DETAILS: usize = 64;

/// Line and column of a source text; lines count from 1, columns from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// The line, from 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: i32,
    /// The column, from 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub character: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// A stretch of a source text, both ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Range {
    /// Where it starts.
    pub start: Position,
    /// Where it ends.
    pub end: Position,
}

/// The text a build came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceText {
    /// Its name, `Dockerfile`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filename: String,
    /// Its bytes.
    #[serde(with = "base64_bytes", skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<u8>,
    /// Its language, `Dockerfile`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub language: String,
}

/// Where in a source text an error arose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// The text.
    pub info: SourceText,
    /// The places; more than one for an instruction of several lines or a stage and its use.
    #[serde(deserialize_with = "null_as_default")]
    pub ranges: Vec<Range>,
}

/// One typed fact about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// Where in the Dockerfile.
    Source(Source),
    /// The digest of the vertex that failed.
    Vertex(String),
    /// A step was being solved; the ids of its inputs and mounts are for debuggers.
    Solve {
        /// Result ids of the inputs.
        input_ids: Vec<String>,
        /// Result ids of the mounts.
        mount_ids: Vec<String>,
        /// The step, if it is known.
        step: Option<Box<FailedStep>>,
    },
    /// A process ended badly.
    Exit {
        /// Its exit code; 128 and more for a signal.
        code: u32,
        /// The message beside the code.
        error: String,
    },
}

#[derive(Serialize, Deserialize)]
struct VertexJson {
    #[serde(default)]
    digest: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct SolveJson {
    #[serde(rename = "inputIDs")]
    input_ids: Vec<String>,
    #[serde(rename = "mountIDs")]
    mount_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<serde_json::Value>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ExitJson {
    code: u32,
    error: String,
}

/// The value of the header `grpc-status-details-bin` (what `tonic::Status::with_details` takes).
pub fn encode(code: i32, message: &str, details: &[Detail]) -> Vec<u8> {
    let details = details.iter().map(Detail::to_any).collect();
    rpc::Status { code, message: message.to_owned(), details }.encode_to_vec()
}

/// The details that we know in a status; unknown and broken ones are left out.
pub fn decode(status_details: &[u8]) -> Vec<Detail> {
    let Ok(status) = rpc::Status::decode(status_details) else { return Vec::new() };
    status
        .details
        .iter()
        .take(MAX_DETAILS)
        .filter_map(|any| Detail::from_any(&any.type_url, &any.value))
        .collect()
}

impl Detail {
    fn to_any(&self) -> crate::buildkit::google::protobuf::Any {
        let (type_url, value) = match self {
            Self::Source(source) => (SOURCE, serde_json::to_vec(source)),
            Self::Vertex(digest) => (VERTEX, serde_json::to_vec(&VertexJson { digest: digest.clone() })),
            Self::Solve { input_ids, mount_ids, step } => {
                let op = step.as_deref().map(FailedStep::to_json);
                let solve = SolveJson { input_ids: input_ids.clone(), mount_ids: mount_ids.clone(), op };
                (SOLVE, serde_json::to_vec(&solve))
            }
            Self::Exit { code, error } => {
                (EXIT, serde_json::to_vec(&ExitJson { code: *code, error: error.clone() }))
            }
        };
        crate::buildkit::google::protobuf::Any {
            type_url: type_url.to_owned(),
            value: value.expect("these structs are plain text and numbers"),
        }
    }

    fn from_any(type_url: &str, value: &[u8]) -> Option<Self> {
        match type_url {
            SOURCE => serde_json::from_slice(value).ok().map(Self::Source),
            VERTEX => serde_json::from_slice::<VertexJson>(value).ok().map(|v| Self::Vertex(v.digest)),
            SOLVE => {
                let solve: SolveJson = serde_json::from_slice(value).ok()?;
                let step = solve.op.as_ref().and_then(FailedStep::from_json).map(Box::new);
                Some(Self::Solve { input_ids: solve.input_ids, mount_ids: solve.mount_ids, step })
            }
            EXIT => {
                let exit: ExitJson = serde_json::from_slice(value).ok()?;
                Some(Self::Exit { code: exit.code, error: exit.error })
            }
            _ => None,
        }
    }
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

mod base64_bytes {
    //! Bytes as Go's JSON has them: base64 text, null for none.
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::Deserialize;

    pub(super) fn serialize<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
