//! Merge: layers of several results on top of each other, without touching a file.
//!
//! `COPY --link` ends in one: its layer is independent of what lies below.

use std::sync::Arc;

use async_trait::async_trait;
use buildd_oci::digest::Digest;
use buildd_solver::{
    op::{CacheMap, InputKey, Op, OpContext, OpError},
    result::OpResult,
};
use buildd_store::snapshot::SnapshotPin;

use crate::{
    error::{Result, op_error},
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

/// A stack of stacks.
#[derive(Debug)]
pub(crate) struct MergeOp {
    worker: Arc<Worker>,
    inputs: usize,
}

/// The work behind a merge op.
pub(crate) fn resolve(worker: Arc<Worker>, inputs: usize) -> Arc<dyn Op> {
    Arc::new(MergeOp { worker, inputs })
}

#[async_trait]
impl Op for MergeOp {
    async fn cache_map(&self, _: &OpContext) -> Result<CacheMap, OpError> {
        let inputs = vec![InputKey::Definition; self.inputs];
        Ok(CacheMap { digest: Digest::of(b"merge"), aliases: Vec::new(), inputs })
    }

    async fn exec(&self, _: &OpContext, inputs: &[OpResult]) -> Result<Vec<OpResult>, OpError> {
        let (worker, inputs) = (self.worker.clone(), inputs.to_vec());
        let work = move || -> Result<Vec<OpResult>> {
            let snapshots = &worker.store.snapshots;
            let mut below: Option<SnapshotPin> = None;
            for (number, input) in inputs.iter().enumerate() {
                let Some(id) = SnapshotRef::of(input)?.id() else { continue };
                if number == 0 {
                    below = Some(snapshots.pin(id)?);
                    continue;
                }
                for layer in snapshots.layers(id)? {
                    below = Some(snapshots.stack(below.as_ref().map(SnapshotPin::id), layer.id)?);
                }
            }
            Ok(vec![SnapshotRef::result(below)])
        };
        buildd_fs::blocking::run(work).await.map_err(op_error)
    }

    fn is_heavy(&self) -> bool {
        false
    }
}
