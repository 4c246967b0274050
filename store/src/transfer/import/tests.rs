//! Tests of the intake: what an archive's files become, whatever they are.

use std::{fs, io::Write as _, path::Path, sync::Arc};

use buildd_oci::{
    archive::{File, ImportSink as _},
    digest::Digest,
};
use flate2::{Compression, write::GzEncoder};

use super::{Intake, MIN_LAYER};
use crate::{layer::LayerFormat, root::Store, transfer::pack::UNCOMPRESSED};

fn store(root: &Path) -> Arc<Store> {
    Store::open_with(root, LayerFormat::File).expect("a store")
}

/// A tar with one large file.
fn tar() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let bytes: Vec<u8> = (0..MIN_LAYER * 2).map(|n| ((n * n) >> 7) as u8).collect();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "file", bytes.as_slice()).expect("memory");
    builder.into_inner().expect("memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(bytes).and_then(|()| gzip.finish()).expect("memory")
}

fn put(intake: &mut Intake<'_>, bytes: &[u8], claimed: Option<Digest>) -> Digest {
    let file = File { size: bytes.len() as u64, claimed };
    let (digest, size) = intake.put(file, &mut &bytes[..]).expect("a blob");
    assert_eq!((digest, size), (Digest::of(bytes), bytes.len() as u64));
    digest
}

fn layers(root: &Path) -> usize {
    let count = |dir: &str| fs::read_dir(root.join(dir)).expect("a folder").count();
    assert_eq!(count("tmp"), 0, "something half made was left");
    count("layers")
}

#[test]
fn a_layer_is_unpacked_as_it_comes_and_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let (tar, mut intake) = (tar(), Intake::new(&store, "ns", true));
    for bytes in [gzip(&tar), tar.clone()] {
        let blob = put(&mut intake, &bytes, None);
        let labels = store.content.info("ns", &blob).expect("a row").labels;
        assert_eq!(labels.get(UNCOMPRESSED), Some(&Digest::of(&tar).to_string()));
    }
    assert!(store.snapshots.stack_known(None, &Digest::of(&tar)).expect("a database").is_some());
    let before = layers(dir.path());
    // A claim that is known saves the second time, whatever comes under it.
    put(&mut intake, &gzip(&tar), Some(Digest::of(&gzip(&tar))));
    put(&mut intake, &vec![1; MIN_LAYER as usize], Some(Digest::of(&tar)));
    assert_eq!((layers(dir.path()), intake.held.len()), (before, 4));
}

#[test]
fn what_is_no_layer_is_stored_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let mut intake = Intake::new(&store, "ns", true);
    let whole = gzip(&tar());
    let noise: Vec<u8> = (0..MIN_LAYER * 3).map(|n| (n * 7 + (n >> 9)) as u8).collect();
    for bytes in [noise.clone(), gzip(&noise), whole[..whole.len() / 2].to_vec(), tar()[..700_000].to_vec()] {
        let blob = put(&mut intake, &bytes, None);
        assert!(store.content.info("ns", &blob).expect("a row").labels.is_empty());
    }
    assert_eq!((layers(dir.path()), intake.held.len()), (0, 0));
}

#[test]
fn nothing_is_unpacked_for_whoever_does_not_want_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let mut intake = Intake::new(&store, "ns", false);
    put(&mut intake, &tar(), None);
    assert_eq!(layers(dir.path()), 0);
}

#[test]
fn undone_only_what_was_not_there_is_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = store(dir.path());
    let before = put(&mut Intake::new(&store, "ns", false), b"before", None);
    let mut intake = Intake::new(&store, "ns", true);
    let new = put(&mut intake, &tar(), None);
    put(&mut intake, b"before", None);
    intake.undo().expect("undone");
    assert!(store.content.info("ns", &before).is_ok());
    assert!(store.content.info("ns", &new).is_err());
}
