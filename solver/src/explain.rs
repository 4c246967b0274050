//! Explain: why the cache had nothing for a vertex.
//!
//! The scheduler asks on a miss, if its job wants to know, and sends the answer as a warning of the vertex. A `Record` says what the key of
//! an execution was made of; the newest one of each op and of each name is kept. Records never decide a hit.

use buildd_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::{graph::Vertex, op::InputKey};

/// What the key of an execution was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The vertex's name for people.
    pub name: String,
    /// `op(v)`; of a source, its key.
    pub op: Digest,
    /// `x_i` of each input.
    pub inputs: Vec<Digest>,
}

/// Which record is sought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordOf {
    /// The newest of an op.
    Op(Digest),
    /// The newest of a name.
    Name(String),
}

impl RecordOf {
    /// The form that stores use as a key.
    pub fn row(&self) -> String {
        match self {
            Self::Op(op) => format!("op {op}"),
            Self::Name(name) => format!("name {name}"),
        }
    }
}

impl Record {
    /// What it is found by.
    pub fn found_by(&self) -> [RecordOf; 2] {
        [RecordOf::Op(self.op), RecordOf::Name(self.name.clone())]
    }
}

/// Why a vertex that was not forced had to run: one line. `same` is the newest record of its op, `alike` of its name; `inputs` are the
/// names of its inputs and how they enter the key.
pub(crate) fn missed(
    now: &Record,
    same: Option<&Record>,
    alike: Option<&Record>,
    inputs: &[(String, InputKey)],
) -> String {
    let Some(same) = same else {
        return match alike {
            None => "it was never built here".to_owned(),
            Some(_) if inputs.is_empty() => "its source is not what it was".to_owned(),
            Some(_) => "the step itself changed: its command, options, environment or mounts".to_owned(),
        };
    };
    if same.inputs.len() != now.inputs.len() {
        return "it has more or fewer inputs than before".to_owned();
    }
    let changed: Vec<String> = now
        .inputs
        .iter()
        .zip(&same.inputs)
        .zip(inputs)
        .filter(|((now, before), _)| now != before)
        .map(|(_, (name, input))| match input {
            InputKey::Definition => format!("what it stands on changed ({name})"),
            InputKey::Content { .. } => format!("files that it reads changed ({name})"),
        })
        .collect();
    if changed.is_empty() {
        return "its result of before was removed or cannot be read".to_owned();
    }
    changed.join("; ")
}

/// Why a forced vertex ran.
pub(crate) fn forced(vertex: &Vertex) -> &'static str {
    if vertex.metadata.ignore_cache {
        "the build asks to run it whatever the cache knows (--no-cache)"
    } else {
        "it stands on a step that the build asks to run whatever the cache knows"
    }
}

#[cfg(test)]
mod tests;
