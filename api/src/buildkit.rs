//! x
pub use bollard_buildkit_proto::*;
