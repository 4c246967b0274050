//! Images: names in a namespace, each pointing at a manifest or index.
//!
//! A write is durable when it returns; a name never points at a blob that its namespace does not have.
//!
//! # Sources
//! containerd `core/images`; spec containerd-api 1.3, 6.

use std::{sync::Arc, time::SystemTime};

use buildd_api::containerd::containerd::services::images::v1::{ImageCreate, ImageDelete, ImageUpdate};
use buildd_oci::{descriptor::Descriptor, digest::Digest};
use rusqlite::{OptionalExtension, params};

use crate::{
    db::{Db, from_nanos, to_nanos},
    error::{Error, Result},
    label::{Labels, labels_of, labels_text},
};

/// A named image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its canonical name.
    pub name: String,
    /// Notes.
    pub labels: Labels,
    /// Its manifest or index.
    pub target: Descriptor,
    /// When the name was made.
    pub created: SystemTime,
    /// When it changed last.
    pub updated: SystemTime,
}

/// The image names of all namespaces.
#[derive(Debug)]
pub struct Images {
    db: Arc<Db>,
}

const COLUMNS: &str = "SELECT name, target, labels, created, updated FROM images WHERE ns = ?";

impl Images {
    /// The names in this database.
    pub fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// One image.
    pub fn get(&self, ns: &str, name: &str) -> Result<Image> {
        self.db
            .read("read an image", |c| {
                c.query_row(&format!("{COLUMNS} AND name = ?"), params![ns, name], read_image).optional()
            })?
            .flatten()
            .ok_or_else(|| Error::NotFound { what: "image", name: name.to_owned() })
    }

    /// All images of a namespace, by name.
    pub fn list(&self, ns: &str) -> Result<Vec<Image>> {
        self.db.view("list images", |c| {
            let mut rows = c.prepare(&format!("{COLUMNS} ORDER BY name"))?;
            let images = rows.query_map([ns], read_image)?;
            Ok(images.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
        })
    }

    /// Makes a name; one that exists is refused.
    pub fn create(&self, ns: &str, name: &str, target: &Descriptor, labels: &Labels) -> Result<Image> {
        self.insert(ns, name, target, labels, "INSERT OR IGNORE")?
            .then_some(())
            .ok_or_else(|| Error::AlreadyExists { what: "image", name: name.to_owned() })?;
        self.get(ns, name)
    }

    /// Tells that a name was made, or points elsewhere.
    fn tell(&self, ns: &str, name: &str, labels: &Labels, existed: bool) {
        let (name, labels) = (name.to_owned(), labels.clone().into_iter().collect());
        match existed {
            true => self.db.events.publish(ns, "/images/update", &ImageUpdate { name, labels }),
            false => self.db.events.publish(ns, "/images/create", &ImageCreate { name, labels }),
        }
    }

    /// Makes a name, or lets it point elsewhere.
    pub fn put(&self, ns: &str, name: &str, target: &Descriptor, labels: &Labels) -> Result<Image> {
        self.insert(ns, name, target, labels, "INSERT OR REPLACE")?;
        self.get(ns, name)
    }

    fn insert(&self, ns: &str, name: &str, target: &Descriptor, labels: &Labels, verb: &str) -> Result<bool> {
        if name.is_empty() {
            return Err(Error::Invalid {
                what: "image",
                name: String::new(),
                reason: "its name is empty".to_owned(),
            });
        }
        let target_text = target_text(target);
        let outcome = self.db.write_durable("write an image", |tx| {
            let held: Option<i64> = tx
                .query_row(
                    "SELECT size FROM blobs WHERE ns = ? AND digest = ?",
                    params![ns, target.digest.to_string()],
                    |row| row.get(0),
                )
                .optional()?;
            if held.is_none() {
                return Ok(None);
            }
            let now = to_nanos(SystemTime::now());
            let named = "SELECT EXISTS (SELECT 1 FROM images WHERE ns = ? AND name = ?)";
            let existed: bool = tx.query_row(named, [ns, name], |row| row.get(0))?;
            let sql = format!(
                "{verb} INTO images VALUES (?1, ?2, ?3, ?4,
                 coalesce((SELECT created FROM images WHERE ns = ?1 AND name = ?2), ?5), ?5)"
            );
            let written = tx.execute(&sql, params![ns, name, target_text, labels_text(labels), now])? > 0;
            Ok(Some((written, existed)))
        })?;
        let missing = || Error::NotFound { what: "content", name: target.digest.to_string() };
        let (written, existed) = outcome.ok_or_else(missing)?;
        if written {
            self.tell(ns, name, labels, existed);
        }
        Ok(written)
    }

