//! What is known of a client's files, beside what the kernel shows of their layer file: the same, in the same order.

use std::{os::fd::OwnedFd, sync::Arc};

use buildd_fs::path::through;
use buildd_store::layer::Time;

use super::*;
use crate::session::{Beside, TreeSink};

/// A file that is larger than what is read at once.
const LARGE: usize = 700_001;

fn entry(path: &str, kind: EntryKind) -> Entry {
    let mtime = Time { seconds: 1_600_000_000 + path.len() as i64, nanos: 5 };
    Entry { kind, mode: 0o640, uid: 7, gid: 8, mtime, ..Entry::directory(path.into()) }
}

fn with_attributes(entry: Entry) -> Entry {
    // Version 2 with nothing in it: the kernel shows no other.
    let capability = [[0, 0, 0, 2].as_slice(), &[0; 16]].concat();
    let xattrs = [("user.colour".into(), b"red".to_vec()), ("security.capability".into(), capability)];
    Entry { xattrs: xattrs.into(), mode: 0o4755, ..entry }
}

/// What a client announces, in order, and how many bytes it sends of each file in the end.
fn announced() -> Vec<(Entry, usize)> {
    let file = |path, size| (entry(path, EntryKind::File { size: size as u64 }), size);
    let link = |path, target: &str| (entry(path, EntryKind::Hardlink(target.into())), 0);
    vec![
        file("a", 3),
        (with_attributes(entry("d", EntryKind::Directory)), 0),
        (with_attributes(entry("d/capable", EntryKind::File { size: 100 })), 100),
        (entry("d/empty", EntryKind::File { size: 0 }), 0),
        (entry("d/grew", EntryKind::File { size: 10 }), 5000),
        file("d/large", LARGE),
        (entry("d/shrank", EntryKind::File { size: 9000 }), 1),
        (entry("d/vanished", EntryKind::File { size: 9 }), 0),
        (entry("d.x", EntryKind::Directory), 0),
        link("d.x/again", "d/capable"),
        link("d.x/and-again", "d.x/again"),
        (with_attributes(entry("d.x/device", EntryKind::Block(8, 1))), 0),
        file("d.x/file", 513),
        (entry("d.x/null", EntryKind::Char(0, 0)), 0),
        (entry("d.x/pipe", EntryKind::Fifo), 0),
        (with_attributes(entry("link", EntryKind::Symlink("d/large".into()))), 0),
        file("z", 512),
    ]
}

fn bytes(id: u32, count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8 ^ id as u8).collect()
}

/// Plays the client; what `base` has is not sent again.
fn synced(place: &Path, base: Option<&Arc<SyncedTree>>, announced: &[(Entry, usize)]) -> Arc<SyncedTree> {
    let mut sink = TreeSink::file(place, base.cloned()).expect("a sink");
    let mut beside = base.map(|base| Beside::new(Arc::clone(base)));
    let mut wanted = Vec::new();
    for (id, (entry, size)) in (0..).zip(announced) {
        match beside.as_mut().and_then(|beside| beside.same(entry)) {
            Some(number) => sink.known(number..number + 1).expect("what is known"),
            None => {
                sink.entry(id, entry.clone()).expect("an entry");
                wanted.extend(matches!(entry.kind, EntryKind::File { size: 1.. }).then_some((id, *size)));
            }
        }
    }
    for (id, size) in wanted.into_iter().rev() {
        bytes(id, size).chunks(1000).for_each(|piece| sink.write(id, piece).expect("bytes"));
        sink.close(id).expect("whole");
    }
    Arc::new(sink.finish().expect("finish").expect("a tree").at(place.to_owned()))
}

/// The same tree as the kernel shows it and as it is known.
fn both(tree: &Arc<SyncedTree>) -> (Listing, Listing, OwnedFd) {
    let mount = buildd_fs::overlay::erofs(tree.place(), None).expect("a mount");
    let shown = through(&mount);
    let client = ClientFiles::open(Arc::clone(tree)).expect("a layer file");
    assert!(client.is_some(), "it is a layer file without a tar");
    (Listing::folder(&shown), Listing { tree: Tree::Folder(shown), client }, mount)
}

