//! Layers as folders: what a tar has is what the tree has and back, whiteouts, and hostile entries.

use std::{
    fs,
    io::Write,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use super::{
    DirectoryWriter, Entry, EntryKind, ExportOptions, TarWriter, apply::Whiteouts, apply_tar, write_tar,
};
use crate::error::Result;

/// A layer of one file, whose name is also its content.
pub(crate) fn one_file(name: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut writer = TarWriter::new(&mut tar, ExportOptions::default());
    let mut entry = Entry::directory(name.into());
    entry.kind = EntryKind::File { size: name.len() as u64 };
    writer.entry(&entry, &mut name.as_bytes()).expect("an entry");
    writer.finish().expect("an end");
    tar
}

fn tar_of(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().expect("memory")
}

/// An entry with a raw name: the tar crate itself refuses hostile ones.
fn put(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, link: &str, data: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(5);
    header.set_size(data.len() as u64);
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    builder.append(&header, data).expect("memory");
}

fn apply(bytes: &[u8], root: &Path) -> Result<super::Applied> {
    apply_tar(bytes, &mut DirectoryWriter::new(root, Whiteouts::Mark)?)
}

fn root_needed() {
    assert!(rustix::process::geteuid().is_root(), "layers keep owners and devices: run the tests as root");
}

#[test]
fn a_tree_survives_the_way_through_a_tar() {
    root_needed();
    let dir = tempfile::tempdir().expect("a folder");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(from.join("d/e")).expect("folders");
    fs::create_dir(&to).expect("a folder");
    fs::write(from.join("d/file"), vec![7; 70_000]).expect("a file");
    fs::set_permissions(from.join("d/file"), fs::Permissions::from_mode(0o4750)).expect("a mode");
    fs::hard_link(from.join("d/file"), from.join("d/again")).expect("a link");
    symlink("/d/../file", from.join("link")).expect("a link");
    let long = "x".repeat(200);
    fs::write(from.join(&long), "long").expect("a file");
    rustix::fs::lsetxattr(from.join("d"), "user.note", b"\0binary", rustix::fs::XattrFlags::empty())
        .expect("xattr");
    let mut bytes = Vec::new();
    let (diff_id, size) = write_tar(&from, &mut bytes, ExportOptions::default()).expect("a tar");
    assert_eq!(size, bytes.len() as u64);
    let applied = apply(&bytes, &to).expect("an apply");
    assert_eq!((applied.diff_id, applied.size), (diff_id, size));
    let mut again = Vec::new();
    write_tar(&to, &mut again, ExportOptions::default()).expect("a tar");
    assert!(bytes == again, "the same tree gives the same tar");
    let (one, two) =
        (fs::metadata(to.join("d/file")).expect("it"), fs::metadata(to.join("d/again")).expect("it"));
    assert_eq!((one.ino(), one.mode() & 0o7777), (two.ino(), 0o4750));
    assert_eq!(fs::read_link(to.join("link")).expect("a link"), Path::new("/d/../file"));
}

#[test]
fn an_epoch_bounds_all_times() {
    root_needed();
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("a"), "now").expect("a file");
    let mut bytes = Vec::new();
    write_tar(dir.path(), &mut bytes, ExportOptions { epoch: Some(1000) }).expect("a tar");
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entry = archive.entries().expect("entries").next().expect("one").expect("whole");
    assert_eq!(entry.header().mtime().expect("a time"), 1000);
}

