//! Mount: what a step's container shows beside its root.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a mount shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum StepMountKind {
    /// A path of the host, resolved already.
    Bind {
        /// The path.
        source: PathBuf,
        /// Whether it may be written to.
        writable: bool,
        /// Whether device nodes and setuid bits in it count for nothing.
        nodev: bool,
    },
    /// A new tmpfs.
    Tmpfs {
        /// Bytes it may hold; half of the memory if not given.
        size: Option<u64>,
    },
}

/// A mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepMount {
    /// Where, in the container.
    pub target: PathBuf,
    /// What.
    pub kind: StepMountKind,
}