/// Everything that a listing says: entries, bytes and digests.
fn all(list: impl Fn(&mut Take<'_>) -> Result<()>) -> Vec<(Entry, Vec<u8>, Option<ContentHash>)> {
    let mut found = Vec::new();
    list(&mut |entry| {
        let (entry, mut bytes) = entry.open()?;
        let mut read = Vec::new();
        bytes.read_to_end(&mut read).expect("bytes");
        found.push((entry, read, None));
        Ok(())
    })
    .expect("a listing");
    let mut digests = Vec::new();
    list(&mut |entry| {
        digests.push(entry.digest()?);
        Ok(())
    })
    .expect("a listing");
    assert_eq!(digests.len(), found.len());
    found.iter_mut().zip(digests).for_each(|((_, _, known), digest)| *known = digest);
    found
}

#[test]
fn what_is_known_is_what_the_kernel_shows() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = synced(&dir.path().join("1"), None, &announced());
    let mut changed = announced();
    // A file that is smaller and later, one fewer, one more: the rest lies elsewhere now.
    changed[2] = (Entry { mtime: Time::default(), ..changed[2].0.clone() }, 99);
    changed.remove(5);
    changed.push((entry("zz", EntryKind::File { size: 4 }), 4));
    let second = synced(&dir.path().join("2"), Some(&first), &changed);
    let third = synced(&dir.path().join("3"), Some(&second), &announced()[1..]);
    for tree in [first, second, third] {
        let (shown, known, _mount) = both(&tree);
        let patterns = |list: &[&str]| Patterns::from_list(list).expect("patterns");
        for (include, exclude) in [
            (patterns(&[]), patterns(&[])),
            (patterns(&["d.x/*", "**/large"]), patterns(&[])),
            (patterns(&[]), patterns(&["d*", "!d/empty"])),
            (patterns(&["large"]), patterns(&["a*"])),
        ] {
            for folder in ["", "d", "d.x"] {
                let list = |listing: &Listing| {
                    all(|take| listing.below(Path::new(folder), &include, &exclude, take))
                };
                let (expected, actual) = (list(&shown), list(&known));
                assert!(expected == actual, "{folder:?} {include:?} {exclude:?}");
            }
        }
        for path in ["", "d", "d/grew", "d.x/and-again", "d.x/null", "d.x/device", "link"] {
            let one = |listing: &Listing| all(|take| listing.one(Path::new(path), take));
            let (expected, actual) = (one(&shown), one(&known));
            assert_eq!(expected.len(), 1, "{path:?}");
            assert!(expected == actual, "{path:?}: {:?}, not {:?}", actual[0].0, expected[0].0);
        }
        let missing = known.one(Path::new("d/absent"), &mut |_| Ok(()));
        assert_eq!(missing.expect_err("it is not there").kind(), buildd_oci::ErrorKind::NotFound);
    }
}

#[test]
fn a_tree_in_a_folder_is_read_there() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("1")).expect("a folder");
    let mut sink = TreeSink::folder(&dir.path().join("1"), None).expect("a sink");
    sink.entry(0, entry("a", EntryKind::File { size: 0 })).expect("an entry");
    let tree = sink.finish().expect("finish").expect("a tree");
    assert!(ClientFiles::open(Arc::new(tree)).expect("nothing wrong").is_none());
}

#[test]
fn a_listing_may_be_of_a_single_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    fs::write(&file, "text").expect("a file");
    std::os::unix::fs::symlink("nowhere", &link).expect("a link");
    let one = |path: &Path| all(|take| Listing::folder(path).one(Path::new(""), take));
    let found = one(&file);
    assert_eq!(
        (found.len(), found[0].1.as_slice(), found[0].2),
        (1, &b"text"[..], Some(blake3::hash(b"text")))
    );
    assert_eq!(one(&link)[0].0.kind, EntryKind::Symlink("nowhere".into()));
}
