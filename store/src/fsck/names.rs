//! Names: images, leases, containers, namespaces; and the counters that new rows get their numbers from.

use std::collections::{BTreeMap, BTreeSet};

use buildd_api::containerd::containerd::services::containers::v1::Container;
use buildd_oci::{
    blob::MAX_DOCUMENT,
    descriptor::Descriptor,
    digest::Digest,
    manifest::{Index, Manifest},
    media_type,
};
use prost::Message;
use rusqlite::types::Value;

use super::{
    Check, Class, Fix,
    rows::{ImageRow, each, key, number, text},
};
use crate::{db::Db, error::Result, identifier};

/// Documents within documents that are looked through, as when an image is unpacked.
const MAX_DEPTH: usize = 4;

/// Whether a row's labels are no map of strings.
pub(super) fn labels_are_wrong(text: &str) -> bool {
    serde_json::from_str::<BTreeMap<String, String>>(text).is_err()
}

impl Check<'_> {
    /// Every image: its target, and all below it that is lost.
    pub(super) fn images(&mut self) -> Result<()> {
        let held: BTreeSet<(String, String)> =
            self.rows.blobs.iter().map(|row| (row.ns.clone(), row.digest.clone())).collect();
        for row in self.rows.images.clone() {
            let target = serde_json::from_str::<Descriptor>(&row.target);
            let found = match &target {
                Err(_) => Some((Class::Damage, "its target is no descriptor".to_owned())),
                Ok(_) if labels_are_wrong(&row.labels) || identifier::check(&row.ns).is_err() => {
                    Some((Class::Damage, "its labels or its namespace cannot be such".to_owned()))
                }
                Ok(target) if !held.contains(&(row.ns.clone(), target.digest.to_string())) => {
                    Some((Class::Damage, format!("it points at {}, which is not here", target.digest)))
                }
                Ok(target) => {
                    self.lost_below(&row, target).map(|lost| (Class::Follows, format!("needs {lost}")))
                }
            };
            if let Some((class, detail)) = found {
                let sql = "DELETE FROM images WHERE ns = ? AND name = ?";
                let subject = format!("{} {}", row.ns, row.name);
                self.report(class, "image", subject, detail, vec![Fix::Row(sql, row.key)]);
            }
        }
        Ok(())
    }

    /// A blob of an image that was here and is lost. What never came (other platforms) is none.
    fn lost_below(&self, row: &ImageRow, target: &Descriptor) -> Option<Digest> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![(target.clone(), 0)];
        while let Some((descriptor, depth)) = todo.pop() {
            let text = descriptor.digest.to_string();
            if self.gone.blobs.contains(&text)
                || self.gone.blob_rows.contains(&(row.ns.clone(), text.clone()))
            {
                return Some(descriptor.digest);
            }
            let document = depth == 0
                || media_type::is_index(&descriptor.media_type)
                || media_type::is_manifest(&descriptor.media_type);
            if !document || depth > MAX_DEPTH || !seen.insert(text) {
                continue;
            }
            let Some(bytes) = self.document(&descriptor.digest, MAX_DOCUMENT) else { continue };
            let children = match Manifest::parse(&bytes) {
                Ok(manifest) => manifest.layers.into_iter().chain([manifest.config]).collect(),
                Err(_) => Index::parse(&bytes).map(|index| index.manifests).unwrap_or_default(),
            };
            todo.extend(children.into_iter().map(|child| (child, depth + 1)));
        }
        None
    }

    /// Namespaces, leases and what they hold, containers.
    pub(super) fn names(&mut self, db: &Db) -> Result<()> {
        let (namespaces, leases, resources, containers) = db.read("read the tables of names", |c| {
            let two = |row: &rusqlite::Row<'_>| Ok((key(row, 2)?, text(row, 0)?, text(row, 1)?));
            Ok((
                each(c, "SELECT name, labels FROM namespaces", two)?,
                each(c, "SELECT ns, id, labels FROM leases", |row| {
                    Ok((key(row, 2)?, text(row, 0)?, text(row, 1)?, text(row, 2)?))
                })?,
                each(
                    c,
                    "SELECT ns, lease, kind, id FROM lease_resources r
                     WHERE NOT EXISTS (SELECT 1 FROM leases l WHERE l.ns = r.ns AND l.id = r.lease)",
                    |row| Ok((key(row, 4)?, text(row, 0)?, text(row, 1)?, text(row, 3)?)),
                )?,
                each(c, "SELECT ns, id, record FROM containers", |row| {
                    let record =
                        row.get_ref(2)?.as_blob().ok().and_then(|bytes| Container::decode(bytes).ok());
                    Ok((key(row, 2)?, text(row, 0)?, text(row, 1)?, record))
                })?,
            ))
        })?;
        for (key, name, labels) in namespaces {
            if identifier::check(&name).is_err() || labels_are_wrong(&labels) {
                let fix = Fix::Row("DELETE FROM namespaces WHERE name = ?", key[..1].to_vec());
                let detail = "its name or its labels cannot be such";
                self.report(Class::Damage, "namespace", name, detail, vec![fix]);
            }
        }
        for (key, ns, id, labels) in leases {
            if identifier::check(&ns).is_err() || labels_are_wrong(&labels) {
                let fixes = vec![
                    Fix::Row("DELETE FROM lease_resources WHERE ns = ? AND lease = ?", key.clone()),
                    Fix::Row("DELETE FROM leases WHERE ns = ? AND id = ?", key),
                ];
                let detail = "its labels or its namespace cannot be such";
                self.report(Class::Damage, "lease", format!("{ns} {id}"), detail, fixes);
            }
        }
        for (key, ns, lease, id) in resources {
            let sql = "DELETE FROM lease_resources WHERE ns = ? AND lease = ? AND kind = ? AND id = ?";
            let detail = format!("its lease {lease:?} has no row");
            let fix = Fix::Row(sql, key);
            self.report(Class::Damage, "leased thing", format!("{ns} {id}"), detail, vec![fix]);
        }
        for (key, ns, id, record) in containers {
            if record.is_none_or(|record| record.id != id) {
                let fix = Fix::Row("DELETE FROM containers WHERE ns = ? AND id = ?", key);
                let detail = "its record is not that of a container of this id";
                self.report(Class::Damage, "container", format!("{ns} {id}"), detail, vec![fix]);
            }
        }
        Ok(())
    }

    /// A number that was given is never given again, also after a deletion.
    pub(super) fn counters(&mut self, db: &Db) -> Result<()> {
        for (table, set) in [
            (
                "layers",
                "UPDATE sqlite_sequence SET seq = (SELECT coalesce(max(id), 0) FROM layers) WHERE name = 'layers'",
            ),
            (
                "snapshots",
                "UPDATE sqlite_sequence SET seq = (SELECT coalesce(max(id), 0) FROM snapshots) WHERE name = 'snapshots'",
            ),
            (
                "results",
                "UPDATE sqlite_sequence SET seq = (SELECT coalesce(max(id), 0) FROM results) WHERE name = 'results'",
            ),
        ] {
            let (counter, last) = db.read("read the counters", |c| {
                let counter =
                    each(c, &format!("SELECT seq FROM sqlite_sequence WHERE name = '{table}'"), |row| {
                        number(row, 0)
                    })?;
                let last =
                    c.query_row(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |row| row.get(0))?;
                Ok::<(_, i64), _>((counter, last))
            })?;
            // Before the first row there is no counter.
            let right = match counter.as_slice() {
                [] => last == 0,
                [Some(counter)] => *counter >= last,
                _ => false,
            };
            if !right {
                let again = vec![
                    Fix::Row(
                        "DELETE FROM sqlite_sequence WHERE name = ?",
                        vec![Value::Text(table.to_owned())],
                    ),
                    Fix::Row(
                        "INSERT INTO sqlite_sequence VALUES (?, 0)",
                        vec![Value::Text(table.to_owned())],
                    ),
                    Fix::Row(set, Vec::new()),
                ];
                let detail = format!("it is not {last} or more, the last number given");
                self.report(Class::Damage, "counter", table, detail, again);
            }
        }
        Ok(())
    }
}
