//! Database: all metadata in one SQLite file, with one owner.
//!
//! Blobs and layers are plain files beside it; a row is written after its file is complete and removed before it.
//! `write` commits with `synchronous = NORMAL`: it survives a crash of the process, not a power cut. `write_durable`
//! commits with FULL: when it returns, the rows and all earlier ones are on disk.
//!
//! # Concurrency
//! One connection writes, behind a mutex; a transaction is short and does no I/O but its own. Others read (`readers`), and never wait for it. Long
//! looks have connections of their own (`view`): they see what was committed when they began, and hold up nobody.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use readers::Readers;
use rusqlite::{Connection, OpenFlags, Transaction};

use crate::{
    disk,
    error::{Error, Result},
    event::Events,
    reserve::{Reserve, Room},
};

mod node;
mod readers;
mod touched;

pub use node::Node;
pub(crate) use touched::Watch;

/// How long a file that SQLite has locked for itself is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// Pages of 4 KiB in the log before they go to the database: two syncs, for which whoever writes then waits.
const LOG_PAGES: u32 = 4096;
/// Rows that one transaction of a long work writes, about: some milliseconds' worth.
pub(crate) const BATCH: usize = 256;
/// The longest that others have their turn between two of them.
const TURN: Duration = Duration::from_millis(20);

/// Lets others have their turn after a batch, as long as it took: the lock is not fair, and who waits gets it only while nobody else wants it.
pub(crate) fn give_way(began: Instant) {
    thread::sleep(began.elapsed().min(TURN));
}

/// What makes each schema version from the one before; a database of a later version is refused.
const SCHEMA: [&str; 5] = [FIRST, USAGE, LAYER_BLOBS, REMOTE_FILES, INDEXES];

