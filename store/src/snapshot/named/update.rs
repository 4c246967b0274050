//! Update: the labels of a named snapshot change.

use std::time::SystemTime;

use super::{NamedSnapshot, NamedSnapshots, Scope};
use crate::{
    db::to_nanos,
    error::{Error, Result},
    label::{self, Labels},
};

impl NamedSnapshots {
    /// Changes a snapshot's labels in one transaction; if `change` refuses, nothing changes.
    pub fn update_labels<E>(
        &self,
        scope: &Scope,
        name: &str,
        change: impl FnOnce(&mut Labels) -> Result<(), E>,
    ) -> Result<Result<NamedSnapshot, E>> {
        // A stack that was only known by its chain id gets its name now.
        self.stat(scope, name)?;
        let now = to_nanos(SystemTime::now());
        let changed = self.db.write_durable("label a snapshot", |tx| {
            let select = "SELECT labels FROM named_snapshots WHERE ns = ?1 AND snapshotter = ?2 AND name = ?3";
            let write = format!(
                "UPDATE named_snapshots SET labels = ?4, updated = {now} WHERE ns = ?1 AND snapshotter = ?2 AND name = ?3"
            );
            label::update(tx, [select, &write], [&scope.ns, &scope.snapshotter, name], change)
        })?;
        match changed {
            None => Err(Error::NotFound { what: "snapshot", name: name.to_owned() }),
            Some(Err(refused)) => Ok(Err(refused)),
            Some(Ok(_)) => self.stat(scope, name).map(Ok),
        }
    }
}
