//! Snapshot ref: a vertex's result as the worker knows it: a snapshot, or the empty tree.
//!
//! The solver holds these as opaque handles; as long as one lives, its layers are not collected.

use std::{any::Any, sync::Arc};

use buildd_solver::result::{OpResult, ResultHandle};
use buildd_store::snapshot::{SnapshotId, SnapshotPin};

use crate::error::{Error, Result};

/// What made a result, as the usage of the disk tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A step, or an image that was unpacked.
    Regular,
    /// Files of a client.
    Local,
}

impl Kind {
    /// BuildKit's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Local => "source.local",
        }
    }
}

/// A result.
#[derive(Clone, Debug)]
pub struct SnapshotRef {
    hold: Option<SnapshotPin>,
    kind: Kind,
}

impl SnapshotRef {
    /// A handle on a snapshot; None is the empty tree.
    pub fn result(hold: Option<SnapshotPin>) -> OpResult {
        Arc::new(Self { hold, kind: Kind::Regular })
    }

    /// A handle on a client's files.
    pub(crate) fn local(hold: SnapshotPin) -> OpResult {
        Arc::new(Self { hold: Some(hold), kind: Kind::Local })
    }

    /// What made it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The worker's view of a handle.
    pub fn of(result: &OpResult) -> Result<&Self> {
        result.as_any().downcast_ref::<Self>().ok_or_else(|| Error::Invalid {
            what: "result",
            name: format!("{result:?}"),
            reason: "it was not made by this worker".to_owned(),
        })
    }

    /// The snapshot; None is the empty tree.
    pub fn id(&self) -> Option<SnapshotId> {
        self.hold.as_ref().map(SnapshotPin::id)
    }
}

impl ResultHandle for SnapshotRef {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
