//! Layers: each row has its file or folder, whole.
//!
//! A layer file proves itself: its tar hashes to the diff_id, its index to the checksum in the head. A folder proves only that it is there,
//! and not hollow: empty where bytes were counted.

use std::{collections::BTreeSet, fs, path::Path};

use buildd_oci::digest::Digest;
use rusqlite::types::Value;

use super::{Check, Class, Fix, blobs::hash, rows::LayerRow};
use crate::{
    error::{Error, Result},
    layer::{check_index, data_file_of, open_tar},
};

/// What an empty folder may take on disk.
const EMPTY_FOLDER: i64 = 4096;

impl Check<'_> {
    /// Every layer; those that are damaged are gone for all that comes after.
    pub(super) fn layers(&mut self) -> Result<()> {
        let synced = self.rows.snapshots.iter().filter(|(id, _)| !self.unsynced.contains(id));
        let kept: BTreeSet<i64> = synced.filter_map(|(_, row)| row.layer).collect();
        let blobs: BTreeSet<String> = self.rows.blobs.iter().map(|row| row.digest.clone()).collect();
        for (id, row) in self.rows.layers.clone() {
            let only_copy =
                row.blob == Some(1) && row.diff_id.as_ref().is_some_and(|diff_id| blobs.contains(diff_id));
            let path = self.root.join("layers").join(id.to_string());
            let fixes = vec![
                Fix::Row("DELETE FROM layers WHERE id = ?", vec![Value::Integer(id)]),
                Fix::Remove(path.clone()),
                Fix::Remove(data_file_of(&path)),
            ];
            if let Some(wrong) = wrong_row(&row) {
                self.gone.layers.insert(id, Class::Follows);
                self.report(Class::Damage, "layer", id.to_string(), wrong, fixes);
            } else if !only_copy && !kept.contains(&id) {
                // Reserved when the daemon ended, or not synced when the machine did.
                self.gone.layers.insert(id, Class::Leftover);
                self.report(Class::Leftover, "layer", id.to_string(), "no snapshot has it", fixes);
            } else if let Some(wrong) = wrong_file(&row, &path)? {
                self.gone.layers.insert(id, Class::Follows);
                self.report(Class::Damage, "layer", id.to_string(), wrong, fixes);
            }
        }
        Ok(())
    }
}

fn wrong_row(row: &LayerRow) -> Option<String> {
    let flag = |value: Option<i64>| matches!(value, Some(0 | 1));
    if let Some(text) = row.diff_id.as_ref().filter(|text| text.parse::<Digest>().is_err()) {
        return Some(format!("its diff_id {text:?} is no digest"));
    }
    if row.size.is_none_or(|size| size < 0) {
        return Some("its size is no number of bytes".to_owned());
    }
    match flag(row.durable) && flag(row.blob) {
        false => Some("its flags are neither 0 nor 1".to_owned()),
        true if row.boot.is_empty() => Some("it has no boot id".to_owned()),
        true => None,
    }
}

fn wrong_file(row: &LayerRow, path: &Path) -> Result<Option<String>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Some(format!("{} is missing", path.display())));
        }
        Err(error) => return Err(Error::file("look at", path)(error)),
    };
    if meta.is_dir() {
        let empty = fs::read_dir(path).map_err(Error::file("list", path))?.next().is_none();
        let hollow = empty && row.size.is_some_and(|size| size > EMPTY_FOLDER);
        let wrong = match (row.blob, hollow) {
            (Some(1), _) => Some("it is a folder, and its row says that it holds a blob"),
            (_, true) => Some("it is hollow: its folder is empty, its row counts bytes"),
            _ => None,
        };
        return Ok(wrong.map(str::to_owned));
    }
    if !meta.is_file() {
        return Ok(Some("it is neither a file nor a folder".to_owned()));
    }
    let tar = match open_tar(path) {
        Ok(tar) => tar,
        Err(Error::File { source, .. }) if source.kind() != std::io::ErrorKind::PermissionDenied => {
            return Ok(Some(format!("it cannot be read: {source}")));
        }
        Err(error) => return Err(error),
    };
    if let Err(Error::File { source, .. }) = check_index(path) {
        return Ok(Some(format!("it cannot be mounted: {source}")));
    }
    let expected = row.diff_id.as_ref().and_then(|text| text.parse::<Digest>().ok());
    let (Some(mut tar), Some(expected)) = (tar, expected) else {
        return Ok(
            (row.blob == Some(1)).then(|| "its row says that it holds a blob, and it has no tar".to_owned())
        );
    };
    Ok(match hash(&mut tar, &expected) {
        Ok((actual, _)) if actual == expected => None,
        Ok((actual, _)) => Some(format!("its tar hashes to {actual}, not to its diff_id {expected}")),
        Err(error) => Some(format!("it cannot be read: {error}")),
    })
}
