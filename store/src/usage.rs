//! Usage: what the build cache holds on disk, and how it is cut back.
//!
//! A record is a result that the cache remembers, or a cache mount. `list` tells what there is, `prune` forgets records; their layers go with
//! the next collection, unless an image or somebody at work needs them. A cache mount's folder goes at once.
//!
//! # Invariants
//! What is in use is never forgotten, nor a result that another one stands on: its layers would stay anyway, and nothing could use them.
//!
//! # Sources
//! BuildKit `cache/manager.go` (`Prune`, `DiskUsage`), `util/disk`.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    time::{Duration, SystemTime},
};

use buildd_fs::space::space;

use crate::{
    db::from_nanos,
    error::{Error, Result},
    layer::LayerId,
    root::Store,
};

/// The word for cache mounts, among the words of `snapshot_ref::Kind`.
pub const CACHE_MOUNT: &str = "exec.cachemount";

/// What a record stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Result(i64),
    Mount(String),
}

/// Something of the build cache that takes space.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// `regular`, `source.local` or `exec.cachemount`.
    pub kind: String,
    /// The step that made it, or the cache mount's id.
    pub description: String,
    /// When it was made.
    pub created: SystemTime,
    /// When it served last.
    pub used: SystemTime,
    /// How often it served.
    pub uses: i64,
    /// Whether a build works with it.
    pub in_use: bool,
    /// Whether a snapshot of a client or an image has the same layers.
    pub shared: bool,
    /// Whether steps write to it.
    pub mutable: bool,
    /// The record that it stands on.
    pub parent: Option<String>,
    /// Bytes of its own; 0 for what another record counts.
    pub size: u64,
    subject: Subject,
}

/// How much a pruning leaves. Without any bound of space, everything that is old enough goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Also what is shared with images.
    pub all: bool,
    /// Leave what was used within this time.
    pub keep_duration: Option<Duration>,
    /// Bytes that are left in any case.
    pub reserved: Option<u64>,
    /// Most bytes that are left.
    pub max_used: Option<u64>,
    /// Bytes of the disk that shall be free.
    pub min_free: Option<u64>,
}

impl Record {
    /// The row of a result.
    fn result(&self) -> Option<i64> {
        match self.subject {
            Subject::Result(id) => Some(id),
            Subject::Mount(_) => None,
        }
    }
}

impl Policy {
    /// How many of `used` bytes may stay, with `free` bytes of the disk left; None if none need to.
    fn allowed(&self, used: u64, free: u64) -> Option<u64> {
        if (self.reserved, self.max_used, self.min_free) == (None, None, None) {
            return None;
        }
        // Compat: a reserve alone is what is left.
        let cap = match (self.max_used, self.min_free) {
            (None, None) => 0,
            (max, min_free) => {
                let lacking = min_free.unwrap_or(0).saturating_sub(free);
                max.unwrap_or(u64::MAX).min(if lacking > 0 { used.saturating_sub(lacking) } else { u64::MAX })
            }
        };
        Some(cap.max(self.reserved.unwrap_or(0)))
    }
}

/// Every record.
pub fn list(store: &Store) -> Result<Vec<Record>> {
    let mut records = results(store)?;
    records.extend(store.cache_mounts.list()?.into_iter().map(|mount| Record {
        id: format!("mount-{}", &mount.folder[..mount.folder.len().min(12)]),
        kind: CACHE_MOUNT.to_owned(),
        description: format!("cached mount {} from exec", mount.name),
        created: mount.created,
        used: mount.used,
        uses: mount.uses,
        in_use: mount.in_use,
        shared: false,
        mutable: true,
        parent: None,
        size: mount.size,
        subject: Subject::Mount(mount.folder),
    }));
    Ok(records)
}

