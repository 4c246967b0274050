//! What is fetched, linked and made when a client's tree comes again.

use std::{fs, os::unix::fs::MetadataExt};

use buildd_store::layer::Time;

use super::*;

fn file(path: &str, size: u64, seconds: i64) -> Entry {
    Entry {
        kind: EntryKind::File { size },
        mode: 0o644,
        mtime: Time { seconds, nanos: 7 },
        ..Entry::directory(PathBuf::from(path))
    }
}

/// Makes the sink of one form.
type New = fn(&Path, Option<Arc<SyncedTree>>) -> Result<TreeSink>;

/// A place of each form, not there yet for a layer file.
fn forms() -> [(New, bool); 2] {
    [(TreeSink::folder, true), (TreeSink::file, false)]
}

/// Plays the client and the daemon: sends the entries, and the bytes of those that are wanted, the last file first. How many were.
fn sync(
    sink: Result<TreeSink>,
    base: Option<&Arc<SyncedTree>>,
    files: &[(&str, &str, i64)],
) -> (Option<SyncedTree>, usize) {
    let mut sink = sink.expect("a sink");
    let mut beside = base.map(|base| Beside::new(Arc::clone(base)));
    let mut wanted = Vec::new();
    let mut take = |sink: &mut TreeSink, id, entry: Entry| match beside
        .as_mut()
        .and_then(|beside| beside.same(&entry))
    {
        Some(number) => sink.known(number..number + 1).expect("a known entry"),
        None => {
            wanted.extend(matches!(entry.kind, EntryKind::File { size: 1.. }).then_some(id));
            sink.entry(id, entry).expect("an entry");
        }
    };
    for (id, (path, text, seconds)) in (0_u32..).zip(files) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            take(&mut sink, 1000 + id, Entry::directory(PathBuf::from(parent)));
        }
        take(&mut sink, id, file(path, text.len() as u64, *seconds));
    }
    for id in wanted.iter().rev() {
        for byte in files[*id as usize].1.as_bytes() {
            sink.write(*id, &[*byte]).expect("bytes");
        }
    }
    wanted.iter().for_each(|id| sink.close(*id).expect("whole"));
    (sink.finish().expect("finish"), wanted.len())
}

/// The tree as somebody sees it.
fn seen(place: &Path) -> (PathBuf, Option<std::os::fd::OwnedFd>) {
    match place.is_dir() {
        true => (place.to_owned(), None),
        false => {
            let mount = buildd_fs::overlay::erofs(place, None).expect("a mount");
            (buildd_fs::path::through(&mount), Some(mount))
        }
    }
}

