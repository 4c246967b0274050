//! Testsuite: what every form of a layer must do, run on all of them.
//!
//! A corpus of tars, ordinary and hostile, and random ones under seeds, is made a layer in each form. The trees that come back, of a layer
//! file through the kernel's mount, must be equal; and equal to what `tar` unpacks where that knows the entries.

use std::{
    collections::BTreeMap,
    fs,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use buildd_fs::path::through;
use buildd_oci::digest::Digester;
use corpus::{Tar, random};

use super::{
    Applied, DirectoryWriter, EntryKind, LayerFileWriter, LayerWriter, Whiteouts, adopt_tar, apply_tar,
    head::mount_layer, open_tar, read_directory,
};
use crate::error::Result;

mod attacks;
mod corpus;

/// A layer as somebody sees it.
struct Seen {
    tree: PathBuf,
    _mount: Option<OwnedFd>,
}

fn as_folder(tar: &[u8], dir: &Path) -> Result<(Seen, Applied)> {
    let tree = dir.join("folder");
    fs::create_dir(&tree).expect("a folder");
    let applied = apply_tar(tar, &mut DirectoryWriter::new(&tree, Whiteouts::Mark)?)?;
    Ok((Seen { tree, _mount: None }, applied))
}

fn as_file(tar: &[u8], dir: &Path) -> Result<(Seen, Applied)> {
    let path = dir.join("file");
    let applied = adopt_tar(tar, &path)?;
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut open_tar(&path)?.expect("it has one"), &mut out).expect("its tar");
    assert!(out == tar, "the tar is not what came");
    Ok((mounted(&path), applied))
}

fn mounted(path: &Path) -> Seen {
    let mount =
        mount_layer(path, path).expect("the kernel takes the index: the tests need Linux 6.12 and root");
    Seen { tree: through(&mount), _mount: Some(mount) }
}

/// Everything about a tree but the times of folders that no entry named.
fn dump(seen: &Seen, folder_times: bool) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    read_directory(&seen.tree, &mut |entry, data| {
        let mut content = Digester::default();
        std::io::copy(data, &mut content).expect("its bytes");
        let mut shown = entry.clone();
        shown.path = PathBuf::new();
        let folder = matches!(shown.kind, EntryKind::Directory | EntryKind::OpaqueDirectory);
        let removed = shown.kind == EntryKind::Whiteout;
        if removed || (folder && !folder_times) {
            shown.mtime = super::Time::default();
        }
        // Of removals the kernel makes links itself: how many a file of them has says nothing.
        let links = fs::symlink_metadata(seen.tree.join(&entry.path)).expect("it").nlink();
        let links = if folder || removed { 0 } else { links };
        all.insert(entry.path.clone(), format!("{shown:?} {links} {}", content.finish()));
        Ok(())
    })
    .expect("a tree");
    all
}

/// Makes a tar a layer in both forms; both must agree. Whether it could be made.
fn agree(name: &str, tar: &[u8], folder_times: bool) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    let (folder, file) = (as_folder(tar, dir.path()), as_file(tar, dir.path()));
    match (folder, file) {
        (Ok((folder, one)), Ok((file, other))) => {
            assert_eq!((one.diff_id, one.size), (other.diff_id, other.size), "{name}");
            let want = dump(&folder, folder_times);
            same(name, &want, &dump(&file, folder_times));
            again(name, &folder, &want, dir.path(), folder_times);
            true
        }
        (Err(_), Err(_)) => false,
        (folder, file) => panic!(
            "{name}: a folder {:?}, a file {:?}",
            folder.map(|_| "works").map_err(|e| format!("{e:?}")),
            file.map(|_| "works").map_err(|e| format!("{e:?}"))
        ),
    }
}

fn same(name: &str, want: &BTreeMap<PathBuf, String>, got: &BTreeMap<PathBuf, String>) {
    for (path, entry) in want {
        assert_eq!(Some(entry), got.get(path), "{name}: {}", path.display());
    }
    assert_eq!(want.len(), got.len(), "{name}: {:?}", got.keys().find(|path| !want.contains_key(*path)));
}

