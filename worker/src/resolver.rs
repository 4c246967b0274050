//! Resolver: finds the work behind each vertex of a definition.

use std::sync::Arc;

use buildd_api::buildkit::pb;
use buildd_oci::ErrorKind;
use buildd_solver::{
    graph::Vertex,
    op::{Op, OpError, OpResolver},
};

use crate::{error::Unsupported, ops, source, worker::Worker};

/// Makes ops that work with a worker.
#[derive(Debug)]
pub struct Resolver(Arc<Worker>);

impl Resolver {
    /// A resolver whose ops work with `worker`.
    pub fn new(worker: Arc<Worker>) -> Self {
        Self(worker)
    }
}

impl OpResolver for Resolver {
    fn resolve(&self, vertex: &Vertex) -> std::result::Result<Arc<dyn Op>, OpError> {
        let worker = Arc::clone(&self.0);
        match &vertex.op.op {
            Some(pb::op::Op::Source(op)) => source::resolve(&worker, op, vertex.op.platform.as_ref()),
            Some(pb::op::Op::Exec(op)) => ops::exec::resolve(worker, op, vertex),
            Some(pb::op::Op::File(op)) => ops::file::resolve(worker, op, vertex),
            Some(pb::op::Op::Merge(_)) => Ok(ops::merge::resolve(worker, vertex.inputs.len())),
            Some(pb::op::Op::Diff(_)) => Err(refused("diff")),
            Some(pb::op::Op::Build(_)) => Err(refused("build")),
            None => Err(refused("unknown")),
        }
    }
}

fn refused(what: &'static str) -> OpError {
    OpError::new(ErrorKind::Unimplemented, Unsupported { what: format!("LLB op {what:?}") })
}
