//! Snapshot ref: a vertex's result as the worker knows it: a snapshot, or the empty tree.
//!
//! The solver holds these as opaque handles.

use std::{any::Any, sync::Arc};

use buildd_solver::result::{OpResult, ResultHandle};

use crate::{
    error::{Error, Result},
    snapshot::SnapshotId,
};

/// A result.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotRef {
    id: Option<SnapshotId>,
}

impl SnapshotRef {
    /// A handle on a snapshot; None is the empty tree.
    pub fn result(id: Option<SnapshotId>) -> OpResult {
        Arc::new(Self { id })
    }

    /// The worker's view of a handle.
    pub fn of(result: &OpResult) -> Result<Self> {
        result.as_any().downcast_ref::<Self>().copied().ok_or_else(|| Error::Invalid {
            what: "result",
            name: format!("{result:?}"),
            reason: "it was not made by this worker".to_owned(),
        })
    }

    /// The snapshot; None is the empty tree.
    pub fn id(&self) -> Option<SnapshotId> {
        self.id
    }
}

impl ResultHandle for SnapshotRef {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
