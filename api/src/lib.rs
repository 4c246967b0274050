//! Wire types of the two public APIs.
#![allow(missing_docs)]
pub mod buildkit;
pub mod containerd;
