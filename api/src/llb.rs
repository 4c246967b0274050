//! LLB builder: small values that become a `pb::Definition`, the contract between frontends and the solver.
//!
//! A frontend combines [`State`]s (source, exec, file, merge, diff); [`State::marshal`] lists what the last one needs, inputs first.
//!
//! # Invariants
//! An op is encoded once, when it is made: its digest is of exactly the bytes that [`State::marshal`] hands out. Maps are sorted, so the same
//! calls give the same bytes on every machine. Names, cache flags and source ranges are metadata and never part of a digest.
//!
//! # Sources
//! moby/buildkit `client/llb` (order of inputs, action indexes, terminal op).

mod combine;
mod definition;
pub mod dump;
mod exec;
mod file;
pub mod json;
mod marshal;
mod source;

use std::sync::Arc;

use buildd_oci::digest::Digest;
use prost::Message;

use crate::buildkit::pb;

pub use definition::DefinitionError;
pub use exec::{ExecMount, ExecSpec};
pub use file::FileStep;
pub use marshal::SourceText;

/// Description key of the name that clients show for a vertex.
pub const CUSTOM_NAME: &str = "llb.customname";

/// Description keys begin with it, followed by one of `STEP_LIMITS`, that say how much of the machine a step may take: LLB has no field for it,
/// and it is no part of what the step does.
pub const STEP_LIMIT: &str = "buildd.limit.";
/// What may be limited, by the names of the Dockerfile frontend's options.
pub const STEP_LIMITS: [&str; 7] =
    ["memory", "memswap", "cpushares", "cpuperiod", "cpuquota", "cpusetcpus", "cpusetmems"];

/// A file system that a build makes: one output of a vertex, or nothing at all.
#[derive(Clone, Debug, Default)]
pub struct State {
    output: Option<Output>,
}

/// What goes with an op but is not part of what it does.
#[derive(Clone, Debug, Default)]
pub struct OpOptions {
    /// The platform it works for; the only field here that is part of the op's digest.
    pub platform: Option<pb::Platform>,
    /// Shown by clients.
    pub name: String,
    /// Run it although a cached result exists.
    pub ignore_cache: bool,
    /// Capability ids that a daemon needs for it.
    pub caps: Vec<&'static str>,
    /// Where in the source text it stands.
    pub ranges: Vec<pb::Range>,
    /// Further description entries.
    pub description: Vec<(String, String)>,
    /// Vertices shown as one.
    pub progress_group: Option<pb::ProgressGroup>,
}

#[derive(Clone, Debug)]
struct Output {
    vertex: Arc<Vertex>,
    index: i64,
}

#[derive(Debug)]
struct Vertex {
    digest: String,
    bytes: Vec<u8>,
    inputs: Vec<Output>,
    metadata: pb::OpMetadata,
    ranges: Vec<pb::Range>,
}

/// The inputs of an op under construction, each listed once.
#[derive(Default)]
struct Inputs(Vec<Output>);

impl State {
    /// The empty file system.
    pub fn scratch() -> Self {
        Self::default()
    }

    /// Whether this is the empty file system.
    pub fn is_scratch(&self) -> bool {
        self.output.is_none()
    }

    /// The digest of the vertex that makes it; none for scratch.
    pub fn digest(&self) -> Option<&str> {
        self.output.as_ref().map(|output| output.vertex.digest.as_str())
    }

    fn of(inputs: Inputs, op: pb::op::Op, options: OpOptions) -> Arc<Vertex> {
        let encoded = pb::Op {
            inputs: inputs
                .0
                .iter()
                .map(|i| pb::Input { digest: i.vertex.digest.clone(), index: i.index })
                .collect(),
            platform: options.platform,
            constraints: None,
            op: Some(op),
        };
        let bytes = encoded.encode_to_vec();
        let mut metadata = pb::OpMetadata {
            ignore_cache: options.ignore_cache,
            progress_group: options.progress_group,
            description: options.description.into_iter().collect(),
            caps: options.caps.iter().map(|cap| ((*cap).to_owned(), true)).collect(),
            export_cache: None,
        };
        if !options.name.is_empty() {
            metadata.description.insert(CUSTOM_NAME.to_owned(), options.name);
        }
        Arc::new(Vertex {
            digest: Digest::of(&bytes).to_string(),
            bytes,
            inputs: inputs.0,
            metadata,
            ranges: options.ranges,
        })
    }

    fn output(vertex: &Arc<Vertex>, index: i64) -> Self {
        Self { output: Some(Output { vertex: Arc::clone(vertex), index }) }
    }
}

impl Inputs {
    /// The index of `state` among the inputs; -1 for scratch.
    fn add(&mut self, state: &State) -> i64 {
        let Some(output) = &state.output else { return -1 };
        let same =
            |known: &Output| known.index == output.index && known.vertex.digest == output.vertex.digest;
        let index = self.0.iter().position(same).unwrap_or_else(|| {
            self.0.push(output.clone());
            self.0.len() - 1
        });
        index as i64
    }
}

#[cfg(test)]
mod tests;
