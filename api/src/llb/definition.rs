//! Definition to state: what a client built with its own builder, to go on from.
//!
//! The ops keep their bytes, and so their digests. Where they stand in their texts is left out: a definition made from the state has a text of
//! its own.

use std::{collections::HashMap, sync::Arc};

use buildd_oci::digest::Digest;
use prost::Message;

use super::{Output, State, Vertex};
use crate::buildkit::pb;

/// A definition is not one.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// An entry that is not an op.
    #[error("decode op {number}")]
    Decode {
        /// Which entry.
        number: usize,
        /// Why not.
        #[source]
        source: prost::DecodeError,
    },
    /// An op that reads what no op before it makes.
    #[error("op {number} reads output {index} of {digest}, which does not come before it")]
    Input {
        /// Which entry.
        number: usize,
        /// What it reads.
        digest: String,
        /// Which of its outputs.
        index: i64,
    },
    /// The last entry names what is wanted.
    #[error("the last op has {inputs} inputs instead of one")]
    Last {
        /// How many it has.
        inputs: usize,
    },
}

impl State {
    /// What a definition makes; scratch if it has no ops.
    pub fn of_definition(definition: &pb::Definition) -> Result<Self, DefinitionError> {
        let Some((last, others)) = definition.def.split_last() else { return Ok(Self::scratch()) };
        let mut known: HashMap<String, Arc<Vertex>> = HashMap::new();
        for (number, bytes) in others.iter().enumerate() {
            let inputs = inputs(number, bytes, &known)?;
            let digest = Digest::of(bytes).to_string();
            let metadata = definition.metadata.get(&digest).cloned().unwrap_or_default();
            let vertex =
                Vertex { digest: digest.clone(), bytes: bytes.clone(), inputs, metadata, ranges: Vec::new() };
            known.insert(digest, Arc::new(vertex));
        }
        let wanted = inputs(others.len(), last, &known)?;
        match wanted.as_slice() {
            [one] => Ok(Self { output: Some(one.clone()) }),
            several => Err(DefinitionError::Last { inputs: several.len() }),
        }
    }
}

fn inputs(
    number: usize,
    bytes: &[u8],
    known: &HashMap<String, Arc<Vertex>>,
) -> Result<Vec<Output>, DefinitionError> {
    let op = pb::Op::decode(bytes).map_err(|source| DefinitionError::Decode { number, source })?;
    let find = |input: pb::Input| match known.get(&input.digest) {
        Some(vertex) => Ok(Output { vertex: Arc::clone(vertex), index: input.index }),
        None => Err(DefinitionError::Input { number, digest: input.digest, index: input.index }),
    };
    op.inputs.into_iter().map(find).collect()
}
