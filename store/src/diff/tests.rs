//! Layers into trees and back, over the mounts that `Snapshots` answers.

use std::{
    fs::{self, FileTimes},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use buildd_oci::{ErrorKind, compress::Growth, digest::Digest};

use super::*;
use crate::snapshot::named::{Kind, Scope};

const NS: &str = "ns";

struct Place {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    scope: Scope,
}

fn place() -> Place {
    assert!(rustix::process::geteuid().is_root(), "layers keep owners: run the tests as root");
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("root")).expect("a store");
    Place { dir, store, scope: Scope::new(NS, "overlayfs").expect("a snapshotter") }
}

fn bind(folder: &Path) -> Vec<Mount> {
    let source = folder.display().to_string();
    vec![Mount { kind: "bind".into(), source, options: vec!["rbind".into(), "rw".into()] }]
}

impl Place {
    fn prepare(&self, key: &str, parent: &str) -> Vec<Mount> {
        self.store.named_snapshots.prepare(&self.scope, key, parent, &Labels::new()).expect("prepare")
    }

    fn view(&self, key: &str, parent: &str) -> Vec<Mount> {
        self.store.named_snapshots.view(&self.scope, key, parent, &Labels::new()).expect("view")
    }

    fn commit(&self, name: &str, key: &str) {
        self.store.named_snapshots.commit(&self.scope, name, key, &Labels::new()).expect("commit");
    }

    /// A folder with these files.
    fn tree(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = self.dir.path().join(name);
        fs::create_dir(&root).expect("a folder");
        for (file, text) in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("in the tree")).expect("parents");
            fs::write(path, text).expect("a file");
        }
        root
    }

    fn diff(&self, left: &[Mount], right: &[Mount], media_type: &str) -> Descriptor {
        let options = DiffOptions { media_type: media_type.to_owned(), ..DiffOptions::default() };
        diff(&self.store, NS, left, right, &options).expect("a diff")
    }

    /// Names in a layer's blob.
    fn names(&self, layer: &Descriptor) -> Vec<String> {
        let blob = self.store.content.open_blob(&layer.digest).expect("the blob");
        let mut archive =
            tar::Archive::new(buildd_oci::compress::reader(blob, Growth::default()).expect("a stream"));
        let entries = archive.entries().expect("entries");
        entries.map(|entry| entry.expect("whole").path().expect("a name").display().to_string()).collect()
    }

    fn apply(&self, layer: &Descriptor, mounts: &[Mount]) -> Result<Applied> {
        apply(&self.store, NS, layer, mounts, true)
    }
}

/// Where an active snapshot's changes go.
fn upper(mounts: &[Mount]) -> PathBuf {
    Folders::of(mounts).expect("folders").writable().expect("active").to_owned()
}

#[test]
fn an_unpacked_layer_is_found_by_its_chain_id() {
    let place = place();
    let from = place.tree("from", &[("a", "one"), ("d/b", "two")]);
    for media_type in ["", OCI_LAYER, OCI_LAYER_ZSTD] {
        let layer = place.diff(&[], &bind(&from), media_type);
        let key = format!("extract {media_type}");
        let mounts = place.prepare(&key, "");
        let applied = place.apply(&layer, &mounts).expect("an apply");
        let name = applied.diff_id.to_string();
        assert_eq!(fs::read_to_string(upper(&mounts).join("d/b")).expect("unpacked"), "two");
        let labels = place.store.content.info(NS, &layer.digest).expect("a blob").labels;
        assert_eq!(labels.get(pack::UNCOMPRESSED), Some(&name));
        place.commit(&format!("named {media_type}"), &key);
        assert!(place.store.snapshots.by_chain_id(&applied.diff_id).expect("a look").is_some());
        let elsewhere = Scope::new("other", "native").expect("a scope");
        assert_eq!(place.store.named_snapshots.stat(&elsewhere, &name).expect("found").kind, Kind::Committed);
    }
}

#[test]
fn a_tree_that_changed_after_its_layer_is_no_layer() {
    let place = place();
    let layer = place.diff(&[], &bind(&place.tree("from", &[("d/a", "one")])), "");
    for (number, change) in ["write", "add", "remove"].into_iter().enumerate() {
        let key = format!("k{number}");
        let mounts = place.prepare(&key, "");
        let applied = place.apply(&layer, &mounts).expect("an apply");
        let file = upper(&mounts).join("d/a");
        // The clock of the files ticks slower than we work: set times move it on.
        let later = FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(5));
        match change {
            "write" => {
                fs::File::options().write(true).open(&file).expect("it").set_times(later).expect("a time")
            }
            "add" => fs::write(file.with_file_name("b"), "two").expect("a file"),
            _ => fs::remove_file(&file).expect("removed"),
        }
        place.commit(&format!("c{number}"), &key);
        assert!(place.store.snapshots.by_chain_id(&applied.diff_id).expect("a look").is_none(), "{change}");
    }
}

