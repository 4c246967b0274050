//! Digests of files: what they depend on, and nothing else.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use super::{Listing, Selection, selected, tree};

fn make(root: &Path) {
    fs::create_dir_all(root.join("d/e")).expect("folders");
    fs::write(root.join("d/file"), "one").expect("a file");
    fs::write(root.join("d/e/other"), "two").expect("a file");
    symlink("file", root.join("d/link")).expect("a link");
}

/// A named change of the tree.
type Change = (&'static str, fn(&Path));

#[test]
fn what_changes_a_digest_and_what_does_not() {
    assert!(rustix::process::geteuid().is_root(), "owners are changed: run the tests as root");
    let changes: &[Change] = &[
        ("bytes", |r| fs::write(r.join("d/file"), "ONE").expect("it")),
        ("name", |r| fs::rename(r.join("d/file"), r.join("d/renamed")).expect("it")),
        ("mode", |r| fs::set_permissions(r.join("d/file"), fs::Permissions::from_mode(0o600)).expect("it")),
        ("folder mode", |r| {
            fs::set_permissions(r.join("d/e"), fs::Permissions::from_mode(0o700)).expect("it")
        }),
        ("owner", |r| chown(r.join("d/file"), Some(5), None).expect("it")),
        ("group", |r| chown(r.join("d/file"), None, Some(5)).expect("it")),
        ("link target", |r| {
            fs::remove_file(r.join("d/link")).expect("it");
            symlink("e/other", r.join("d/link")).expect("it");
        }),
        ("new entry", |r| fs::create_dir(r.join("d/new")).expect("it")),
        ("removed entry", |r| fs::remove_file(r.join("d/e/other")).expect("it")),
        ("kind", |r| {
            fs::remove_file(r.join("d/link")).expect("it");
            fs::write(r.join("d/link"), "file").expect("it");
        }),
        ("xattr", |r| {
            rustix::fs::lsetxattr(r.join("d/file"), "user.a", b"b", rustix::fs::XattrFlags::empty())
                .expect("it");
        }),
    ];
    for (name, change) in changes {
        let dir = tempfile::tempdir().expect("a folder");
        make(dir.path());
        let before = tree(dir.path()).expect("a digest");
        change(dir.path());
        assert_ne!(tree(dir.path()).expect("a digest"), before, "{name} must count");
    }
    let same: &[Change] = &[
        ("mtime", |r| {
            let file = fs::File::open(r.join("d/file")).expect("it");
            file.set_modified(UNIX_EPOCH + Duration::from_secs(5)).expect("it");
        }),
        ("number of names", |r| {
            fs::hard_link(r.join("d/file"), r.join("../outside")).expect("it");
        }),
    ];
    for (name, change) in same {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("a folder");
        make(&root);
        let before = tree(&root).expect("a digest");
        change(&root);
        assert_eq!(tree(&root).expect("a digest"), before, "{name} must not count");
    }
}

#[test]
fn only_what_is_selected_counts() {
    let dir = tempfile::tempdir().expect("a folder");
    make(dir.path());
    let select = |path: &str, wildcard, exclude: &[&str]| Selection {
        path: path.to_owned(),
        wildcard,
        follow: true,
        include: Vec::new(),
        exclude: exclude.iter().map(|e| (*e).to_owned()).collect(),
    };
    let digest = |selection: &Selection| {
        selected(&Listing::folder(dir.path()), std::slice::from_ref(selection)).expect("a digest")
    };
    let (file, glob, excluding) =
        (select("/d/file", false, &[]), select("d/f*", true, &[]), select("d", false, &["e"]));
    let before = (digest(&file), digest(&glob), digest(&excluding));
    fs::write(dir.path().join("d/e/other"), "changed").expect("a file");
    assert_eq!((digest(&file), digest(&glob), digest(&excluding)), before);
    assert_eq!(digest(&select("d/link", false, &[])), digest(&file), "a link is followed");
    fs::write(dir.path().join("d/f2"), "").expect("a file");
    assert_ne!(digest(&glob), before.1);
    assert_ne!(digest(&select("d/absent", false, &[])), digest(&file));
}
