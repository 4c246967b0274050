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
mod blob;
mod layers;
mod namespaced;

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use buildd_api::containerd::containerd::events::{ContentCreate, ContentDelete};
use buildd_oci::digest::{Algorithm, Digest, Digester};
use rusqlite::{OptionalExtension, params};

use crate::{
    db::{Db, from_nanos, labels_of, labels_text, to_nanos},
    error::{Error, Result},
    write_behind::WriteBehind,
};

pub use blob::Blob;
pub use namespaced::Namespaced;

/// Free notes on a blob, an image or a snapshot.
pub type Labels = BTreeMap<String, String>;

/// Folder of the ingests that no client names, below the store's.
const PUTS: &str = "puts";

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
            fs::create_dir_all(&path).map_err(Error::file("create folder", &path))?;
        }
        // Nobody can resume these.
        let puts = dir.join(PUTS);
        match fs::remove_dir_all(&puts) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &puts)(error));
            }
            _ => {}
        }
        let content = Self { dir, db, busy: Arc::default(), files: Arc::default() };
        content.remove_orphans()?;
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

    /// What `ns` knows of a blob.
    pub fn info(&self, ns: &str, digest: &Digest) -> Result<Info> {
        self.db
            .read("read a blob's row", |c| {
                c.query_row(
                    "SELECT digest, size, labels, created, updated FROM blobs WHERE ns = ? AND digest = ?",
                    params![ns, digest.to_string()],
                    read_info,
                )
                .optional()
            })?
            .flatten()
            .ok_or_else(|| Error::NotFound { what: "content", name: digest.to_string() })
    }

    /// The blobs of `ns`, by digest.
    pub fn list(&self, ns: &str) -> Result<Vec<Info>> {
        self.db.read("list blobs", |c| {
            let mut rows = c.prepare(
                "SELECT digest, size, labels, created, updated FROM blobs WHERE ns = ? ORDER BY digest",
            )?;
            let infos = rows.query_map([ns], read_info)?;
            Ok(infos.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
        })
    }

    /// Replaces the labels of a blob.
    pub fn set_labels(&self, ns: &str, digest: &Digest, labels: &Labels) -> Result<Info> {
        let changed = self.db.write_durable("label a blob", |tx| {
            tx.execute(
                "UPDATE blobs SET labels = ?, updated = ? WHERE ns = ? AND digest = ?",
                params![labels_text(labels), to_nanos(SystemTime::now()), ns, digest.to_string()],
            )
        })?;
        match changed {
            0 => Err(Error::NotFound { what: "content", name: digest.to_string() }),
            _ => self.info(ns, digest),
        }
    }

    /// Takes a blob out of `ns`; the file goes when no namespace has it.
    pub fn delete(&self, ns: &str, digest: &Digest) -> Result<()> {
        let text = digest.to_string();
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let (changed, left) = self.db.write_durable("delete a blob's row", |tx| {
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
            let mut rows = c.prepare("SELECT DISTINCT digest FROM blobs")?;
            let digests = rows.query_map([], |row| row.get(0))?;
            digests.collect()
        })?;
        for algorithm in ["sha256", "sha512"] {
            let folder = self.dir.join("blobs").join(algorithm);
            for entry in fs::read_dir(&folder).map_err(Error::file("list", &folder))?.flatten() {
                let name = format!("{algorithm}:{}", entry.file_name().to_string_lossy());
                if !known.contains(&name) {
                    fs::remove_file(entry.path()).map_err(Error::file("remove", entry.path()))?;
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
        fs::create_dir_all(&dir).map_err(Error::file("create folder", &dir))?;
        let written = format!("{total}\n{name}");
        fs::write(dir.join("ref"), written).map_err(Error::file("write", dir.join("ref")))?;
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
        fs::remove_dir_all(&dir).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound { what: "ingest", name: name.to_owned() },
            _ => Error::File { operation: "remove", path: dir, source: error },
        })
    }

    /// Takes a whole blob of unknown digest.
    pub fn put(&self, ns: &str, data: &mut dyn Read, labels: &Labels) -> Result<(Digest, u64)> {
        let name = format!("put-{:032x}", rand::random::<u128>());
        let dir = self.dir.join(PUTS).join(&name);
        let mut writer = self.open_ingest(dir.clone(), ns, &name, 0, None)?;
        if let Err(error) = writer.copy_from(data) {
            drop(writer);
            fs::remove_dir_all(&dir).map_err(Error::file("remove", &dir))?;
            return Err(error);
        }
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
    let meta = fs::metadata(dir.join("data")).ok()?;
    let updated = meta.modified().ok()?;
    let started = fs::metadata(dir).and_then(|m| m.created()).unwrap_or(updated);
    Some(Status { name: name.to_owned(), offset: meta.len(), total: total.parse().ok()?, started, updated })
}

/// Frees the ingest for the next writer.
#[derive(Debug)]
struct Claim {
    busy: Arc<Mutex<HashSet<PathBuf>>>,
    dir: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.dir);
    }
}

/// The one writer of an ingest; dropped without commit, the partial blob stays.
#[derive(Debug)]
pub struct Writer {
    ns: String,
    name: String,
    file: WriteBehind,
    digester: Digester,
    expected: Option<Digest>,
    total: u64,
    blobs: PathBuf,
    db: Arc<Db>,
    files: Arc<Mutex<()>>,
    claim: Claim,
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
        self.file.write_all(bytes).map_err(Error::file("write", self.claim.dir.join("data")))?;
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
        let data = self.claim.dir.join("data");
        self.file.file().sync_data().map_err(Error::file("sync", &data))?;
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.blobs.join(actual.algorithm().as_str());
        let path = folder.join(actual.hex());
        if !path.exists() {
            fs::rename(&data, &path).map_err(Error::file("publish", &path))?;
            sync_dir(&folder)?;
        }
        let new = self.db.write_durable("commit a blob's row", |tx| {
            let now = to_nanos(SystemTime::now());
            tx.execute(
                "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?, ?)",
                params![self.ns, actual.to_string(), written.cast_signed(), labels_text(labels), now, now],
            )
        })?;
        fs::remove_dir_all(&self.claim.dir).map_err(Error::file("remove", &self.claim.dir))?;
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

/// Syncs a folder, so that names in it survive a power cut.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::file("sync folder", path))
}

#[cfg(test)]
mod tests;
