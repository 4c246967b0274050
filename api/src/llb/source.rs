//! Source ops: images, synced local folders, http and git.
//!
//! The identifier carries the scheme; attributes are strings, lists among them JSON arrays.

use std::collections::BTreeMap;

use super::{Inputs, OpOptions, State};
use crate::buildkit::pb;

impl State {
    /// What lies at `identifier`, for example `docker-image://docker.io/library/alpine:latest` or `local://context`.
    pub fn source(identifier: &str, attrs: BTreeMap<String, String>, options: OpOptions) -> Self {
        let op = pb::SourceOp { identifier: identifier.to_owned(), attrs };
        let vertex = Self::of(Inputs::default(), pb::op::Op::Source(op), options);
        Self::output(&vertex, 0)
    }
}
