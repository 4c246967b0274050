//! Namespaces: names that keep clients' things apart, with labels of their own.
//!
//! One is there once somebody made it or put something into it. One that is not empty is not deleted.
//!
//! # Sources
//! containerd `core/metadata/namespaces.go`; spec containerd-api 6.2.

use std::sync::Arc;

use buildd_api::containerd::containerd::events::{NamespaceCreate, NamespaceDelete, NamespaceUpdate};
use rusqlite::{OptionalExtension, params};

use crate::{
    db::Db,
    error::{Error, Result},
    identifier,
    label::{self, Labels, labels_of, labels_text},
};

/// What a namespace may hold: the table and the word for its rows.
const HOLDINGS: [(&str, &str); 5] = [
    ("images", "images"),
    ("blobs", "blobs"),
    ("containers", "containers"),
    ("named_snapshots", "snapshots"),
    ("leases", "leases"),
];

/// The namespaces of one root.
#[derive(Debug)]
pub struct Namespaces {
    db: Arc<Db>,
}

impl Namespaces {
    /// The namespaces in this database.
    pub fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// All of them, with their labels.
    pub fn list(&self) -> Result<Vec<(String, Labels)>> {
        let used = HOLDINGS.map(|(table, _)| format!("SELECT ns FROM {table}")).join(" UNION ");
        let sql = format!(
            "SELECT used.name, coalesce(n.labels, '{{}}') FROM (SELECT name FROM namespaces UNION {used}) used
             LEFT JOIN namespaces n ON n.name = used.name ORDER BY used.name"
        );
        self.db.read("list namespaces", |c| {
            let mut rows = c.prepare(&sql)?;
            let all = rows.query_map([], |row| {
                let labels: String = row.get(1)?;
                Ok((row.get(0)?, labels_of(&labels)))
            })?;
            all.collect()
        })
    }

    /// The labels of one. Compat: one that nobody has used yet has none, which is no error.
    pub fn labels(&self, name: &str) -> Result<Labels> {
        identifier::check(name)?;
        let text: Option<String> = self.db.read("read a namespace", |c| {
            c.query_row("SELECT labels FROM namespaces WHERE name = ?", [name], |row| row.get(0)).optional()
        })?;
        Ok(text.map(|text| labels_of(&text)).unwrap_or_default())
    }

    /// Makes one.
    pub fn create(&self, name: &str, labels: &Labels) -> Result<()> {
        identifier::check(name)?;
        let new = self.db.write_durable("create a namespace", |tx| {
            tx.execute("INSERT OR IGNORE INTO namespaces VALUES (?, ?)", params![name, labels_text(labels)])
        })?;
        match new {
            0 => Err(Error::AlreadyExists { what: "namespace", name: name.to_owned() }),
            _ => {
                let labels = labels.clone().into_iter().collect();
                let made = NamespaceCreate { name: name.to_owned(), labels };
                self.db.events.publish(name, "/namespaces/create", &made);
                Ok(())
            }
        }
    }

    /// Changes its labels in one transaction, and makes it if it is not there; if `change` refuses, nothing changes.
    pub fn update_labels<E>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Labels) -> Result<(), E>,
    ) -> Result<Result<Labels, E>> {
        identifier::check(name)?;
        let changed = self.db.write_durable("label a namespace", |tx| {
            tx.execute("INSERT OR IGNORE INTO namespaces VALUES (?, '{}')", [name])?;
            let write = "UPDATE namespaces SET labels = ?2 WHERE name = ?1";
            label::update(tx, ["SELECT labels FROM namespaces WHERE name = ?1", write], [name], change)
        })?;
        let changed = changed.ok_or_else(|| Error::NotFound { what: "namespace", name: name.to_owned() })?;
        if let Ok(labels) = &changed {
            let labels = labels.clone().into_iter().collect();
            let told = NamespaceUpdate { name: name.to_owned(), labels };
            self.db.events.publish(name, "/namespaces/update", &told);
        }
        Ok(changed)
    }

    /// Deletes an empty one.
    pub fn delete(&self, name: &str) -> Result<()> {
        identifier::check(name)?;
        let (held, known) = self.db.delete_durable("delete a namespace", |tx| {
            let mut held = Vec::new();
            for (table, word) in HOLDINGS {
                let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE ns = ?)");
                if tx.query_row(&sql, [name], |row| row.get(0))? {
                    held.push(word);
                }
            }
            let known = match held.is_empty() {
                true => tx.execute("DELETE FROM namespaces WHERE name = ?", [name])?,
                false => 1,
            };
            Ok((held, known))
        })?;
        match (held.is_empty(), known) {
            (true, 0) => Err(Error::NotFound { what: "namespace", name: name.to_owned() }),
            (true, _) => {
                let gone = NamespaceDelete { name: name.to_owned() };
                self.db.events.publish(name, "/namespaces/delete", &gone);
                Ok(())
            }
            (false, _) => Err(Error::Precondition {
                what: "namespace",
                name: name.to_owned(),
                reason: format!("must be empty, but it still has {}", held.join(", ")),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_with_something_in_it_is_listed_and_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = crate::root::Store::open(dir.path()).expect("a store");
        let names =
            || store.namespaces.list().expect("list").into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        store.namespaces.create("empty", &Labels::new()).expect("create");
        store.leases.create("used", "lease", &Labels::new()).expect("a lease");
        assert_eq!(names(), ["empty", "used"]);
        let refused = store.namespaces.delete("used").expect_err("not empty");
        assert!(refused.to_string().contains("leases"), "{refused}");
        store.leases.delete("used", "lease").expect("delete");
        assert_eq!(
            store.namespaces.delete("used").expect_err("gone").kind(),
            buildd_oci::ErrorKind::NotFound
        );
        store.namespaces.delete("empty").expect("delete");
        assert!(names().is_empty());
    }
}
