//! What is fetched, linked and made when a client's tree comes again.

use std::{fs, os::unix::fs::MetadataExt};

use super::*;

fn file(path: &str, size: u64, seconds: i64) -> Entry {
    Entry {
        kind: EntryKind::File { size },
        mode: 0o644,
        mtime: Time { seconds, nanos: 7 },
        ..Entry::directory(PathBuf::from(path))
    }
}

/// Plays the client: sends the entries, and the bytes of those that are wanted. How many were.
fn sync(
    root: &Path,
    base: Option<Arc<SyncedTree>>,
    files: &[(&str, &str, i64)],
) -> (Option<SyncedTree>, usize) {
    let mut sink = TreeSink::new(root, base.clone()).expect("a sink");
    let mut wanted = Vec::new();
    for (path, text, seconds) in files {
        if let Some((parent, _)) = path.rsplit_once('/') {
            sink.entry(&Entry::directory(PathBuf::from(parent))).expect("a folder");
        }
        let entry = file(path, text.len() as u64, *seconds);
        if !base.as_ref().is_some_and(|base| base.has(&entry)) {
            wanted.push((path, text));
        }
        sink.entry(&entry).expect("an entry");
    }
    for (path, text) in &wanted {
        sink.write(Path::new(path), text.as_bytes()).expect("bytes");
        sink.close(Path::new(path));
    }
    (sink.finish().expect("finish"), wanted.len())
}

#[test]
fn only_what_differs_is_fetched_and_an_equal_tree_is_not_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir(&path).expect("a folder");
        path
    };
    let (one, two, three, four) = (place("1"), place("2"), place("3"), place("4"));
    let files = [("a", "first", 1), ("d/b", "second", 2), ("e", "", 3)];
    let (first, fetched) = sync(&one, None, &files);
    assert_eq!(fetched, 3);
    let first = Arc::new(first.expect("a new tree"));
    let (same, fetched) = sync(&two, Some(first.clone()), &files);
    assert!(same.is_none() && fetched == 0);
    assert_eq!(fs::read_dir(&two).expect("the folder").count(), 0);
    // The same size, another time.
    let changed = [("a", "first", 1), ("d/b", "SECOND", 9), ("e", "", 3)];
    let (next, fetched) = sync(&three, Some(first.clone()), &changed);
    assert_eq!(fetched, 1);
    assert!(next.is_some());
    assert_eq!(fs::read_to_string(three.join("a")).expect("linked"), "first");
    assert_eq!(fs::read_to_string(three.join("d/b")).expect("fetched"), "SECOND");
    assert_eq!(fs::metadata(three.join("d/b")).expect("a file").mtime(), 9);
    assert_eq!(fs::read_to_string(one.join("d/b")).expect("untouched"), "second");
    // One file fewer is a difference too.
    let (fewer, fetched) = sync(&four, Some(first), &files[..2]);
    assert!(fewer.is_some() && fetched == 0);
    assert!(four.join("d/b").exists() && !four.join("e").exists());
}

#[test]
fn a_base_that_is_gone_is_told_so_that_all_is_fetched() {
    let dir = tempfile::tempdir().expect("a folder");
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    fs::create_dir(&one).expect("a folder");
    fs::create_dir(&two).expect("a folder");
    let (first, _) = sync(&one, None, &[("a", "first", 1), ("b", "x", 1)]);
    fs::remove_file(one.join("a")).expect("collected meanwhile");
    let mut sink = TreeSink::new(&two, first.map(Arc::new)).expect("a sink");
    sink.entry(&file("a", 5, 1)).expect("put off");
    let refused = sink.entry(&file("b", 2, 2)).expect_err("nothing to link");
    assert_eq!(refused.kind(), buildd_oci::ErrorKind::NotFound);
}