const FIRST: &str = "
CREATE TABLE namespaces (name TEXT PRIMARY KEY, labels TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE images (ns TEXT, name TEXT, target TEXT NOT NULL, labels TEXT NOT NULL, created INTEGER, updated INTEGER,
    PRIMARY KEY (ns, name)) WITHOUT ROWID;
CREATE TABLE blobs (ns TEXT, digest TEXT, size INTEGER NOT NULL, labels TEXT NOT NULL, created INTEGER, updated INTEGER,
    PRIMARY KEY (ns, digest)) WITHOUT ROWID;
CREATE TABLE leases (ns TEXT, id TEXT, labels TEXT NOT NULL, created INTEGER, PRIMARY KEY (ns, id)) WITHOUT ROWID;
CREATE TABLE lease_resources (ns TEXT, lease TEXT, kind TEXT, id TEXT, PRIMARY KEY (ns, lease, kind, id)) WITHOUT ROWID;
CREATE TABLE containers (ns TEXT, id TEXT, record BLOB NOT NULL, created INTEGER, updated INTEGER,
    PRIMARY KEY (ns, id)) WITHOUT ROWID;
CREATE TABLE layers (id INTEGER PRIMARY KEY AUTOINCREMENT, diff_id TEXT, size INTEGER NOT NULL, boot TEXT NOT NULL,
    durable INTEGER NOT NULL);
CREATE TABLE snapshots (id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER REFERENCES snapshots(id),
    layer INTEGER NOT NULL REFERENCES layers(id), chain_id TEXT, boot TEXT NOT NULL, durable INTEGER NOT NULL,
    created INTEGER NOT NULL);
CREATE INDEX snapshots_parent ON snapshots(parent);
CREATE UNIQUE INDEX snapshots_chain ON snapshots(chain_id);
CREATE TABLE named_snapshots (ns TEXT, snapshotter TEXT, name TEXT, kind TEXT NOT NULL, parent TEXT NOT NULL,
    snapshot INTEGER REFERENCES snapshots(id), upper INTEGER, labels TEXT NOT NULL, created INTEGER, updated INTEGER,
    PRIMARY KEY (ns, snapshotter, name)) WITHOUT ROWID;
CREATE TABLE results (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, exec TEXT NOT NULL,
    snapshot INTEGER, description TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE INDEX results_key ON results(key);
CREATE TABLE contents (result INTEGER NOT NULL, selector TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (result, selector)) WITHOUT ROWID;
CREATE TABLE aliases (key TEXT PRIMARY KEY, canonical TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (key TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
";

/// What `usage` reports beyond the results themselves.
const USAGE: &str = "
ALTER TABLE results ADD COLUMN kind TEXT NOT NULL DEFAULT 'regular';
ALTER TABLE results ADD COLUMN uses INTEGER NOT NULL DEFAULT 1;
CREATE TABLE cache_mounts (folder TEXT PRIMARY KEY, name TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL,
    uses INTEGER NOT NULL) WITHOUT ROWID;
";

/// Which layer files are the only copy of the blob that is their tar.
const LAYER_BLOBS: &str = "
ALTER TABLE layers ADD COLUMN blob INTEGER NOT NULL DEFAULT 0;
CREATE INDEX layers_diff_id ON layers(diff_id);
";

/// What servers said of the files that builds fetched.
const REMOTE_FILES: &str = "
CREATE TABLE remote_files (request TEXT PRIMARY KEY, etag TEXT NOT NULL, modified TEXT NOT NULL, name TEXT NOT NULL,
    digest TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
";

/// Whatever a call looks for is found without reading a whole table; and which layers were the upper of a client's snapshot, until that is
/// committed under its name.
const INDEXES: &str = r#"
CREATE INDEX blobs_digest ON blobs(digest);
CREATE INDEX blobs_tar ON blobs(ns, CASE WHEN json_valid(labels) THEN labels ->> '$."containerd.io/uncompressed"' END);
CREATE INDEX lease_resources_id ON lease_resources(ns, kind, id);
CREATE INDEX snapshots_layer ON snapshots(layer);
CREATE INDEX snapshots_unsynced ON snapshots(id) WHERE durable = 0;
CREATE INDEX named_snapshots_snapshot ON named_snapshots(snapshot);
CREATE INDEX results_snapshot ON results(snapshot);
ALTER TABLE layers ADD COLUMN upper INTEGER;
CREATE INDEX layers_upper ON layers(upper) WHERE upper IS NOT NULL;
"#;

/// The digest of a compressed blob's tar, by the words of its index.
pub(crate) const TAR_OF_BLOB: &str =
    r#"CASE WHEN json_valid(labels) THEN labels ->> '$."containerd.io/uncompressed"' END"#;

/// All tables; those that others refer to come first.
pub(crate) const TABLES: [&str; 15] = [
    "namespaces",
    "images",
    "blobs",
    "leases",
    "lease_resources",
    "containers",
    "layers",
    "snapshots",
    "named_snapshots",
    "results",
    "contents",
    "aliases",
    "records",
    "cache_mounts",
    "remote_files",
];

/// How a database that must be there is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// With the schema version that it has, which must be the latest.
    AsItIs,
    /// Brought to the latest schema version.
    Upgraded,
}

/// The metadata.
#[derive(Debug)]
pub struct Db {
    /// The one that writes.
    connection: Mutex<Connection>,
    readers: Readers,
    path: PathBuf,
    reserve: Reserve,
    /// Tells what was committed.
    pub(crate) events: Events,
    found: touched::Found,
}

impl Db {
    /// Opens or creates the database; the caller holds the root's lock.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).map_err(Error::database("open the file"))?;
        Self::prepare(connection, path, Existing::Upgraded)
    }

    /// Opens a database that is there.
    pub fn open_existing(path: &Path, existing: Existing) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(Error::database("open the file"))?;
        Self::prepare(connection, path, existing)
    }

    fn prepare(connection: Connection, path: &Path, existing: Existing) -> Result<Self> {
        let fail = Error::database("prepare the file");
        let prepare = || -> rusqlite::Result<i64> {
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "foreign_keys", "ON")?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
            connection.query_row("PRAGMA user_version", [], |row| row.get(0))
        };
        let version = prepare().map_err(fail)?;
        let latest = SCHEMA.len();
        let present = usize::try_from(version).unwrap_or(usize::MAX);
        let Some(missing) = SCHEMA.get(present..) else {
            return Err(Error::Precondition {
                what: "database",
                name: path.display().to_string(),
                reason: format!(
                    "has schema version {version}, this buildd reads up to {latest}: use a newer buildd"
                ),
            });
        };
        if existing == Existing::AsItIs && !missing.is_empty() {
            return Err(Error::Precondition {
                what: "database",
                name: path.display().to_string(),
                reason: format!(
                    "has schema version {version}, the latest is {latest}: start buildd on it once"
                ),
            });
        }
        let reserve = Reserve::of(path.parent().unwrap_or(Path::new("/")));
        if existing == Existing::Upgraded {
            reserve.fill();
        }
        let connection = Mutex::new(connection);
        let (events, found) = Default::default();
        let db =
            Self { connection, readers: Readers::new(path), path: path.to_owned(), reserve, events, found };
        if !missing.is_empty() {
            db.write_durable("upgrade the schema", |tx| {
                missing.iter().try_for_each(|step| tx.execute_batch(step))?;
                tx.pragma_update(None, "user_version", i64::try_from(latest).unwrap_or_default())
            })?;
        }
        Ok(db)
    }

    /// Reads in one consistent view.
    pub fn read<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.readers.look(work).map_err(Error::database(operation))
    }

    /// The same for somebody who will rely on what is found, and says so with `found`: a collection that is at work leaves it.
    pub(crate) fn read_found<T>(
        &self,
        operation: &'static str,
        work: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let before = self.found.rounds();
        if !before.at_work() {
            let found = self.readers.look(&work).map_err(Error::database(operation))?;
            // Nobody began to collect meanwhile: what comes later sees whatever relies on it by then.
            if self.found.rounds() == before {
                return Ok(found);
            }
        }
        work(&self.lock()).map_err(Error::database(operation))
    }

    /// The same beside whoever writes, for long looks. What is committed later is not seen.
    pub(crate) fn view<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let look = || {
            let mut connection = readers::open(&self.path)?;
            let tx = connection.transaction()?;
            work(&tx)
        };
        look().map_err(Error::database(operation))
    }

    /// One transaction that survives a crash of this process.
    pub fn write<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.lock();
        disk::committing(&self.path, false).map_err(Error::file("write to", &self.path))?;
        transact(&mut connection, work).map_err(Error::database(operation))
    }

    /// One transaction that survives a power cut once this returns.
    pub fn write_durable<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.lock();
        disk::committing(&self.path, true).map_err(Error::file("write to", &self.path))?;
        let durable = || {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let done = transact(&mut connection, work);
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            done
        };
        durable().map_err(Error::database(operation))
    }

    /// The same for a deletion: it has the reserve to write to, where the disk is full.
    pub fn delete_durable<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let _room = self.make_room();
        self.write_durable(operation, work)
    }

    /// Room on a full disk for deletions that take several transactions.
    pub(crate) fn make_room(&self) -> Room<'_> {
        self.reserve.room()
    }

    /// Moves all of the log into the file, so that the file is all there is.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        let emptied = self.lock().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        emptied.map_err(Error::database("empty the log"))
    }

    /// A panic inside a transaction rolled it back: the connection is sound.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn transact<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let value = work(&tx)?;
    tx.commit()?;
    Ok(value)
}

/// A time as the database holds it: nanoseconds since 1970.
pub fn to_nanos(time: SystemTime) -> i64 {
    let nanos = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

/// The time of a row.
pub fn from_nanos(nanos: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

#[cfg(test)]
mod tests;
