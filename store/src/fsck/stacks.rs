//! Stacks: snapshots, and the names that clients gave them.
//!
//! A parent's row is older than its child's, so its number is smaller: one pass in the order of numbers sees every parent first, and no
//! circle can be.

use std::collections::BTreeMap;

use buildd_oci::{config::chain_ids, digest::Digest};
use rusqlite::types::Value;

use super::{
    Check, Class, Fix,
    names::labels_are_wrong,
    rows::{NamedRow, SnapshotRow},
};
use crate::{identifier, snapshot::named::SNAPSHOTTERS};

/// What is known of the diff_ids of a stack: None once one is not known.
type Known = Option<Vec<Digest>>;

impl Check<'_> {
    /// Every snapshot: its layer, its parent, its chain id.
    pub(super) fn snapshots(&mut self) {
        let mut stacks: BTreeMap<i64, Known> = BTreeMap::new();
        for (id, row) in self.rows.snapshots.clone() {
            let fixes = vec![Fix::Row("DELETE FROM snapshots WHERE id = ?", vec![Value::Integer(id)])];
            let stack = self.stack(&row, &stacks);
            let found = if self.unsynced.contains(&id) {
                Some((Class::Leftover, "another boot left it unsynced".to_owned()))
            } else if let Some(cause) = self.stands_on(&row) {
                Some(cause)
            } else {
                self.wrong_snapshot(id, &row, &stack).map(|wrong| (Class::Damage, wrong))
            };
            stacks.insert(id, stack);
            if let Some((class, detail)) = found {
                self.gone.snapshots.insert(id, class.above());
                self.report(class, "snapshot", id.to_string(), detail, fixes);
            }
        }
    }

    fn stack(&self, row: &SnapshotRow, stacks: &BTreeMap<i64, Known>) -> Known {
        let below = match row.parent {
            None => Some(Vec::new()),
            Some(parent) => stacks.get(&parent).cloned().flatten(),
        };
        let mut stack = below?;
        stack.push(self.rows.layers.get(&row.layer?)?.diff_id.as_ref()?.parse().ok()?);
        Some(stack)
    }

    /// What of that which is gone a snapshot stands on.
    fn stands_on(&self, row: &SnapshotRow) -> Option<(Class, String)> {
        let layer = row.layer.and_then(|id| Some((*self.gone.layers.get(&id)?, format!("has layer {id}"))));
        let parent = row.parent;
        let parent =
            parent.and_then(|id| Some((*self.gone.snapshots.get(&id)?, format!("stands on snapshot {id}"))));
        // Damage outweighs what is left over.
        layer.into_iter().chain(parent).min_by_key(|(class, _)| *class)
    }

    fn wrong_snapshot(&self, id: i64, row: &SnapshotRow, stack: &Known) -> Option<String> {
        let layer = row.layer.and_then(|layer| self.rows.layers.get(&layer));
        let Some(layer) = layer else {
            return Some(format!("its layer {} has no row", row.layer.unwrap_or(-1)));
        };
        let parent = row.parent.map(|parent| (parent, self.rows.snapshots.get(&parent)));
        match parent {
            Some((parent, None)) => return Some(format!("its parent {parent} has no row")),
            Some((parent, _)) if parent >= id => return Some(format!("its parent {parent} is younger")),
            _ => {}
        }
        if !matches!(row.durable, Some(0 | 1)) || row.boot.is_empty() {
            return Some("its flags or its boot id are none".to_owned());
        }
        let below = parent.is_none_or(|(_, parent)| parent.is_some_and(|row| row.durable == Some(1)));
        if row.durable == Some(1) && !(below && layer.durable == Some(1)) {
            return Some("it is marked durable, what it stands on is not".to_owned());
        }
        let chain_id = row.chain_id.as_ref()?;
        match (chain_id.parse::<Digest>(), stack) {
            (Err(_), _) => Some(format!("its chain id {chain_id:?} is no digest")),
            (Ok(named), Some(stack)) => {
                let actual = chain_ids(stack).pop().filter(|actual| *actual != named)?;
                Some(format!("its chain id is {named}, its layers make {actual}"))
            }
            (Ok(_), None) => None,
        }
    }

    /// Every name of a client: its parent's name, its stack, its folders.
    pub(super) fn named_snapshots(&mut self) {
        let rows = self.rows.named.clone();
        let place = |row: &NamedRow, name: &str| (row.ns.clone(), row.snapshotter.clone(), name.to_owned());
        let mut found: BTreeMap<(String, String, String), (Class, String)> = BTreeMap::new();
        // Only a parent that is none is damage of the child's: what is wrong with the parent itself is found there.
        let kinds: BTreeMap<_, &str> =
            rows.iter().map(|row| (place(row, &row.name), row.kind.as_str())).collect();
        let uppers = rows.iter().fold(BTreeMap::<i64, usize>::new(), |mut uppers, row| {
            if let Some(upper) = row.upper {
                *uppers.entry(upper).or_default() += 1;
            }
            uppers
        });
        for row in &rows {
            let shared = row.upper.is_some_and(|upper| uppers.get(&upper) != Some(&1));
            let parent = kinds.get(&place(row, &row.parent)).copied();
            let orphan = !row.parent.is_empty() && matches!(parent, None | Some("active" | "view"));
            let wrong = match (self.wrong_name(row), shared, orphan) {
                (Some(wrong), ..) => Some((Class::Damage, wrong)),
                (None, true, _) => Some((Class::Damage, "another one has its folder too".to_owned())),
                (None, _, true) => {
                    Some((Class::Damage, format!("its parent {:?} is no committed snapshot", row.parent)))
                }
                _ => row
                    .snapshot
                    .and_then(|stack| {
                        Some((*self.gone.snapshots.get(&stack)?, format!("is a name of snapshot {stack}")))
                    })
                    .or_else(|| self.without_folder(row)),
            };
            if let Some(wrong) = wrong {
                found.insert(place(row, &row.name), wrong);
            }
        }
        // Names stand on names: until no more of them do.
        loop {
            let more: Vec<_> = rows
                .iter()
                .filter(|row| !found.contains_key(&place(row, &row.name)))
                .filter_map(|row| Some((row, found.get(&place(row, &row.parent))?.0)))
                .map(|(row, class)| {
                    (place(row, &row.name), (class.above(), format!("stands on {:?}", row.parent)))
                })
                .collect();
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        for row in &rows {
            let Some((class, detail)) = found.remove(&place(row, &row.name)) else { continue };
            self.drop_name(row, class, detail);
        }
    }

    fn drop_name(&mut self, row: &NamedRow, class: Class, detail: String) {
        let sql = "DELETE FROM named_snapshots WHERE ns = ? AND snapshotter = ? AND name = ?";
        let mut fixes = vec![Fix::Row(sql, row.key.clone())];
        let shared = |other: &NamedRow| other.upper == row.upper && other.key != row.key;
        if let Some(upper) = row.upper.filter(|_| !self.rows.named.iter().any(shared)) {
            fixes.push(Fix::Remove(self.root.join("named").join(upper.to_string())));
        }
        let subject = format!("{} {} {}", row.ns, row.snapshotter, row.name);
        self.report(class, "named snapshot", subject, detail, fixes);
    }

    /// A power cut takes the folder of one that nobody committed; a crash in the middle of its commit has moved it.
    fn without_folder(&self, row: &NamedRow) -> Option<(Class, String)> {
        let upper = row.upper?;
        let folder = self.root.join("named").join(upper.to_string());
        let whole = folder.join("fs").is_dir() && folder.join("work").is_dir();
        (!whole).then(|| (Class::Leftover, format!("its folder named/{upper} is not whole")))
    }

    fn wrong_name(&self, row: &NamedRow) -> Option<String> {
        let fail = |wrong: &str| Some(wrong.to_owned());
        if identifier::check(&row.ns).is_err() || !SNAPSHOTTERS.contains(&row.snapshotter.as_str()) {
            return fail("its namespace or its snapshotter cannot be one");
        }
        if labels_are_wrong(&row.labels) {
            return fail("its labels are no labels");
        }
        match (row.kind.as_str(), row.snapshot, row.upper) {
            ("committed", Some(_), None) => {}
            ("active" | "view", stack, Some(_)) if stack.is_none() == row.parent.is_empty() => {}
            ("active" | "view", _, Some(_)) => {
                return fail("it has a parent and no stack, or the other way round");
            }
            _ => return fail("its kind does not fit what it has"),
        }
        row.snapshot
            .filter(|stack| !self.rows.snapshots.contains_key(stack))
            .map(|stack| format!("its snapshot {stack} has no row"))
    }
}
