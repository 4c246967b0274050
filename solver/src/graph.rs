//! Graph: a definition, checked and indexed.
//!
//! A definition comes from a client and is hostile until loaded here: counts, indexes and cycles are checked, and a
//! digest is always of the bytes received.
//!
//! # Errors
//! Every `GraphError` is the client's mistake.

use std::{collections::HashMap, sync::Arc};

use buildd_api::buildkit::pb;
use buildd_oci::digest::Digest;
use petgraph::graphmap::DiGraphMap;
use prost::Message;

/// Most vertices of one definition, and of all that a build has.
pub(crate) const MAX_VERTICES: usize = 100_000;
/// Most inputs of one vertex.
const MAX_INPUTS: usize = 10_000;
/// Most outputs of one vertex.
pub const MAX_OUTPUTS: u32 = 1_000;
/// Where frontends put the name that people see.
const NAME: &str = "llb.customname";

/// A definition that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// It is empty.
    #[error("the definition is empty")]
    Empty,
    /// It has too much of something.
    #[error("the definition has {count} {what}, at most {limit} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// With the ops of all definitions that a build has had, there are too many.
    #[error("this build has named {count} ops in all its definitions, at most {limit} are allowed")]
    TooManyInAll {
        /// How many.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// An op cannot be decoded.
    #[error("decode op {digest}")]
    Decode {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: prost::DecodeError,
    },
    /// An op has no body.
    #[error("op {digest} is of a kind that this buildd does not know")]
    Unknown {
        /// Which.
        digest: Digest,
    },
    /// An input is not in the definition.
    #[error("op {digest} has the input {input:?}, which the definition lacks")]
    Input {
        /// Which op.
        digest: Digest,
        /// What it names.
        input: String,
    },
    /// The last op must name one result.
    #[error("the last op of the definition must have one input and no body")]
    Terminal,
    /// Ops wait for each other.
    #[error("op {digest} depends on itself")]
    Cycle {
        /// One of them.
        digest: Digest,
    },
}

/// One output of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The vertex.
    pub vertex: Digest,
    /// Which output.
    pub output: u32,
}

/// One op.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// Of the bytes received.
    pub digest: Digest,
    /// The op, decoded; never encoded again.
    pub op: pb::Op,
    /// What stands beside it.
    pub metadata: pb::OpMetadata,
    /// What it reads.
    pub inputs: Vec<Edge>,
}

impl Vertex {
    /// The name that people see.
    pub fn name(&self) -> String {
        if let Some(name) = self.metadata.description.get(NAME) {
            return name.clone();
        }
        match &self.op.op {
            Some(pb::op::Op::Source(source)) => source.identifier.clone(),
            Some(pb::op::Op::Exec(exec)) => {
                exec.meta.as_ref().map_or_else(String::new, |meta| meta.args.join(" "))
            }
            Some(pb::op::Op::File(_)) => "file".to_owned(),
            Some(pb::op::Op::Merge(_)) => "merge".to_owned(),
            Some(pb::op::Op::Diff(_)) => "diff".to_owned(),
            Some(pb::op::Op::Build(_)) => "build".to_owned(),
            None => String::new(),
        }
    }
}

/// A checked definition.
#[derive(Clone, Debug)]
pub struct Graph {
    /// All vertices.
    pub vertices: HashMap<Digest, Arc<Vertex>>,
    /// What is asked for.
    pub target: Edge,
}

impl Graph {
    /// Checks a definition; None if it asks for nothing (scratch).
    pub fn load(definition: &pb::Definition) -> Result<Option<Self>, GraphError> {
        let ops = &definition.def;
        if ops.len() > MAX_VERTICES {
            return Err(GraphError::TooMany { what: "ops", count: ops.len(), limit: MAX_VERTICES });
        }
        let Some((last, ops)) = ops.split_last() else { return Ok(None) };
        let mut vertices = HashMap::new();
        for raw in ops {
            let vertex = load(raw, definition)?;
            vertices.insert(vertex.digest, Arc::new(vertex));
        }
        let digest = Digest::of(last);
        let op = pb::Op::decode(last.as_slice()).map_err(|source| GraphError::Decode { digest, source })?;
        let target = match (op.inputs.as_slice(), &op.op) {
            ([input], None) => edge(digest, input)?,
            _ => return Err(GraphError::Terminal),
        };
        let graph = Self { vertices, target };
        graph.check(digest)?;
        Ok(Some(graph))
    }

    fn check(&self, terminal: Digest) -> Result<(), GraphError> {
        let missing =
            |digest: Digest, edge: &Edge| GraphError::Input { digest, input: edge.vertex.to_string() };
        if !self.vertices.contains_key(&self.target.vertex) {
            return Err(missing(terminal, &self.target));
        }
        let mut edges: DiGraphMap<Digest, ()> = DiGraphMap::new();
        for vertex in self.vertices.values() {
            edges.add_node(vertex.digest);
            for input in &vertex.inputs {
                if !self.vertices.contains_key(&input.vertex) {
                    return Err(missing(vertex.digest, input));
                }
                edges.add_edge(input.vertex, vertex.digest, ());
            }
        }
        match petgraph::algo::toposort(&edges, None) {
            Ok(_) => Ok(()),
            Err(cycle) => Err(GraphError::Cycle { digest: cycle.node_id() }),
        }
    }
}

fn load(raw: &[u8], definition: &pb::Definition) -> Result<Vertex, GraphError> {
    let digest = Digest::of(raw);
    let op = pb::Op::decode(raw).map_err(|source| GraphError::Decode { digest, source })?;
    if op.op.is_none() {
        return Err(GraphError::Unknown { digest });
    }
    if op.inputs.len() > MAX_INPUTS {
        return Err(GraphError::TooMany {
            what: "inputs of one op",
            count: op.inputs.len(),
            limit: MAX_INPUTS,
        });
    }
    let inputs = op.inputs.iter().map(|input| edge(digest, input)).collect::<Result<_, _>>()?;
    let metadata = definition.metadata.get(&digest.to_string()).cloned().unwrap_or_default();
    Ok(Vertex { digest, op, metadata, inputs })
}

fn edge(digest: Digest, input: &pb::Input) -> Result<Edge, GraphError> {
    let fail = || GraphError::Input { digest, input: format!("{}:{}", input.digest, input.index) };
    let vertex = input.digest.parse().map_err(|_| fail())?;
    let output = u32::try_from(input.index).ok().filter(|output| *output < MAX_OUTPUTS).ok_or_else(fail)?;
    Ok(Edge { vertex, output })
}

#[cfg(test)]
mod tests;