#[test]
fn stacks_differ_in_the_folder_on_top() {
    let place = place();
    let base = place.diff(&[], &bind(&place.tree("base", &[("keep", "x"), ("gone", "y"), ("d/e", "z")])), "");
    let mounts = place.prepare("k1", "");
    place.apply(&base, &mounts).expect("an apply");
    place.commit("c1", "k1");
    let active = place.prepare("k2", "c1");
    fs::write(upper(&active).join("new"), "n").expect("a file");
    let parent = place.view("v1", "c1");
    assert_eq!(place.names(&place.diff(&parent, &active, "")), ["new"]);
    place.commit("c2", "k2");
    let layer = place.diff(&parent, &place.view("v2", "c2"), "");
    assert_eq!(place.names(&layer), ["new"]);
    // Onto its parent again: the same tree.
    let again = place.prepare("k3", "c1");
    place.apply(&layer, &again).expect("an apply");
    assert_eq!(fs::read_to_string(upper(&again).join("new")).expect("unpacked"), "n");
    place.commit("c3", "k3");
    let same = place.diff(&place.view("v3", "c2"), &place.view("v4", "c3"), "");
    assert_eq!(place.names(&same), [""; 0]);
    // Two layers at once: from nothing to the whole.
    let whole = place.diff(&[], &place.view("v5", "c2"), "");
    assert_eq!(place.names(&whole), ["d/", "d/e", "gone", "keep", "new"]);
}

#[test]
fn trees_without_a_common_stack_are_walked() {
    let place = place();
    let old =
        [("same", "1"), ("text", "old"), ("gone/x", "1"), ("d/deep/a", "1"), ("file", "1"), ("dir/x", "1")];
    let new =
        [("same", "1"), ("text", "new"), ("d/deep/a", "1"), ("d/deep/b", "2"), ("file/x", "1"), ("dir", "2")];
    let (left, right) = (place.tree("left", &old), place.tree("right", &new));
    // Times as from tars, without a fraction: the contents decide.
    for file in ["same", "text", "d/deep/a"] {
        for root in [&left, &right] {
            let time = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
            fs::File::options()
                .write(true)
                .open(root.join(file))
                .expect("it")
                .set_times(time)
                .expect("a time");
        }
    }
    fs::hard_link(right.join("d/deep/b"), right.join("zlink")).expect("a link");
    let layer = place.diff(&bind(&left), &bind(&right), OCI_LAYER);
    let names = ["d/", "d/deep/", "d/deep/b", "dir", "file/", "file/x", ".wh.gone", "text", "zlink"];
    assert_eq!(place.names(&layer), names);
    // Applied to the old tree it makes the new one.
    place.apply(&layer, &bind(&left)).expect("an apply");
    assert_eq!(place.names(&place.diff(&bind(&left), &bind(&right), OCI_LAYER)), [""; 0]);
}

#[test]
fn an_opaque_mark_clears_what_is_older_only() {
    let place = place();
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind) in [("d/new/x", b'0'), ("d/.wh..wh..opq", b'0'), ("d/later", b'0'), (".wh.top", b'0')] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(5);
        builder.append_data(&mut header, name, &b""[..]).expect("an entry");
    }
    let bytes = builder.into_inner().expect("an archive");
    let (digest, size) = place.store.content.put(NS, &mut bytes.as_slice(), &Labels::new()).expect("a blob");
    let tree = place.tree("tree", &[("d/old", ""), ("d/new/old", ""), ("top", ""), ("kept", "")]);
    place.apply(&Descriptor::new(OCI_LAYER, digest, size), &bind(&tree)).expect("an apply");
    let all = place.names(&place.diff(&[], &bind(&tree), ""));
    assert_eq!(all, ["d/", "d/later", "d/new/", "d/new/x", "kept"]);
}

#[test]
fn what_cannot_be_done_is_refused_by_class() {
    let place = place();
    let tree = place.tree("tree", &[("a", "")]);
    let layer = place.diff(&[], &bind(&tree), "");
    let of = |kind: &str, options: &[&str]| {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        vec![Mount { kind: kind.into(), source: tree.display().to_string(), options }]
    };
    let refused = |mounts: &[Mount]| place.apply(&layer, mounts).expect_err("refused").kind();
    assert_eq!(refused(&of("bind", &["ro", "rbind"])), ErrorKind::FailedPrecondition);
    assert_eq!(refused(&of("overlay", &["lowerdir=/a:/b"])), ErrorKind::FailedPrecondition);
    assert_eq!(refused(&[]), ErrorKind::FailedPrecondition);
    assert_eq!(refused(&of("overlay", &["upperdir=/a"])), ErrorKind::InvalidArgument);
    assert_eq!(refused(&of("overlay", &["lowerdir=/a", "upperdir=b"])), ErrorKind::InvalidArgument);
    assert_eq!(refused(&of("ext4", &[])), ErrorKind::InvalidArgument);
    assert_eq!(refused(&[bind(&tree), bind(&tree)].concat()), ErrorKind::InvalidArgument);
    let options = DiffOptions { media_type: "text/plain".to_owned(), ..DiffOptions::default() };
    let error = diff(&place.store, NS, &[], &bind(&tree), &options).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let missing = Descriptor::new(OCI_LAYER, Digest::of(b"nothing"), 7);
    assert_eq!(place.apply(&missing, &bind(&tree)).expect_err("refused").kind(), ErrorKind::NotFound);
}