#[test]
fn whiteouts_become_devices_and_come_back() {
    root_needed();
    let dir = tempfile::tempdir().expect("a folder");
    let bytes = tar_of(|b| {
        put(b, "d/", tar::EntryType::Directory, "", b"");
        put(b, "d/.wh.gone", tar::EntryType::Regular, "", b"");
        put(b, "o/", tar::EntryType::Directory, "", b"");
        put(b, "o/.wh..wh..opq", tar::EntryType::Regular, "", b"");
        put(b, "o/.wh..wh.plnk", tar::EntryType::Regular, "", b"");
    });
    apply(&bytes, dir.path()).expect("an apply");
    let gone = fs::symlink_metadata(dir.path().join("d/gone")).expect("a mark");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(fs::read_dir(dir.path().join("o")).expect("a folder").count(), 0);
    let mode = |name: &str| fs::metadata(dir.path().join(name)).expect("a folder").mode() & 0o7777;
    assert_eq!(mode("o"), mode("d"), "the mark's own mode says nothing about its folder");
    let mut out = Vec::new();
    write_tar(dir.path(), &mut out, ExportOptions::default()).expect("a tar");
    let mut archive = tar::Archive::new(out.as_slice());
    let names: Vec<String> = archive
        .entries()
        .expect("entries")
        .map(|entry| entry.expect("whole").path().expect("a name").display().to_string())
        .collect();
    assert_eq!(names, ["d/", "d/.wh.gone", "o/", "o/.wh..wh..opq"]);
}

#[test]
fn hostile_entries_stay_inside_or_fail() {
    root_needed();
    use tar::EntryType::{Char, Directory, Link, Regular, Symlink};
    let cases: &[&[(&str, tar::EntryType, &str)]] = &[
        &[("../evil", Regular, "")],
        &[("a/../../evil", Regular, "")],
        &[("/evil", Regular, "")],
        &[("d", Symlink, "/"), ("d/evil", Regular, "")],
        &[("d", Symlink, "../../.."), ("d/evil", Regular, "")],
        &[("a", Symlink, ".."), ("b", Symlink, "a/.."), ("b/evil", Regular, "")],
        &[("x", Link, "../canary")],
        &[("x", Link, "/canary")],
        &[("c", Symlink, "../canary"), ("c", Regular, "")],
        &[("c", Symlink, ".."), ("c/", Directory, "")],
        &[(".wh...", Regular, "")],
        &[(".wh..", Regular, "")],
        &[(".wh.", Regular, "")],
        &[("l", Symlink, ".."), ("l/.wh.canary", Regular, "")],
        &[("n", Char, "")],
        &[("self", Link, "self")],
    ];
    for case in cases {
        let dir = tempfile::tempdir().expect("a folder");
        let canary = dir.path().join("canary");
        fs::write(&canary, "alive").expect("a file");
        let before = fs::metadata(&canary).expect("it");
        fs::create_dir(dir.path().join("root")).expect("a folder");
        let bytes = tar_of(|b| case.iter().for_each(|(name, kind, link)| put(b, name, *kind, link, b"")));
        let outcome = apply(&bytes, &dir.path().join("root"));
        let after = fs::metadata(&canary).expect("the canary lives");
        assert_eq!(
            (before.ino(), before.nlink(), before.mode(), before.mtime()),
            (after.ino(), after.nlink(), after.mode(), after.mtime()),
            "{case:?}: {outcome:?}"
        );
        assert_eq!(fs::read_to_string(&canary).expect("it"), "alive");
        let names: Vec<_> =
            fs::read_dir(dir.path()).expect("a folder").map(|e| e.expect("it").file_name()).collect();
        assert_eq!(names.len(), 2, "{case:?} made {names:?}");
    }
}

#[test]
fn broken_streams_are_errors() {
    root_needed();
    let whole = tar_of(|b| put(b, "f", tar::EntryType::Regular, "", &[1; 2000]));
    for cut in [100, 600, 1500] {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(apply(&whole[..cut], dir.path()).is_err(), "cut at {cut}");
    }
    let mut bent = whole.clone();
    bent[3] ^= 0x40;
    assert!(
        apply(&bent, tempfile::tempdir().expect("a folder").path()).is_err(),
        "a wrong checksum was taken"
    );
    let mut trailing = whole.clone();
    trailing.write_all(&[9; 300]).expect("memory");
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(apply(&trailing, dir.path()).expect("an apply").size, trailing.len() as u64);
}