/// Writes the entries of a folder through the trait, as steps do, in each form.
fn again(name: &str, from: &Seen, want: &BTreeMap<PathBuf, String>, dir: &Path, folder_times: bool) {
    let (folder, file) = (dir.join("again"), dir.join("again.file"));
    fs::create_dir(&folder).expect("a folder");
    let write = |writer: &mut dyn LayerWriter| {
        read_directory(&from.tree, &mut |entry, data| writer.entry(entry, data))?;
        writer.finish()
    };
    write(&mut DirectoryWriter::new(&folder, Whiteouts::Mark).expect("it")).expect(name);
    write(&mut LayerFileWriter::new(&file).expect("it")).expect(name);
    same(name, want, &dump(&Seen { tree: folder, _mount: None }, folder_times));
    same(name, want, &dump(&mounted(&file), folder_times));
}

#[test]
fn ordinary_layers_are_the_same_in_every_form_and_to_tar() {
    for (name, tar) in corpus::ordinary() {
        assert!(agree(name, &tar, true), "{name} could not be made");
        let dir = tempfile::tempdir().expect("a folder");
        let (file, _) = as_file(&tar, dir.path()).expect(name);
        let tree = dir.path().join("tar");
        fs::create_dir(&tree).expect("a folder");
        let mut unpack = Command::new("tar")
            .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-xpf", "-", "-C"])
            .arg(&tree)
            .stdin(Stdio::piped())
            .spawn()
            .expect("tar");
        std::io::Write::write_all(&mut unpack.stdin.take().expect("piped"), &tar).expect("tar reads it");
        assert!(unpack.wait().expect("tar").success(), "{name}");
        same(name, &dump(&Seen { tree, _mount: None }, true), &dump(&file, true));
    }
}

#[test]
fn odd_layers_are_the_same_in_every_form() {
    for (name, tar) in corpus::odd() {
        assert!(agree(name, &tar, false), "{name} could not be made");
    }
}

#[test]
fn a_folder_that_was_replaced_gives_its_time_to_no_other() {
    let tar = Tar::new().folder("a").record("mtime", b"5").folder("a/b").folder("c").folder("c/b");
    assert!(agree("another folder is where its path leads", &tar.link("a", "c").end(), true));
}

#[test]
fn hostile_layers_fail_in_every_form_or_do_no_harm() {
    for (name, tar, works) in corpus::hostile() {
        assert_eq!(agree(&name, &tar, false), works, "{name}");
    }
}

#[test]
fn random_layers_are_the_same_in_every_form() {
    let all = 400 * u64::from(crate::random::times());
    let made = (0..all).filter(|seed| agree(&format!("seed {seed}"), &random(*seed), false)).count() as u64;
    assert!((all / 4..all).contains(&made), "{made} of {all} could be made: the generator says too little");
}

#[test]
fn what_only_the_index_bounds_is_an_error_that_names_the_entry() {
    let long = vec![b'v'; 40_000];
    let many = (0..9).map(|n| (format!("SCHILY.xattr.user.n{n}"), long.as_slice())).collect::<Vec<_>>();
    let cases: [(&str, Vec<u8>, &str); 2] = [
        ("device", Tar::new().device("odd", 5000, 1).end(), "out of range"),
        ("xattrs", Tar::new().pax(&many).file("odd", b"").end(), "256 KiB"),
    ];
    for (name, tar, reason) in cases {
        let dir = tempfile::tempdir().expect("a folder");
        let error = adopt_tar(tar.as_slice(), &dir.path().join("file")).expect_err(name);
        let text = format!("{error}");
        assert!(text.contains("odd") && text.contains(reason), "{name}: {text}");
    }
}

#[test]
fn long_attributes_and_opaque_folders_reach_the_kernel() {
    let value: Vec<u8> = (0..60_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let long = [("SCHILY.xattr.user.long".to_owned(), value.as_slice())];
    let tar = Tar::new().pax(&long).file("f", b"x").folder("o").file("o/.wh..wh..opq", b"").end();
    let dir = tempfile::tempdir().expect("a folder");
    let (seen, _) = as_file(&tar, dir.path()).expect("a layer");
    let mut found = vec![0; 65_536];
    let length = rustix::fs::lgetxattr(seen.tree.join("f"), "user.long", &mut found).expect("it");
    assert!(found[..length] == value);
    let length = rustix::fs::lgetxattr(seen.tree.join("o"), super::OPAQUE_XATTR, &mut found).expect("it");
    assert_eq!(&found[..length], b"y");
}