fn results(store: &Store) -> Result<Vec<Record>> {
    let held = store.snapshots.while_pinned(HashSet::clone);
    let rows: Vec<(Record, Option<i64>)> = store.db.view("list results", |c| {
        let mut rows = c.prepare(
            "WITH RECURSIVE named(id) AS (
                SELECT snapshot FROM named_snapshots WHERE snapshot IS NOT NULL
                UNION SELECT s.id FROM snapshots s WHERE s.chain_id IN (
                    SELECT l.value FROM blobs b, json_each(b.labels) l
                    WHERE l.key LIKE 'containerd.io/gc.ref.snapshot.%')
                UNION SELECT s.parent FROM snapshots s JOIN named ON s.id = named.id WHERE s.parent IS NOT NULL)
             SELECT r.id, r.kind, r.description, r.created, r.used, r.uses, r.snapshot, s.layer,
                (SELECT max(p.id) FROM results p WHERE p.snapshot = s.parent),
                r.snapshot IN (SELECT id FROM named)
             FROM results r LEFT JOIN snapshots s ON s.id = r.snapshot ORDER BY r.id",
        )?;
        let rows = rows.query_map([], |row| {
            let id: i64 = row.get(0)?;
            let record = Record {
                id: id.to_string(),
                kind: row.get(1)?,
                description: row.get(2)?,
                created: from_nanos(row.get(3)?),
                used: from_nanos(row.get(4)?),
                uses: row.get(5)?,
                in_use: row.get::<_, Option<i64>>(6)?.is_some_and(|snapshot| held.contains(&snapshot)),
                shared: row.get::<_, Option<bool>>(9)?.unwrap_or(false),
                mutable: false,
                parent: row.get::<_, Option<i64>>(8)?.map(|parent| parent.to_string()),
                size: 0,
                subject: Subject::Result(id),
            };
            Ok((record, row.get(7)?))
        })?;
        rows.collect()
    })?;
    // Several results may share a layer: its bytes count once.
    let mut counted = HashSet::new();
    let sized = rows.into_iter().map(|(mut record, layer)| {
        if let Some(layer) = layer.filter(|layer| counted.insert(*layer)) {
            record.size = store.snapshots.layer_size(LayerId::of_row(layer))?;
        }
        Ok(record)
    });
    sized.collect()
}

/// Forgets records that match until the policy is kept, those first that served longest ago; what was forgotten.
pub fn prune(store: &Store, policy: &Policy, matches: &dyn Fn(&Record) -> bool) -> Result<Vec<Record>> {
    // What is looked up on the way (sizes) is noted: that takes room, too.
    let _room = store.db.make_room();
    let records = list(store)?;
    let (free, _) = space(store.root()).map_err(Error::file("ask for the free space of", store.root()))?;
    let chosen = choose(records, policy, free, SystemTime::now(), matches);
    let mut forgotten = Vec::new();
    for record in &chosen {
        if let Subject::Mount(folder) = &record.subject
            && store.cache_mounts.remove(folder)?
        {
            forgotten.push(record.clone());
        }
    }
    let ids: Vec<i64> = chosen.iter().filter_map(Record::result).collect();
    store.results.forget_all(&ids)?;
    forgotten.extend(chosen.into_iter().filter(|record| record.result().is_some()));
    Ok(forgotten)
}

/// The records to forget, leaves first.
fn choose(
    records: Vec<Record>,
    policy: &Policy,
    free: u64,
    now: SystemTime,
    matches: &dyn Fn(&Record) -> bool,
) -> Vec<Record> {
    let used: u64 = records.iter().map(|record| record.size).sum();
    let allowed = policy.allowed(used, free);
    let mut children: HashMap<&str, usize> = HashMap::new();
    for parent in records.iter().filter_map(|record| record.parent.as_deref()) {
        *children.entry(parent).or_default() += 1;
    }
    let number: HashMap<&str, usize> =
        records.iter().enumerate().map(|(number, record)| (record.id.as_str(), number)).collect();
    let may_go = |record: &Record| {
        let young = policy
            .keep_duration
            .is_some_and(|keep| now.duration_since(record.used).map_or(true, |unused| unused < keep));
        !(record.in_use || young || record.shared && !policy.all) && matches(record)
    };
    let entry = |number: usize| Reverse((records[number].used, number));
    let leaf = |children: &HashMap<&str, usize>, record: &Record| {
        children.get(record.id.as_str()).is_none_or(|count| *count == 0)
    };
    let mut oldest: BinaryHeap<_> = (0..records.len())
        .filter(|&n| leaf(&children, &records[n]) && may_go(&records[n]))
        .map(entry)
        .collect();
    let (mut left, mut chosen) = (used, Vec::new());
    while let Some(Reverse((_, n))) = oldest.pop() {
        if allowed.is_some_and(|allowed| left <= allowed) {
            break;
        }
        let record = &records[n];
        left -= record.size;
        chosen.push(record.clone());
        let Some(parent) = record.parent.as_deref() else { continue };
        if let Some(count) = children.get_mut(parent) {
            *count -= 1;
        }
        if let Some(&above) = number.get(parent)
            && leaf(&children, &records[above])
            && may_go(&records[above])
        {
            oldest.push(entry(above));
        }
    }
    chosen
}

#[cfg(test)]
mod tests;
