//! Layers: blobs whose only copy is the tar of a layer file.
//!
//! Unpacking calls `leave_to_layer` once an uncompressed layer is durable in its own form, an export `adopt_layer`; from then on that is where
//! the blob is read.
//!
//! # Invariants
//! A blob's own file goes only when a durable layer file has the same bytes; the collector keeps such a layer as long as a row names the blob.

use std::{
    io,
    path::{Path, PathBuf},
    sync::PoisonError,
    time::SystemTime,
};

use buildd_api::containerd::containerd::events::ContentCreate;
use buildd_oci::digest::Digest;
use rusqlite::{OptionalExtension, params};

use super::Content;
use crate::{
    db::to_nanos,
    disk::{self, sync_dir},
    error::{Error, Result},
    label::{Labels, labels_text},
    layer::{Blob, LayerId, open_tar, sync_layer},
};

impl Content {
    /// Whether a blob has a file of its own.
    pub fn has_file(&self, digest: &Digest) -> bool {
        self.blob(digest).exists()
    }

    /// Lets a layer file whose tar is this blob be its only copy, if the layer survives a power cut.
    pub fn leave_to_layer(&self, digest: &Digest, layer: LayerId) -> Result<()> {
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let tar = self.layer(layer.number());
        if !tar.is_file() {
            return Ok(());
        }
        if open_tar(&tar)?.is_none() {
            return Ok(());
        }
        let left = self.db.write_durable("leave a blob to its layer", |tx| {
            tx.execute(
                "UPDATE layers SET blob = 1 WHERE id = ? AND diff_id = ? AND durable = 1",
                params![layer.number(), digest.to_string()],
            )
        })?;
        match left {
            // It is not durable, or was collected this very moment.
            0 => Ok(()),
            _ => self.remove_file(digest),
        }
    }

    /// Gives a namespace the blob that is the tar of a layer file, which it makes durable; None if the layer has no such tar.
    pub fn adopt_layer(
        &self,
        ns: &str,
        digest: &Digest,
        layer: LayerId,
        labels: &Labels,
    ) -> Result<Option<u64>> {
        let path = self.layer(layer.number());
        if !path.is_file() {
            return Ok(None);
        }
        let Some(tar) = open_tar(&path)? else { return Ok(None) };
        sync_layer(&path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.db.write_durable("adopt a layer's blob", |tx| {
            let found = tx.execute(
                "UPDATE layers SET blob = 1, durable = 1 WHERE id = ? AND diff_id = ?",
                params![layer.number(), digest.to_string()],
            )?;
            if found == 0 {
                return Ok(None);
            }
            self.db.found(ns, digest);
            let now = to_nanos(SystemTime::now());
            let row =
                params![ns, digest.to_string(), tar.size().cast_signed(), labels_text(labels), now, now];
            tx.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?, ?)", row).map(Some)
        })?;
        if new == Some(1) {
            let made = ContentCreate { digest: digest.to_string(), size: tar.size().cast_signed() };
            self.db.events.publish(ns, "/content/create", &made);
        }
        Ok(new.map(|_| tar.size()))
    }

    pub(super) fn open_in_layer(&self, digest: &Digest) -> Result<Blob> {
        let layer: Option<i64> = self.db.read("find a blob's layer", |c| {
            let sql = "SELECT id FROM layers WHERE diff_id = ? AND blob = 1";
            c.query_row(sql, [digest.to_string()], |row| row.get(0)).optional()
        })?;
        let tar = layer.map(|layer| open_tar(&self.layer(layer))).transpose()?.flatten();
        tar.ok_or_else(|| Error::NotFound { what: "content", name: digest.to_string() })
    }

    fn layer(&self, id: i64) -> PathBuf {
        self.dir.with_file_name("layers").join(id.to_string())
    }

    /// Removes a blob's own file, if it has one. The caller holds `files`.
    pub(super) fn remove_file(&self, digest: &Digest) -> Result<()> {
        let path = self.blob(digest);
        match disk::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
