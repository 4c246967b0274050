//! Blobs that have no file of their own.

use std::{fs, path::Path, sync::Arc};

use buildd_oci::digest::Digest;

use crate::{
    gc::collect,
    label::Labels,
    layer::{LayerFormat, LayerId, tests::one_file},
    root::Store,
    snapshot::SnapshotPin,
};

fn store(root: &Path, form: LayerFormat) -> Arc<Store> {
    Store::open_with(root, form).expect("a store")
}

fn files(root: &Path, folder: &str) -> usize {
    fs::read_dir(root.join(folder)).expect("the folder").count()
}

fn read(store: &Store, digest: &Digest) -> String {
    let mut bytes = Vec::new();
    std::io::copy(&mut store.content.open_blob(digest).expect("the blob"), &mut bytes).expect("its bytes");
    assert_eq!(Digest::of(&bytes), *digest);
    let mut part = [0; 5];
    store.content.in_namespace("ns").read_at(digest, 512, &mut part).expect("a part");
    String::from_utf8(part.to_vec()).expect("text")
}

fn top(store: &Store, held: &SnapshotPin) -> LayerId {
    store.snapshots.layers(held.id()).expect("layers").pop().expect("a layer").id
}

#[test]
fn a_blob_that_is_a_layer_has_no_second_copy_and_keeps_the_layer() {
    let dir = tempfile::tempdir().expect("a folder");
    let (root, tar) = (dir.path(), one_file("bytes"));
    let digest = Digest::of(&tar);
    let opened = store(root, LayerFormat::File);
    let expiring = Labels::from([("containerd.io/gc.expire".to_owned(), "2100-01-01T00:00:00Z".to_owned())]);
    opened.content.put("ns", &mut tar.as_slice(), &expiring).expect("a blob");
    let (held, _) = opened.snapshots.apply(None, &mut tar.as_slice(), Some(digest)).expect("a layer");
    opened.content.leave_to_layer(&digest, top(&opened, &held)).expect("nothing to do");
    assert_eq!(files(root, "content/blobs/sha256"), 1, "a layer that a power cut may take is no copy");
    opened.snapshots.make_durable(held.id()).expect("a sync");
    opened.content.leave_to_layer(&digest, top(&opened, &held)).expect("a removal");
    assert_eq!(files(root, "content/blobs/sha256"), 0);
    assert_eq!(read(&opened, &digest), "bytes");
    drop(held);
    collect(&opened).expect("a round");
    assert_eq!(read(&opened, &digest), "bytes", "no stack has the layer, but the blob has");
    drop(opened);
    // A daemon that makes folders reads what was left, and packs nothing anew.
    let opened = store(root, LayerFormat::Directory);
    assert_eq!(read(&opened, &digest), "bytes");
    let again = opened.snapshots.stack_known(None, &digest).expect("a look").expect("the same layer");
    assert_eq!(files(root, "layers"), 1);
    drop(again);
    opened.content.delete("ns", &digest).expect("a deletion");
    assert_eq!(collect(&opened).expect("a round").layers.len(), 1);
    assert_eq!(files(root, "layers"), 0);
    assert!(opened.content.open_blob(&digest).is_err());
}

#[test]
fn an_export_adopts_the_layer_instead_of_a_copy() {
    let dir = tempfile::tempdir().expect("a folder");
    let (root, tar) = (dir.path(), one_file("bytes"));
    let digest = Digest::of(&tar);
    let opened = store(root, LayerFormat::File);
    let (held, _) = opened.snapshots.apply(None, &mut tar.as_slice(), None).expect("a layer");
    let layer = top(&opened, &held);
    let kept = Labels::from([("containerd.io/gc.expire".to_owned(), "2100-01-01T00:00:00Z".to_owned())]);
    let adopt = |digest: &Digest| opened.content.adopt_layer("ns", digest, layer, &kept).expect("no failure");
    assert_eq!(adopt(&Digest::of(b"another")), None);
    assert_eq!(adopt(&digest), Some(tar.len() as u64));
    assert_eq!(adopt(&digest), Some(tar.len() as u64), "a second time is no mistake");
    assert_eq!(opened.content.info("ns", &digest).expect("a row").labels, kept);
    drop(held);
    collect(&opened).expect("a round");
    opened.db.write("pretend", |tx| tx.execute("UPDATE layers SET boot = 'x'", [])).expect("a write");
    drop(opened);
    let opened = store(root, LayerFormat::File);
    assert_eq!(read(&opened, &digest), "bytes", "it survives a power cut");
    assert_eq!(files(root, "content/blobs/sha256"), 0);
}

#[test]
fn a_folder_is_never_the_copy_of_a_blob() {
    let dir = tempfile::tempdir().expect("a folder");
    let (root, tar) = (dir.path(), one_file("bytes"));
    let digest = Digest::of(&tar);
    let opened = store(root, LayerFormat::Directory);
    opened.content.put("ns", &mut tar.as_slice(), &Labels::new()).expect("a blob");
    let (held, _) = opened.snapshots.apply(None, &mut tar.as_slice(), Some(digest)).expect("a layer");
    opened.snapshots.make_durable(held.id()).expect("a sync");
    opened.content.leave_to_layer(&digest, top(&opened, &held)).expect("nothing to do");
    assert_eq!(files(root, "content/blobs/sha256"), 1);
    assert!(opened.snapshots.stack_known(None, &digest).expect("a look").is_none());
}
