//! Marshalling: a state and all it needs as a `pb::Definition`, inputs before users.
//!
//! Every op is listed once; the last entry has no op, only the wanted output as its single input.

use std::collections::{BTreeMap, HashSet};

use buildd_oci::digest::Digest;
use prost::Message;

use super::{State, Vertex};
use crate::buildkit::pb;

/// The text that the ranges of ops point into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceText {
    /// Its name.
    pub filename: String,
    /// Its language.
    pub language: String,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl State {
    /// The definition of this state; scratch has none.
    pub fn marshal(&self, text: Option<&SourceText>) -> Option<pb::Definition> {
        let output = self.output.as_ref()?;
        let mut definition = pb::Definition::default();
        let mut locations = BTreeMap::new();
        for vertex in inputs_first(&output.vertex) {
            if definition.metadata.insert(vertex.digest.clone(), vertex.metadata.clone()).is_some() {
                continue;
            }
            definition.def.push(vertex.bytes.clone());
            if !vertex.ranges.is_empty() {
                let location = pb::Location { source_index: 0, ranges: vertex.ranges.clone() };
                locations.insert(vertex.digest.clone(), pb::Locations { locations: vec![location] });
            }
        }
        let input = pb::Input { digest: output.vertex.digest.clone(), index: output.index };
        let terminal = pb::Op { inputs: vec![input], ..Default::default() }.encode_to_vec();
        definition.metadata.insert(Digest::of(&terminal).to_string(), pb::OpMetadata::default());
        definition.def.push(terminal);
        if let Some(text) = text {
            let info = pb::SourceInfo {
                filename: text.filename.clone(),
                data: text.data.clone(),
                definition: None,
                language: text.language.clone(),
            };
            definition.source = Some(pb::Source { locations, infos: vec![info] });
        }
        Some(definition)
    }
}

/// Without recursion: a Dockerfile may chain many thousand ops.
fn inputs_first(last: &Vertex) -> Vec<&Vertex> {
    let mut listed = HashSet::new();
    let mut order = Vec::new();
    let mut stack = vec![(last, 0)];
    while let Some((vertex, next)) = stack.pop() {
        if listed.contains(vertex.digest.as_str()) {
            continue;
        }
        if let Some(input) = vertex.inputs.get(next) {
            stack.push((vertex, next + 1));
            stack.push((input.vertex.as_ref(), 0));
        } else {
            listed.insert(vertex.digest.as_str());
            order.push(vertex);
        }
    }
    order
}

impl Drop for Vertex {
    /// Takes long chains apart in a loop: the derived drop would recurse once for each op.
    fn drop(&mut self) {
        let mut pending = std::mem::take(&mut self.inputs);
        while let Some(output) = pending.pop() {
            if let Some(mut vertex) = std::sync::Arc::into_inner(output.vertex) {
                pending.append(&mut vertex.inputs);
            }
        }
    }
}
