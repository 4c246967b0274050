//! Explain: why the cache had nothing for a vertex.
//!
//! The scheduler asks on a miss, if its job wants to know, and sends the answer as a warning of the vertex. A `Record` says what the key of
//! an execution was made of; the newest one of each op, of each name and of each place is kept. Records never decide a hit.

use buildd_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    graph::Vertex,
    op::{InputKey, Parts},
};

/// Differences that one line tells.
const MAX_TOLD: usize = 5;

/// What the key of an execution was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The vertex's name for people.
    pub name: String,
    /// `op(v)`; of a source, its key.
    pub op: Digest,
    /// `x_i` of each input.
    pub inputs: Vec<Digest>,
    /// What op and content inputs are made of.
    #[serde(default)]
    pub parts: Parts,
}

/// Which record is sought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordOf {
    /// The newest of an op.
    Op(Digest),
    /// The newest of a name.
    Name(String),
    /// The newest with the same inputs: what stood at the same place.
    Place(Digest),
}

impl RecordOf {
    /// The form that stores use as a key.
    pub fn row(&self) -> String {
        match self {
            Self::Op(op) => format!("op {op}"),
            Self::Name(name) => format!("name {name}"),
            Self::Place(inputs) => format!("place {inputs}"),
        }
    }
}

impl Record {
    /// What it is found by.
    pub fn found_by(&self) -> Vec<RecordOf> {
        let mut found_by = vec![RecordOf::Op(self.op), RecordOf::Name(self.name.clone())];
        if !self.inputs.is_empty() {
            let inputs: Vec<String> = self.inputs.iter().map(ToString::to_string).collect();
            found_by.push(RecordOf::Place(Digest::of(inputs.join(" ").as_bytes())));
        }
        found_by
    }
}

/// What the store has that is close to a vertex: the newest records of its op, of its name, and of what stands at its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Earlier {
    pub(crate) same: Option<Record>,
    pub(crate) alike: Option<Record>,
    pub(crate) beside: Option<Record>,
}

/// Why a vertex that was not forced had to run: one line. `inputs` are the names of its inputs and how they enter the key.
pub(crate) fn missed(now: &Record, earlier: &Earlier, inputs: &[(String, InputKey)]) -> String {
    if let Some(same) = &earlier.same {
        return inputs_changed(now, same, inputs);
    }
    match (&earlier.alike, &earlier.beside) {
        (Some(_), _) if inputs.is_empty() => "its source is not what it was".to_owned(),
        (Some(alike), _) => match differences(now, alike) {
            Some(differences) => format!("the step itself changed: {differences}"),
            None => "the step itself changed: its command, options, environment or mounts".to_owned(),
        },
        (None, Some(beside)) => {
            let differences = differences(now, beside).unwrap_or_else(|| "it is another one".to_owned());
            format!("the step itself changed: {differences}; it was {}", beside.name)
        }
        (None, None) => "it was never built here".to_owned(),
    }
}

fn inputs_changed(now: &Record, same: &Record, inputs: &[(String, InputKey)]) -> String {
    if same.inputs.len() != now.inputs.len() {
        return "it has more or fewer inputs than before".to_owned();
    }
    let files = differences(now, same).map(|files| format!(": {files}")).unwrap_or_default();
    let changed: Vec<String> = now
        .inputs
        .iter()
        .zip(&same.inputs)
        .zip(inputs)
        .filter(|((now, before), _)| now != before)
        .map(|(_, (name, input))| match input {
            InputKey::Definition => format!("what it stands on changed ({name})"),
            InputKey::Content { .. } => format!("files that it reads changed ({name}){files}"),
        })
        .collect();
    if changed.is_empty() {
        return "its result of before was removed or cannot be read".to_owned();
    }
    changed.join("; ")
}

/// The parts in which two records differ, by name; None if none is known.
fn differences(now: &Record, before: &Record) -> Option<String> {
    let mut told = Vec::new();
    for (name, print) in &now.parts {
        match before.parts.get(name) {
            Some(known) if known == print => {}
            Some(_) => told.push(format!("{name} changed")),
            None => told.push(format!("{name} is new")),
        }
    }
    let gone = before.parts.keys().filter(|name| !now.parts.contains_key(*name));
    told.extend(gone.map(|name| format!("{name} is gone")));
    let more = told.len().saturating_sub(MAX_TOLD);
    told.truncate(MAX_TOLD);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    (!told.is_empty()).then(|| told.join(", "))
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
