//! Layers with external data in a client's files: the same layer as one without, whatever becomes of the client's tree.

use std::{
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use buildd_oci::digest::Digest;

use super::*;
use crate::{
    layer::{
        Entry, EntryKind, Extent, LARGE, LayerId, LayerWriter, LooseFile, LooseFileWriter, data_file_of,
        open_tar,
    },
    snapshot::SnapshotPin,
};

/// A client's tree of one file, and a layer with a copy of it that has external data.
pub(crate) fn with_external_data(snapshots: &Arc<Snapshots>, bytes: &[u8]) -> (SnapshotPin, SnapshotPin) {
    let (tree, at) = sent(snapshots, bytes);
    let file =
        LooseFile::open(&snapshots.stored(only(snapshots, &tree))).expect("a file").expect("a client's");
    let mut draft = snapshots.draft(None).expect("a draft");
    draft.entry_external(&entry("copy", bytes), &mut &*bytes, file.external(at.at)).expect("an entry");
    (tree, draft.commit().expect("a layer"))
}

fn sent(snapshots: &Snapshots, bytes: &[u8]) -> (SnapshotPin, Extent) {
    let scratch = snapshots.scratch_file();
    let mut writer = LooseFileWriter::new(scratch.path(), None).expect("a layer file");
    let at = writer.reserve(bytes.len() as u64).expect("a place");
    writer.write_at(at.at, bytes).expect("bytes");
    writer.entry(&entry("sent", bytes), Some(at)).expect("an entry");
    writer.finish().expect("an index");
    (snapshots.commit_folder(None, scratch.path(), None).expect("a layer"), at)
}

fn entry(name: &str, bytes: &[u8]) -> Entry {
    Entry { kind: EntryKind::File { size: bytes.len() as u64 }, ..Entry::directory(PathBuf::from(name)) }
}

fn only(snapshots: &Snapshots, held: &SnapshotPin) -> LayerId {
    snapshots.layers(held.id()).expect("layers").pop().expect("one").id
}

fn noise(size: u64) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

fn tar(snapshots: &Snapshots, held: &SnapshotPin) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut tar = open_tar(&snapshots.stored(only(snapshots, held))).expect("whole").expect("a tar");
    tar.read_to_end(&mut bytes).expect("its bytes");
    bytes
}

#[test]
fn a_layer_that_borrows_is_the_same_and_holds_nothing_twice() {
    let dir = tempfile::tempdir().expect("a folder");
    let snapshots = open(dir.path(), LayerFormat::File);
    let bytes = noise(LARGE + 700);
    let (tree, layer) = with_external_data(&snapshots, &bytes);
    let mut plain = snapshots.draft(None).expect("a draft");
    plain.entry(&entry("copy", &bytes), &mut bytes.as_slice()).expect("an entry");
    let plain = plain.commit().expect("a layer");
    let diff_id =
        |held: &SnapshotPin| snapshots.layers(held.id()).expect("layers")[0].diff_id.expect("known");
    assert_eq!(diff_id(&layer), diff_id(&plain));
    assert!(tar(&snapshots, &layer) == tar(&snapshots, &plain));
    assert_eq!(Digest::of(&tar(&snapshots, &layer)), diff_id(&layer));
    // Anywhere in it, across its edges, too.
    let (whole, stored) = (tar(&snapshots, &plain), snapshots.stored(only(&snapshots, &layer)));
    let blob = open_tar(&stored).expect("whole").expect("a tar");
    for at in [0, 1, 511, 512, 513, LARGE, LARGE + 1211, LARGE + 1212, LARGE + 1213, whole.len() as u64 - 9] {
        let mut some = [0; 9];
        blob.read_exact_at(&mut some, at).expect("bytes");
        assert_eq!(some, whole[at as usize..at as usize + 9], "{at}");
    }
    let on_disk = |path: &Path| fs::metadata(path).expect("a file").blocks() * 512;
    assert!(on_disk(&stored) < LARGE / 2, "{}", on_disk(&stored));
    assert!(snapshots.layer_size(only(&snapshots, &layer)).expect("a size") > LARGE);
    // The client's tree goes, and the external data stays as long as the layer does.
    let data_file = data_file_of(&stored);
    assert_eq!(fs::metadata(&data_file).expect("the lender").nlink(), 2);
    snapshots.remove_layers(&[only(&snapshots, &tree)]).expect("removed");
    assert_eq!(fs::metadata(&data_file).expect("the lender").nlink(), 1);
    let view = snapshots.view(Some(layer.id())).expect("a view");
    assert!(fs::read(view.path().join("copy")).expect("the copy") == bytes);
    assert!(tar(&snapshots, &layer) == whole);
    drop(view);
    snapshots.remove_layers(&[only(&snapshots, &layer)]).expect("removed");
    assert!(!stored.exists() && !data_file.exists());
}

#[test]
fn files_of_one_client_are_borrowed_and_what_is_not_used_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let snapshots = open(dir.path(), LayerFormat::File);
    let large = noise(LARGE);
    let trees = [sent(&snapshots, &large), sent(&snapshots, &large)];
    let files = trees.each_ref().map(|(tree, _)| {
        LooseFile::open(&snapshots.stored(only(&snapshots, tree))).expect("a file").expect("a client's")
    });
    let lies = |n: usize| files[n].external(trees[n].1.at);
    let mut draft = snapshots.draft(None).expect("a draft");
    draft.entry_external(&entry("empty", &[]), &mut io::empty(), lies(0)).expect("an entry");
    let written = draft.commit().expect("a layer");
    assert!(!data_file_of(&snapshots.stored(only(&snapshots, &written))).exists());
    let mut draft = snapshots.draft(None).expect("a draft");
    for (name, lies) in [("a", lies(0)), ("b", lies(1)), ("c", lies(0))] {
        draft.entry_external(&entry(name, &large), &mut large.as_slice(), lies).expect("an entry");
    }
    let borrowed = draft.commit().expect("a layer");
    let stored = snapshots.stored(only(&snapshots, &borrowed));
    let blocks = fs::metadata(&stored).expect("a file").blocks() * 512;
    assert!((LARGE..2 * LARGE).contains(&blocks), "one of three is written: {blocks}");
    let view = snapshots.view(Some(borrowed.id())).expect("a view");
    assert!(["a", "b", "c"].iter().all(|name| fs::read(view.path().join(name)).expect("it") == large));
    // A draft that fails.
    let mut draft = snapshots.draft(None).expect("a draft");
    draft.entry_external(&entry("a", &large), &mut large.as_slice(), lies(0)).expect("an entry");
    drop(draft);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("a folder").count(), 0);
}

#[test]
fn a_start_removes_what_a_lost_layer_borrowed() {
    let dir = tempfile::tempdir().expect("a folder");
    let snapshots = open(dir.path(), LayerFormat::File);
    let (_tree, layer) = with_external_data(&snapshots, &noise(LARGE));
    let stored = snapshots.stored(only(&snapshots, &layer));
    let kept = data_file_of(&stored);
    // The power went between the two names.
    fs::hard_link(&kept, dir.path().join("layers/77.data")).expect("one more name");
    drop((_tree, layer, snapshots));
    let _snapshots = open(dir.path(), LayerFormat::File);
    assert!(!dir.path().join("layers/77.data").exists() && kept.exists() && stored.exists());
}
