//! Ingests: what a start removes of the partial blobs that an earlier daemon left: those that nobody can resume.

use std::{fs, path::PathBuf};

use super::{Content, status};
use crate::{
    disk,
    error::{Error, Result},
};

impl Content {
    /// Removes partial blobs without a ref or without data: a crash came while they were begun, or when they had become a blob.
    pub(super) fn remove_broken_ingests(&self) -> Result<()> {
        for ns in self.ingesting()? {
            let dir = self.dir.join("ingest").join(ns);
            let entries = fs::read_dir(&dir).map_err(Error::file("list", &dir))?;
            let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            for path in paths.into_iter().filter(|path| path.is_dir() && status(path).is_none()) {
                disk::remove_folder(&path).map_err(Error::file("remove", path))?;
            }
        }
        Ok(())
    }
}
