//! Layers that are more than they seem.

use std::{
    fs,
    io::{Read, Write},
};

use buildd_oci::{
    ErrorKind,
    compress::{Compression, Growth, Writer},
};

use super::*;
use crate::layer::{Entry, EntryKind, ExportOptions, LayerFormat, LayerRules, TarWriter};

/// A layer of zeros, compressed a thousandfold.
fn bomb() -> Vec<u8> {
    let size = 8 << 20;
    let mut tar = Vec::new();
    let mut writer = TarWriter::new(&mut tar, ExportOptions::default());
    let mut entry = Entry::directory("zeros".into());
    entry.kind = EntryKind::File { size };
    writer.entry(&entry, &mut std::io::repeat(0).take(size)).expect("an entry");
    writer.finish().expect("an end");
    let mut writer = Writer::new(Vec::new(), Compression::Gzip, None).expect("a stream");
    writer.write_all(&tar).expect("memory");
    writer.finish().expect("memory")
}

#[test]
fn blob_01_a_layer_that_outgrows_what_is_allowed_leaves_nothing() {
    let bomb = bomb();
    for form in [LayerFormat::File, LayerFormat::Directory] {
        let dir = tempfile::tempdir().expect("a folder");
        let rules = |free| LayerRules { form, growth: Growth { free, ratio: 100 } };
        let store = Store::open_with(dir.path(), rules(1 << 20)).expect("a store");
        let error = apply(&store, &bomb[..], None, None).expect_err("a bomb");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{form:?}: {error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("layer-growth")), "{form:?}: {error:?}");
        for folder in ["layers", "tmp", "trash"] {
            let left = fs::read_dir(dir.path().join(folder)).expect("a folder").count();
            assert_eq!(left, 0, "{form:?}: {folder}");
        }
        drop(store);
        let store = Store::open_with(dir.path(), rules(16 << 20)).expect("a store");
        apply(&store, &bomb[..], None, None).expect("where it is allowed it is a layer");
    }
}
