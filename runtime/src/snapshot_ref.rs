//! Snapshot ref: a vertex's result as the worker knows it: a snapshot, or the empty tree.
//!
//! The solver holds these as opaque handles; as long as one lives, its layers are not collected.

use std::{any::Any, sync::Arc};

use buildd_solver::result::{OpResult, ResultHandle};

use crate::{
    error::{Error, Result},
    snapshot::{Hold, SnapshotId},
};

/// A result.
#[derive(Clone, Debug)]
pub struct SnapshotRef {
    hold: Option<Hold>,
}

impl SnapshotRef {
    /// A handle on a snapshot; None is the empty tree.
    pub fn result(hold: Option<Hold>) -> OpResult {
        Arc::new(Self { hold })
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
        self.hold.as_ref().map(Hold::id)
    }
}

impl ResultHandle for SnapshotRef {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
