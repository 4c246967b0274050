//! Ops: the work behind the vertices of a definition that are not sources.

pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod merge;
