//! Content store: immutable blobs by digest, shared by all namespaces, seen by those that committed them.
//!
//! Callers are the containerd services, imports, exports and unpacking.
//!
//! # On disk
//! ```text
//! content/blobs/sha256/<hex>      verified, never written again
//! layers/<id>                     holds the blob that is its tar, instead of a file here
//! content/ingest/<ns>/<hash>/     data, ref: partial, resumed by the next writer of the same ref
//! content/puts/<random>/          the same, of ourselves: nobody resumes them, a start removes them
//! ```
//!
//! # Invariants
//! A blob's name is the hash of its bytes: `Writer::commit` hashes before it renames. Data is synced, then the folder,
//! then the row is committed with FULL, then the caller is answered.
//!
//! # Concurrency
//! An ingest has one writer at a time; a second one gets `IngestBusy`. A crash leaves partial ingests, which resume.
//!
//! # Sources
//! containerd `core/content/content.go`; spec containerd-api 1.3.

mod adopt;
mod ingests;
mod layers;
mod namespaced;
mod writer;

use std::{
    collections::HashSet,
    convert::Infallible,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use buildd_api::containerd::containerd::events::ContentDelete;
use buildd_oci::digest::{Algorithm, Digest};
use rusqlite::{OptionalExtension, params};
use writer::Claim;

use crate::{
    db::{Db, TAR_OF_BLOB, from_nanos, to_nanos},
    disk::{self, sync_dir},
    error::{Error, Result},
    label::{self, Labels, labels_of},
    layer::Blob,
    write_behind::WriteBehind,
};

pub use namespaced::Namespaced;
pub use writer::Writer;

const COLUMNS: &str = "SELECT digest, size, labels, created, updated FROM blobs";

/// Folder of the ingests that no client names, below the store's.
pub(crate) const PUTS: &str = "puts";

/// What a namespace knows of a blob.
#[derive(Clone, Debug)]
pub struct Info {
    /// Its name.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Notes.
    pub labels: Labels,
    /// When it was committed here.
    pub created: SystemTime,
    /// When its labels changed last.
    pub updated: SystemTime,
}

/// A partial blob.
#[derive(Clone, Debug)]
pub struct Status {
    /// The ref it is written under.
    pub name: String,
    /// Bytes so far.
    pub offset: u64,
    /// Bytes expected; 0 if unknown.
    pub total: u64,
    /// When it began.
    pub started: SystemTime,
    /// When it was written to last.
    pub updated: SystemTime,
}

/// The store.
#[derive(Debug)]
pub struct Content {
    dir: PathBuf,
    db: Arc<Db>,
    /// Ingests that have a writer now.
    busy: Arc<Mutex<HashSet<PathBuf>>>,
    /// Held while a file and its row come or go together.
    files: Arc<Mutex<()>>,
}

impl Content {
    /// Opens the store in `dir`.
    pub fn open(dir: PathBuf, db: Arc<Db>) -> Result<Self> {
        for folder in ["blobs/sha256", "blobs/sha512", "ingest"] {
            let path = dir.join(folder);
            disk::create_folders(&path).map_err(Error::file("create folder", &path))?;
        }
        // Nobody can resume these.
        let puts = dir.join(PUTS);
        match disk::remove_folder(&puts) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &puts)(error));
            }
            _ => {}
        }
        let content = Self { dir, db, busy: Arc::default(), files: Arc::default() };
        content.remove_orphans()?;
        content.remove_broken_ingests()?;
        for folder in ["blobs", "."] {
            sync_dir(&content.dir.join(folder))?;
        }
        Ok(content)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// Opens a blob that some namespace has.
    pub fn open_blob(&self, digest: &Digest) -> Result<Blob> {
        let path = self.blob(digest);
        match File::open(&path).and_then(Blob::whole) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.open_in_layer(digest),
            opened => opened.map_err(Error::file("open", &path)),
        }
    }

    /// What `ns` knows of a blob. A collection that is at work leaves it to whoever asked.
    pub fn info(&self, ns: &str, digest: &Digest) -> Result<Info> {
        self.db
            .read_found("read a blob's row", |c| {
                self.db.found(ns, digest);
                let sql = format!("{COLUMNS} WHERE ns = ? AND digest = ?");
                c.query_row(&sql, params![ns, digest.to_string()], read_info).optional()
            })?
            .flatten()
            .ok_or_else(|| Error::NotFound { what: "content", name: digest.to_string() })
    }

    /// The blobs of `ns`, by digest.
    pub fn list(&self, ns: &str) -> Result<Vec<Info>> {
        self.db.view("list blobs", |c| {
            let mut rows = c.prepare(&format!("{COLUMNS} WHERE ns = ? ORDER BY digest"))?;
            let infos = rows.query_map([ns], read_info)?;
            Ok(infos.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
        })
    }

    /// The blobs of `ns` that are the tar with this digest, as it is or compressed.
    pub fn of_tar(&self, ns: &str, diff_id: &Digest) -> Result<Vec<Info>> {
        let infos = self.db.read_found("look for a layer's blobs", |c| {
            // Two looks, each with an index of its own.
            let mut rows = c.prepare_cached(&format!(
                "{COLUMNS} WHERE ns = ?1 AND digest = ?2 UNION {COLUMNS} INDEXED BY blobs_tar
                 WHERE ns = ?1 AND {TAR_OF_BLOB} = ?2 ORDER BY digest"
            ))?;
            let infos = rows.query_map(params![ns, diff_id.to_string()], read_info)?;
            let infos: Vec<Info> =
                infos.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect();
            infos.iter().for_each(|info| self.db.found(ns, &info.digest));
            Ok(infos)
        })?;
        Ok(infos)
    }

    /// Changes the labels of a blob in one transaction; if `change` refuses, nothing changes.
    pub fn update_labels<E>(
        &self,
        ns: &str,
        digest: &Digest,
        change: impl FnOnce(&mut Labels) -> Result<(), E>,
    ) -> Result<Result<Info, E>> {
        let (text, now) = (digest.to_string(), to_nanos(SystemTime::now()));
        let changed = self.db.write_durable("label a blob", |tx| {
            let write =
                format!("UPDATE blobs SET labels = ?3, updated = {now} WHERE ns = ?1 AND digest = ?2");
            let select = "SELECT labels FROM blobs WHERE ns = ?1 AND digest = ?2";
            label::update(tx, [select, &write], [ns, &text], change)
        })?;
        match changed {
            None => Err(Error::NotFound { what: "content", name: text }),
            Some(Err(refused)) => Ok(Err(refused)),
            Some(Ok(_)) => self.info(ns, digest).map(Ok),
        }
    }

    /// Adds labels to a blob, and replaces those of the same names.
    pub fn add_labels(&self, ns: &str, digest: &Digest, labels: Labels) -> Result<()> {
        let add = |all: &mut Labels| -> Result<(), Infallible> {
            all.extend(labels);
            Ok(())
        };
        self.update_labels(ns, digest, add).map(drop)
    }

    /// Takes a blob out of `ns`; the file goes when no namespace has it.
    pub fn delete(&self, ns: &str, digest: &Digest) -> Result<()> {
        let text = digest.to_string();
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let (changed, left) = self.db.delete_durable("delete a blob's row", |tx| {
            let changed = tx.execute("DELETE FROM blobs WHERE ns = ? AND digest = ?", params![ns, text])?;
            let leased = "DELETE FROM lease_resources WHERE ns = ? AND kind = 'content' AND id = ?";
            tx.execute(leased, params![ns, text])?;
            let left: i64 =
                tx.query_row("SELECT count(*) FROM blobs WHERE digest = ?", [&text], |row| row.get(0))?;
            Ok((changed, left))
        })?;
        if changed == 0 {
            return Err(Error::NotFound { what: "content", name: text });
        }
        self.db.events.publish(ns, "/content/delete", &ContentDelete { digest: text });
        if left == 0 {
            self.remove_file(digest)?;
        }
        Ok(())
    }

    /// Removes the files of blobs that no row names.
    pub(crate) fn remove_files(&self, digests: &[Digest]) -> Result<()> {
        for digest in digests {
            let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            let named: bool = self.db.read("look for a blob", |c| {
                let sql = "SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = ?)";
                c.query_row(sql, [digest.to_string()], |row| row.get(0))
            })?;
            if !named {
                self.remove_file(digest)?;
            }
        }
        Ok(())
    }

    /// Removes what a crash left between a file and its row.
    fn remove_orphans(&self) -> Result<()> {
        let known: HashSet<String> = self.db.read("list blobs", |c| {
            // In the order of the table, so from there and not from an index: one that is damaged is found before anything is removed.
            let mut rows = c.prepare("SELECT digest FROM blobs ORDER BY ns, digest")?;
            let digests = rows.query_map([], |row| row.get(0))?;
            digests.collect()
        })?;
        for algorithm in ["sha256", "sha512"] {
            let folder = self.dir.join("blobs").join(algorithm);
            for entry in fs::read_dir(&folder).map_err(Error::file("list", &folder))?.flatten() {
                let name = format!("{algorithm}:{}", entry.file_name().to_string_lossy());
                if !known.contains(&name) {
                    disk::remove_file(&entry.path()).map_err(Error::file("remove", entry.path()))?;
                }
            }
        }
        Ok(())
    }

    /// Starts or resumes an ingest.
    pub fn writer(&self, ns: &str, name: &str, total: u64, expected: Option<Digest>) -> Result<Writer> {
        if let Some(digest) = expected.filter(|digest| self.info(ns, digest).is_ok()) {
            return Err(Error::AlreadyExists { what: "content", name: digest.to_string() });
        }
        self.open_ingest(self.ingest(ns, name), ns, name, total, expected)
    }

    fn open_ingest(
        &self,
        dir: PathBuf,
        ns: &str,
        name: &str,
        total: u64,
        expected: Option<Digest>,
    ) -> Result<Writer> {
        if !self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.clone()) {
            return Err(Error::IngestBusy { name: name.to_owned() });
        }
        let claim = Claim { busy: self.busy.clone(), dir: dir.clone() };
        disk::create_folders(&dir).map_err(Error::file("create folder", &dir))?;
        let (ref_file, written) = (dir.join("ref"), format!("{total}\n{name}"));
        // One that is resumed keeps its ref, for a crash could leave it empty.
        if fs::read(&ref_file).map_or(true, |there| there != written.as_bytes()) {
            disk::writing(&ref_file)
                .and_then(|()| fs::write(&ref_file, written))
                .map_err(Error::file("write", ref_file))?;
        }
        let path = dir.join("data");
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = file.map_err(Error::file("open", &path))?;
        let mut digester = expected.map_or(Algorithm::Sha256, |digest| digest.algorithm()).digester();
        io::copy(&mut file, &mut digester).map_err(Error::file("read", &path))?;
        Ok(Writer {
            ns: ns.to_owned(),
            name: name.to_owned(),
            file: WriteBehind::new(file),
            digester,
            expected,
            total,
            blobs: self.dir.join("blobs"),
            db: self.db.clone(),
            files: self.files.clone(),
            claim,
        })
    }

    fn ingest(&self, ns: &str, name: &str) -> PathBuf {
        self.dir.join("ingest").join(ns).join(Digest::of(name.as_bytes()).hex())
    }

    /// The partial blobs of `ns`.
    pub fn statuses(&self, ns: &str) -> Result<Vec<Status>> {
        let dir = self.dir.join("ingest").join(ns);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::File { operation: "list", path: dir, source: error }),
        };
        Ok(entries.flatten().filter_map(|entry| status(&entry.path())).collect())
    }

    /// The namespaces that have partial blobs, whether they have anything else or not.
    pub(crate) fn ingesting(&self) -> Result<Vec<String>> {
        let dir = self.dir.join("ingest");
        let entries = fs::read_dir(&dir).map_err(Error::file("list", &dir))?.flatten();
        Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Drops a partial blob that nobody writes to.
    pub(crate) fn expire(&self, ns: &str, name: &str) -> Result<()> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        match busy.contains(&self.ingest(ns, name)) {
            true => Ok(()),
            false => self.abort(ns, name),
        }
    }

    /// Drops a partial blob.
    pub fn abort(&self, ns: &str, name: &str) -> Result<()> {
        let dir = self.ingest(ns, name);
        disk::remove_folder(&dir).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound { what: "ingest", name: name.to_owned() },
            _ => Error::File { operation: "remove", path: dir, source: error },
        })
    }

    /// Takes a whole blob of unknown digest.
    pub fn put(&self, ns: &str, data: &mut dyn Read, labels: &Labels) -> Result<(Digest, u64)> {
        let name = format!("put-{:032x}", rand::random::<u128>());
        let dir = self.dir.join(PUTS).join(&name);
        let written = self.open_ingest(dir.clone(), ns, &name, 0, None).and_then(|mut writer| {
            writer.copy_from(data)?;
            Ok(writer)
        });
        let writer = match written {
            Ok(writer) => writer,
            Err(error) => {
                // If it stays, a start removes it.
                let _ = disk::remove_folder(&dir);
                return Err(error);
            }
        };
        let size = writer.offset();
        match writer.commit(0, None, labels) {
            Ok(digest) => Ok((digest, size)),
            Err(Error::AlreadyExists { name: digest, .. }) => Ok((digest.parse()?, size)),
            Err(error) => Err(error),
        }
    }

    /// The store as one namespace sees it, for copies.
    pub fn in_namespace(self: &Arc<Self>, ns: &str) -> Namespaced {
        Namespaced::new(self.clone(), ns)
    }
}

fn read_info(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Info>> {
    let text: String = row.get(0)?;
    let size: i64 = row.get(1)?;
    let labels: String = row.get(2)?;
    let Ok(digest) = text.parse() else { return Ok(None) };
    Ok(Some(Info {
        digest,
        size: size.unsigned_abs(),
        labels: labels_of(&labels),
        created: from_nanos(row.get(3)?),
        updated: from_nanos(row.get(4)?),
    }))
}

fn status(dir: &Path) -> Option<Status> {
    let text = fs::read_to_string(dir.join("ref")).ok()?;
    let (total, name) = text.split_once('\n')?;
    // A power cut can leave a part of it.
    (dir.file_name()? == Digest::of(name.as_bytes()).hex().as_str()).then_some(())?;
    let meta = fs::metadata(dir.join("data")).ok()?;
    let updated = meta.modified().ok()?;
    let started = fs::metadata(dir).and_then(|m| m.created()).unwrap_or(updated);
    Some(Status { name: name.to_owned(), offset: meta.len(), total: total.parse().ok()?, started, updated })
}

#[cfg(test)]
mod tests;
