//! Upgrades of the schema: the old version or the new one, never neither.

use std::{fs, path::Path};

use super::*;

/// A database of an earlier version with a row in it.
fn earlier(path: &Path, version: usize) -> Connection {
    let connection = Connection::open(path).expect("a file");
    connection.pragma_update(None, "journal_mode", "WAL").expect("a log");
    // Whatever a transaction writes goes to the log at once, committed or not.
    connection.pragma_update(None, "cache_size", 1).expect("no cache");
    SCHEMA[..version].iter().try_for_each(|sql| connection.execute_batch(sql)).expect("tables");
    connection.pragma_update(None, "user_version", i64::try_from(version).expect("few")).expect("a version");
    if version > 0 {
        connection
            .execute("INSERT INTO leases (ns, id, labels, created) VALUES ('ns', 'kept', '{}', 1)", [])
            .expect("a row");
    }
    connection
}

fn version_of(path: &Path) -> usize {
    let connection = Connection::open(path).expect("a file");
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version");
    usize::try_from(version).expect("few")
}

/// The files as a crash leaves them at this moment.
fn crashed(from: &Path, to: &Path) {
    for name in ["buildd.db", "buildd.db-wal"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).expect("a copy");
        }
    }
}

#[test]
fn f_05_a_change_of_form_that_is_cut_off_leaves_the_old_one() {
    for version in 0..SCHEMA.len() {
        for done in 0..=SCHEMA.len() - version {
            let (dir, after) =
                (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
            let mut connection = earlier(&dir.path().join("buildd.db"), version);
            let tx = connection.transaction().expect("a transaction");
            SCHEMA[version..version + done].iter().try_for_each(|sql| tx.execute_batch(sql)).expect("tables");
            tx.pragma_update(None, "user_version", i64::try_from(SCHEMA.len()).expect("few"))
                .expect("a version");
            crashed(dir.path(), after.path());
            let path = after.path().join("buildd.db");
            assert_eq!(
                version_of(&path),
                version,
                "cut off after {done} of the changes from version {version}"
            );
            let db = Db::open(&path).expect("it is brought to the latest version");
            let count = db.read("count", |c| {
                c.query_row("SELECT count(*) FROM leases", [], |row| row.get::<_, usize>(0))
            });
            assert_eq!(count.expect("a count"), usize::from(version > 0));
            drop(db);
            assert_eq!(version_of(&path), SCHEMA.len());
        }
    }
}

#[test]
fn f_48_a_form_of_a_newer_daemon_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("buildd.db");
    drop(earlier(&path, SCHEMA.len()));
    let connection = Connection::open(&path).expect("a file");
    connection.pragma_update(None, "user_version", 1000).expect("a version");
    drop(connection);
    let error = Db::open(&path).expect_err("a newer version");
    assert!(error.to_string().contains("use a newer buildd"), "{error}");
    assert_eq!(version_of(&path), 1000);
}
