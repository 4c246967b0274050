//! Writer: the one who writes to an ingest, and makes a blob of it.
//!
//! # Invariants
//! Bytes are synced, then the name in the folder, then the row; what fails on the way leaves neither a blob nor, if it was a sync, its bytes.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use buildd_api::containerd::containerd::events::ContentCreate;
use buildd_oci::digest::{Algorithm, Digest, Digester};
use rusqlite::{OptionalExtension as _, params};

use crate::{
    db::{Db, to_nanos},
    disk::{self, sync_dir},
    error::{Error, Result},
    label::{Labels, labels_text},
    write_behind::WriteBehind,
};

/// Frees the ingest for the next writer.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) busy: Arc<Mutex<HashSet<PathBuf>>>,
    pub(super) dir: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.dir);
    }
}

/// The one writer of an ingest; dropped without commit, the partial blob stays.
#[derive(Debug)]
pub struct Writer {
    pub(super) ns: String,
    pub(super) name: String,
    pub(super) file: WriteBehind,
    pub(super) digester: Digester,
    pub(super) expected: Option<Digest>,
    pub(super) total: u64,
    pub(super) blobs: PathBuf,
    pub(super) db: Arc<Db>,
    pub(super) files: Arc<Mutex<()>>,
    pub(super) claim: Claim,
}

impl Writer {
    /// The ref that it is written under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes so far.
    pub fn offset(&self) -> u64 {
        self.digester.size()
    }

    /// What is written by now, to be read from its beginning.
    pub fn written(&self) -> Result<impl Read + Send + use<>> {
        let path = self.claim.dir.join("data");
        let file = File::open(&path).map_err(Error::file("open", path))?;
        Ok(file.take(self.offset()))
    }

    /// Digest of the bytes so far.
    pub fn digest(&self) -> Digest {
        self.digester.clone().finish()
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = || self.claim.dir.join("data");
        let written = disk::writing(&self.claim.dir).and_then(|()| self.file.write_all(bytes));
        written.map_err(|error| Error::file("write", path())(error))?;
        self.digester.update(bytes);
        Ok(())
    }

    /// Appends all that `data` gives.
    pub fn copy_from(&mut self, data: &mut dyn Read) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match data.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => self.write(&buffer[..n])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::ReadLayer { source }),
            }
        }
    }

    /// Makes `offset` the end: 0 starts over, the present end is a no-op, all else is refused.
    pub fn seek(&mut self, offset: u64) -> Result<()> {
        if offset == self.offset() {
            return Ok(());
        }
        if offset != 0 {
            return Err(Error::IngestOffset { name: self.name.clone(), offset, size: self.offset() });
        }
        let path = self.claim.dir.join("data");
        let file = self.file.file_mut();
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .map_err(Error::file("truncate", path))?;
        self.digester = self.expected.map_or(Algorithm::Sha256, |digest| digest.algorithm()).digester();
        Ok(())
    }

    /// Whether the namespace has this blob, in a file of its own: then it is durable, and these bytes need not be.
    fn is_known(&self, digest: &Digest, path: &Path) -> Result<bool> {
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let row = self.db.read_found("look for a blob", |c| {
            self.db.found(&self.ns, digest);
            let sql = "SELECT 1 FROM blobs WHERE ns = ? AND digest = ?";
            c.query_row(sql, params![self.ns, digest.to_string()], |_| Ok(())).optional()
        })?;
        Ok(row.is_some() && path.exists())
    }

    /// Verifies, syncs and publishes the blob; `size` 0 and `expected` None mean unknown.
    pub fn commit(self, size: u64, expected: Option<Digest>, labels: &Labels) -> Result<Digest> {
        let actual = self.digest();
        let written = self.offset();
        for announced in [size, self.total].into_iter().filter(|size| *size != 0) {
            if announced != written {
                return Err(Error::SizeMismatch {
                    name: self.name.clone(),
                    expected: announced,
                    actual: written,
                });
            }
        }
        if let Some(expected) = expected.or(self.expected).filter(|expected| *expected != actual) {
            return Err(Error::DigestMismatch { expected, actual, size: written });
        }
        let folder = self.blobs.join(actual.algorithm().as_str());
        let path = folder.join(actual.hex());
        if self.is_known(&actual, &path)? {
            disk::remove_folder(&self.claim.dir).map_err(Error::file("remove", &self.claim.dir))?;
            return Err(Error::AlreadyExists { what: "content", name: actual.to_string() });
        }
        let data = self.claim.dir.join("data");
        if let Err(error) = disk::sync_file(self.file.file(), &data) {
            // The kernel forgets what it could not write, and a second sync would succeed: nobody goes on with these bytes.
            let _ = disk::remove_folder(&self.claim.dir);
            return Err(Error::file("sync", &data)(error));
        }
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let publish = !path.exists();
        if publish {
            disk::rename(&data, &path).map_err(Error::file("publish", &path))?;
        }
        let named = sync_dir(&folder).and_then(|()| {
            self.db.write_durable("commit a blob's row", |tx| {
                let now = to_nanos(SystemTime::now());
                let size = written.cast_signed();
                self.db.found(&self.ns, &actual);
                tx.execute(
                    "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?, ?)",
                    params![self.ns, actual.to_string(), size, labels_text(labels), now, now],
                )
            })
        });
        if named.is_err() && publish {
            // Without a row it is nothing; nor may a later commit take its name for synced.
            let _ = disk::remove_file(&path);
        }
        let new = named?;
        disk::remove_folder(&self.claim.dir).map_err(Error::file("remove", &self.claim.dir))?;
        match new {
            0 => Err(Error::AlreadyExists { what: "content", name: actual.to_string() }),
            _ => {
                let made = ContentCreate { digest: actual.to_string(), size: written.cast_signed() };
                self.db.events.publish(&self.ns, "/content/create", &made);
                Ok(actual)
            }
        }
    }
}
