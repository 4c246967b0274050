//! Adopt: names for layers that nobody named yet, because a build, an import or another namespace made them.
//!
//! The names are chain ids, which every client computes alike.

use std::time::SystemTime;

use buildd_oci::{config::chain_ids, digest::Digest};
use rusqlite::params;

use super::{NamedSnapshots, Scope};
use crate::{
    db::to_nanos,
    error::{Error, Result},
    snapshot::SnapshotId,
};

impl NamedSnapshots {
    /// Gives a stack and all below it their chain ids as names, durably.
    pub fn adopt(&self, scope: &Scope, top: SnapshotId) -> Result<()> {
        self.snapshots.make_durable(top)?;
        let stacks = self.snapshots.ancestors(top)?;
        let chain = self.chain(top)?;
        let chain = chain.ok_or_else(|| Error::NotFound {
            what: "chain id of snapshot",
            name: top.number().to_string(),
        })?;
        let now = to_nanos(SystemTime::now());
        self.db.write_durable("name snapshots", |tx| {
            let mut parent = String::new();
            for (stack, chain_id) in stacks.iter().zip(&chain) {
                let name = chain_id.to_string();
                tx.execute(
                    "INSERT OR IGNORE INTO named_snapshots VALUES (?, ?, ?, 'committed', ?, ?, NULL, '{}', ?, ?)",
                    params![scope.ns, scope.snapshotter, name, parent, stack.number(), now, now],
                )?;
                parent = name;
            }
            Ok(())
        })
    }

    /// The chain ids of a stack, lowest first; None if a layer of it has no diff_id yet.
    pub(super) fn chain(&self, stack: SnapshotId) -> Result<Option<Vec<Digest>>> {
        let layers = self.snapshots.layers(stack)?;
        let diff_ids: Option<Vec<Digest>> = layers.into_iter().map(|layer| layer.diff_id).collect();
        Ok(diff_ids.map(|diff_ids| chain_ids(&diff_ids)))
    }
}