#[test]
fn only_what_differs_is_fetched_and_an_equal_tree_is_not_made() {
    let mut digests = Vec::new();
    for (new, folder) in forms() {
        let dir = tempfile::tempdir().expect("a folder");
        let place = |name: &str| {
            let path = dir.path().join(name);
            if folder {
                fs::create_dir(&path).expect("a folder");
            }
            path
        };
        let (one, two, three, four) = (place("1"), place("2"), place("3"), place("4"));
        let files =
            [("a", "first", 1), ("d/b", "second", 2), ("e", "", 3), ("f", "third", 4), ("g", "fourth", 5)];
        let (first, fetched) = sync(new(&one, None), None, &files);
        assert_eq!(fetched, 4);
        let first = Arc::new(first.expect("a new tree"));
        digests.push(first.digest());
        let (same, fetched) = sync(new(&two, Some(first.clone())), Some(&first), &files);
        assert!(same.is_none() && fetched == 0);
        // The same size, another time.
        let mut changed = files;
        changed[1] = ("d/b", "SECOND", 9);
        let (next, fetched) = sync(new(&three, Some(first.clone())), Some(&first), &changed);
        assert_eq!(fetched, 1);
        assert_ne!(next.expect("a new tree").digest(), first.digest());
        let (tree, _mount) = seen(&three);
        let text = |name: &str| fs::read_to_string(tree.join(name)).expect("a file");
        assert_eq!(["a", "d/b", "e", "f", "g"].map(text), ["first", "SECOND", "", "third", "fourth"]);
        assert_eq!(fs::metadata(tree.join("d/b")).expect("a file").mtime(), 9);
        let (tree, _mount) = seen(&one);
        assert_eq!(fs::read_to_string(tree.join("d/b")).expect("untouched"), "second");
        // One file fewer is a difference too.
        let (fewer, fetched) = sync(new(&four, Some(first.clone())), Some(&first), &files[..4]);
        assert!(fewer.is_some() && fetched == 0);
        let (tree, _mount) = seen(&four);
        assert!(tree.join("d/b").exists() && tree.join("f").exists() && !tree.join("g").exists());
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_what_came_of_it() {
    for (new, folder) in forms() {
        let dir = tempfile::tempdir().expect("a folder");
        let place = dir.path().join("1");
        if folder {
            fs::create_dir(&place).expect("a folder");
        }
        let mut sink = new(&place, None).expect("a sink");
        let names = ["after", "longer", "shorter"];
        for (id, path) in (0..).zip(names) {
            sink.entry(id, file(path, 600, 1)).expect("an entry");
        }
        let link = Entry { kind: EntryKind::Hardlink("longer".into()), ..file("linked", 0, 1) };
        if !folder {
            sink.entry(3, link).expect("a link");
        }
        for (id, pieces) in [(0, 1), (1, 5), (2, 0)] {
            for piece in 0..pieces {
                sink.write(id, &[b'0' + piece; 600]).expect("bytes");
            }
            sink.close(id).expect("whole");
        }
        assert!(sink.write(7, b"x").is_err(), "never announced");
        sink.finish().expect("finish").expect("a tree");
        let (tree, _mount) = seen(&place);
        let lengths =
            ["longer", "shorter", "after"].map(|name| fs::read(tree.join(name)).expect("a file").len());
        assert_eq!(lengths, [3000, 0, 600]);
        let longer = fs::read(tree.join("longer")).expect("a file");
        assert!(longer.chunks(600).zip(b'0'..).all(|(chunk, byte)| chunk == [byte; 600]));
        if !folder {
            assert_eq!(fs::metadata(tree.join("linked")).expect("a link").nlink(), 2);
        }
    }
}

#[test]
fn a_base_that_is_gone_is_told_so_that_all_is_fetched() {
    let dir = tempfile::tempdir().expect("a folder");
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    fs::create_dir(&one).expect("a folder");
    fs::create_dir(&two).expect("a folder");
    let (first, _) = sync(TreeSink::folder(&one, None), None, &[("a", "first", 1), ("b", "x", 1)]);
    fs::remove_file(one.join("a")).expect("collected meanwhile");
    let first = Arc::new(first.expect("a new tree"));
    let mut sink = TreeSink::folder(&two, Some(first)).expect("a sink");
    sink.known(0..1).expect("put off");
    let refused = sink.entry(1, file("b", 2, 2)).expect_err("nothing to link");
    assert_eq!(refused.kind(), buildd_oci::ErrorKind::NotFound);
    let file = dir.path().join("3");
    let (first, _) = sync(TreeSink::file(&file, None), None, &[("a", "first", 1)]);
    fs::remove_file(&file).expect("collected meanwhile");
    let refused = TreeSink::file(&dir.path().join("4"), first.map(Arc::new)).expect_err("no earlier layer");
    assert_eq!(refused.kind(), buildd_oci::ErrorKind::NotFound);
}

#[test]
fn a_client_that_sends_all_files_at_once_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut sink = TreeSink::file(&dir.path().join("1"), None).expect("a sink");
    let ids = 0..u32::try_from(MAX_AT_ONCE).expect("few") + 1;
    ids.clone().for_each(|id| sink.entry(id, file(&format!("{id:05}"), 2, 1)).expect("an entry"));
    ids.clone().take(MAX_AT_ONCE).for_each(|id| sink.write(id, b"x").expect("bytes"));
    let refused = sink.write(ids.end - 1, b"x").expect_err("one too many").to_string();
    assert!(refused.contains("the bytes of more than 4096 files come at once"), "{refused}");
    sink.close(0).expect("whole");
    sink.write(ids.end - 1, b"x").expect("there is room again");
}
