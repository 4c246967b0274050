//! The content store: ingests that commit, resume, and fail without a trace.

use std::sync::Arc;

use buildd_oci::digest::Digest;

use super::{Content, Labels};
use crate::{
    db::Db,
    disk::{
        Step,
        watch::{Seen, watch},
    },
    error::Error,
};

fn store(dir: &std::path::Path) -> Arc<Content> {
    let db = Arc::new(Db::open(&dir.join("db")).expect("a database"));
    Arc::new(Content::open(dir.join("content"), db).expect("a store"))
}

#[test]
fn a_blob_is_committed_once_and_read_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let content = store(dir.path());
    let (digest, size) = content.put("one", &mut b"hello".as_slice(), &Labels::new()).expect("a blob");
    assert_eq!((digest, size), (Digest::of(b"hello"), 5));
    assert_eq!(content.put("one", &mut b"hello".as_slice(), &Labels::new()).expect("again"), (digest, 5));
    assert_eq!(std::io::read_to_string(content.open_blob(&digest).expect("open")).expect("read"), "hello");
    assert_eq!(content.info("one", &digest).expect("a row").size, 5);
    assert!(matches!(content.info("two", &digest), Err(Error::NotFound { .. })), "another namespace sees it");
    content.delete("one", &digest).expect("a deletion");
    assert!(content.open_blob(&digest).is_err());
    assert!(content.statuses("one").expect("a list").is_empty());
}

#[test]
fn an_ingest_resumes_where_it_stopped() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut writer = store(dir.path()).writer("ns", "r", 6, None).expect("a writer");
    writer.write(b"abc").expect("a write");
    drop(writer);
    let content = store(dir.path());
    assert_eq!(content.statuses("ns").expect("a list")[0].offset, 3);
    let mut writer = content.writer("ns", "r", 6, None).expect("a writer");
    assert_eq!(writer.offset(), 3);
    assert!(matches!(content.writer("ns", "r", 6, None), Err(Error::IngestBusy { .. })));
    assert!(matches!(writer.seek(2), Err(Error::IngestOffset { .. })));
    writer.write(b"def").expect("a write");
    let digest = writer.commit(6, Some(Digest::of(b"abcdef")), &Labels::new()).expect("a commit");
    assert_eq!(digest, Digest::of(b"abcdef"));
    assert!(matches!(content.writer("ns", "x", 0, Some(digest)), Err(Error::AlreadyExists { .. })));
}

#[test]
fn wrong_sizes_and_digests_publish_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let content = store(dir.path());
    let write = |name: &str| {
        let mut writer = content.writer("ns", name, 0, None).expect("a writer");
        writer.write(b"abc").expect("a write");
        writer
    };
    let wrong = write("digest").commit(0, Some(Digest::of(b"else")), &Labels::new());
    assert!(matches!(wrong, Err(Error::DigestMismatch { .. })), "{wrong:?}");
    let wrong = write("size").commit(4, None, &Labels::new());
    assert!(matches!(wrong, Err(Error::SizeMismatch { .. })), "{wrong:?}");
    assert!(content.list("ns").expect("a list").is_empty());
    assert!(content.open_blob(&Digest::of(b"abc")).is_err());
    content.abort("ns", "digest").expect("an abort");
    assert!(matches!(content.abort("ns", "digest"), Err(Error::NotFound { .. })));
}

#[test]
fn what_is_here_is_not_synced_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let content = store(dir.path());
    let put = |ns: &str| {
        let seen = Arc::new(Seen::default());
        let _watching = watch(dir.path(), seen.clone());
        content.put(ns, &mut b"hello".as_slice(), &Labels::new()).expect("a blob");
        (seen.count(Step::SyncFile), seen.count(Step::Commit { durable: true }))
    };
    assert_eq!(put("one"), (1, 1));
    assert_eq!(put("one"), (0, 0));
    assert_eq!(put("two"), (1, 1), "another namespace may not know of it");
    std::fs::remove_file(content.blob(&Digest::of(b"hello"))).expect("what nobody should do");
    assert_eq!(put("one"), (1, 1), "what is gone comes again");
    assert!(content.open_blob(&Digest::of(b"hello")).is_ok());
    assert_eq!(std::fs::read_dir(dir.path().join("content/puts")).expect("a folder").count(), 0);
}
