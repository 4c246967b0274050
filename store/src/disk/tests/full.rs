//! A full disk, F-10 to F-12: a small one is mounted, filled to its last byte or inode, and deleted from.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use buildd_oci::{ErrorKind, descriptor::Descriptor};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{NS, has_blob, one_file, open};
use crate::{
    Error,
    fsck::{Class, Fsck},
    gc::collect,
    label::Labels,
    root::Store,
    usage::{Policy, prune},
};

/// A disk of memory that is full in no time; unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let options = std::ffi::CString::new(options).expect("no NUL");
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), options.as_c_str()).expect("root mounts");
        fs::create_dir(dir.path().join("root")).expect("a folder");
        Self(dir)
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    /// Fills the disk to its last byte.
    fn fill(&self) {
        let mut file =
            fs::File::options().create(true).append(true).open(self.0.path().join("filler")).expect("a file");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// Takes all inodes.
    fn crowd(&self) {
        let folder = self.0.path().join("crowd");
        fs::create_dir_all(&folder).expect("a folder");
        for number in 0.. {
            if fs::File::create(folder.join(number.to_string())).is_err() {
                return;
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).expect("it was mounted");
    }
}

/// Everything that writes; each fails for want of space, with a kind and a way out, and leaves nothing.
fn writes_fail(store: &Store, root: &Path, hint: &str) {
    let large = vec![7; 1 << 20];
    let bytes = one_file("layer");
    let failures: [(&str, Result<(), Error>); 4] = [
        ("put", store.content.put(NS, &mut large.as_slice(), &Labels::new()).map(drop)),
        ("ingest", store.content.writer(NS, "upload", 0, None).and_then(|mut writer| writer.write(&large))),
        ("layer", store.snapshots.apply(None, &mut bytes.as_slice(), None).map(drop)),
        (
            "step",
            store.snapshots.active(None).and_then(|active| {
                fs::write(active.path().join("file"), &large).map_err(Error::file("write", active.path()))?;
                active.commit().map(drop)
            }),
        ),
    ];
    for (what, failed) in failures {
        let error = failed.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{what}: {error:?}");
        let told = error.hint().unwrap_or_default();
        assert!(told.contains("buildctl prune"), "{what}: {told}");
        if matches!(error, Error::File { .. }) {
            assert!(told.contains(hint), "{what}: {told}");
            assert!(error.to_string().contains(&root.display().to_string()), "{what}: {error}");
        }
    }
}

fn on_a_full_disk(options: &str, fill: impl Fn(&Disk), hint: &str) {
    let disk = Disk::new(options);
    let store = open(&disk.root());
    let kept = store.content.put(NS, &mut &b"kept"[..], &Labels::new()).expect("a blob").0;
    store.images.put(NS, "kept", &Descriptor::new("", kept, 4), &Labels::new()).expect("an image");
    let names: Vec<String> = (0..8).map(|number| format!("gone-{number}")).collect();
    for (number, name) in (0..).zip(&names) {
        let bytes = vec![number; 512 << 10];
        let gone = store.content.put(NS, &mut bytes.as_slice(), &Labels::new()).expect("a blob").0;
        store.images.put(NS, name, &Descriptor::new("", gone, 512 << 10), &Labels::new()).expect("an image");
    }
    fill(&disk);
    writes_fail(&store, &disk.root(), hint);
    assert!(has_blob(kept)(&store), "what is there can be read");
    // At 100 % full there is still room to delete.
    names.iter().for_each(|name| store.images.delete(NS, name, None).expect("a name goes"));
    prune(&store, &Policy { all: true, ..Policy::default() }, &|_| true).expect("the cache is cut back");
    let collected = collect(&store).expect("a round");
    assert_eq!(collected.blobs.len(), names.len());
    assert!(has_blob(kept)(&store));
    store.content.put(NS, &mut &b"again"[..], &Labels::new()).expect("what was freed can be written");
    drop(store);
    let found = Fsck::open(&disk.root()).and_then(|fsck| fsck.check()).expect("a check");
    assert!(found.iter().all(|finding| finding.class == Class::Leftover), "{found:#?}");
}

#[test]
fn f_10_and_f_11_a_full_disk_is_told_and_can_be_emptied() {
    on_a_full_disk("size=32m", Disk::fill, "has 0 bytes");
}

#[test]
fn f_12_a_disk_without_inodes_is_told_and_can_be_emptied() {
    on_a_full_disk("size=64m,nr_inodes=300", Disk::crowd, "and 0 inodes");
}
