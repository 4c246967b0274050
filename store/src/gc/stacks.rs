//! Stacks: which snapshots and layers nothing needs, at a first look.
//!
//! Whatever it names is asked about again by the batch that deletes it.

use std::collections::HashSet;

use rusqlite::Connection;

use crate::cache::results::SNAPSHOTS;

/// What nothing needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unneeded {
    /// Stacks, the highest first, so that whatever stands on another comes before it.
    pub(super) stacks: Vec<i64>,
    /// Layers that no other stack has, and no blob has its only copy in.
    pub(super) layers: Vec<i64>,
}

impl Unneeded {
    /// Looks for it; needed are results of the cache, names, and what `keeps_chain` says of chain ids.
    pub(super) fn find(c: &Connection, keeps_chain: impl Fn(&str) -> bool) -> rusqlite::Result<Self> {
        let numbers = |sql: &str| -> rusqlite::Result<Vec<i64>> {
            c.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        let named = numbers(&format!(
            "{SNAPSHOTS} UNION SELECT snapshot FROM named_snapshots WHERE snapshot IS NOT NULL"
        ))?;
        let mut needed: HashSet<i64> = named.into_iter().collect();
        let (mut used, mut stacks) = (HashSet::new(), Vec::new());
        let mut all = c.prepare("SELECT id, parent, layer, chain_id FROM snapshots ORDER BY id DESC")?;
        let mut rows = all.query([])?;
        while let Some(row) = rows.next()? {
            let (id, chain): (i64, Option<String>) = (row.get(0)?, row.get(3)?);
            if needed.contains(&id) || chain.as_deref().is_some_and(&keeps_chain) {
                needed.extend(row.get::<_, Option<i64>>(1)?);
                used.insert(row.get::<_, i64>(2)?);
            } else {
                stacks.push(id);
            }
        }
        let mut layers = numbers(
            "SELECT id FROM layers WHERE NOT (blob = 1 AND EXISTS (SELECT 1 FROM blobs WHERE digest = diff_id))",
        )?;
        layers.retain(|layer| !used.contains(layer));
        Ok(Self { stacks, layers })
    }
}