    /// Changes what a name points at, and its labels, in one transaction; if `change` refuses, nothing changes.
    pub fn update<E>(
        &self,
        ns: &str,
        name: &str,
        change: impl FnOnce(&mut Image) -> Result<(), E>,
    ) -> Result<Result<Image, E>> {
        let outcome = self.db.write_durable("update an image", |tx| {
            let one = format!("{COLUMNS} AND name = ?");
            let Some(mut image) = tx.query_row(&one, params![ns, name], read_image).optional()?.flatten()
            else {
                return Ok(Changed::NoImage);
            };
            if let Err(refused) = change(&mut image) {
                return Ok(Changed::Refused(refused));
            }
            let held = "SELECT EXISTS (SELECT 1 FROM blobs WHERE ns = ? AND digest = ?)";
            let digest = image.target.digest;
            if !tx.query_row(held, params![ns, digest.to_string()], |row| row.get::<_, bool>(0))? {
                return Ok(Changed::NoTarget(digest));
            }
            image.updated = SystemTime::now();
            tx.execute(
                "UPDATE images SET target = ?, labels = ?, updated = ? WHERE ns = ? AND name = ?",
                params![
                    target_text(&image.target),
                    labels_text(&image.labels),
                    to_nanos(image.updated),
                    ns,
                    name
                ],
            )?;
            Ok(Changed::Written(Box::new(image)))
        })?;
        match outcome {
            Changed::NoImage => Err(Error::NotFound { what: "image", name: name.to_owned() }),
            Changed::NoTarget(digest) => Err(Error::NotFound { what: "content", name: digest.to_string() }),
            Changed::Refused(refused) => Ok(Err(refused)),
            Changed::Written(image) => {
                self.tell(ns, name, &image.labels, true);
                Ok(Ok(*image))
            }
        }
    }

    /// Removes a name, if given only while it points at `target`; its blobs go when nothing else needs them.
    pub fn delete(&self, ns: &str, name: &str, target: Option<&Digest>) -> Result<()> {
        let deleted = self.db.delete_durable("delete an image", |tx| {
            let one = format!("{COLUMNS} AND name = ?");
            let found = tx.query_row(&one, params![ns, name], read_image).optional()?.flatten();
            if let (Some(target), Some(image)) = (target, found)
                && image.target.digest != *target
            {
                return Ok(None);
            }
            tx.execute("DELETE FROM images WHERE ns = ? AND name = ?", [ns, name]).map(Some)
        })?;
        match (deleted, target) {
            (None, Some(target)) => Err(Error::NotFound { what: "image", name: format!("{name}@{target}") }),
            (None | Some(0), _) => Err(Error::NotFound { what: "image", name: name.to_owned() }),
            (Some(_), _) => {
                self.db.events.publish(ns, "/images/delete", &ImageDelete { name: name.to_owned() });
                Ok(())
            }
        }
    }
}

/// What came of an update.
enum Changed<E> {
    NoImage,
    NoTarget(Digest),
    Refused(E),
    Written(Box<Image>),
}

fn target_text(target: &Descriptor) -> String {
    serde_json::to_string(target).expect("strings and numbers have a JSON form")
}

fn read_image(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Image>> {
    let target: String = row.get(1)?;
    let labels: String = row.get(2)?;
    let Ok(target) = serde_json::from_str(&target) else { return Ok(None) };
    Ok(Some(Image {
        name: row.get(0)?,
        target,
        labels: labels_of(&labels),
        created: from_nanos(row.get(3)?),
        updated: from_nanos(row.get(4)?),
    }))
}
