use std::{
    collections::HashMap,
    io::{Cursor, Read},
    sync::Mutex,
};

use super::{ExportImage, ImportSink, Kind, export, import};
use crate::{
    blob::Provider,
    compress::{Compression, Writer},
    config::ImageConfig,
    descriptor::Descriptor,
    digest::Digest,
    error::Error,
    manifest::Manifest,
    media_type,
};

#[derive(Default)]
struct Memory {
    blobs: Mutex<HashMap<Digest, Vec<u8>>>,
}

impl Memory {
    fn add(&self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        self.blobs.lock().expect("no panic").insert(descriptor.digest, bytes);
        descriptor
    }
}

impl Provider for Memory {
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let blobs = self.blobs.lock().expect("no panic");
        let bytes = blobs.get(&descriptor.digest).ok_or(Error::BlobNotFound { digest: descriptor.digest })?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

impl ImportSink for &Memory {
    fn put(&mut self, data: &mut dyn Read) -> Result<(Digest, u64), Error> {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)
            .map_err(|source| Error::ReadArchive { operation: "a file".into(), source })?;
        let stored = self.add("", bytes);
        Ok((stored.digest, stored.size))
    }
}

fn image(store: &Memory) -> ExportImage {
    let layer = store.add(media_type::OCI_LAYER, b"layer".to_vec());
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids.push(layer.digest);
    let config = store.add(media_type::OCI_CONFIG, config.to_bytes());
    let manifest = Manifest::new(media_type::OCI_MANIFEST, config, vec![layer]);
    let target = store.add(media_type::OCI_MANIFEST, manifest.to_bytes());
    ExportImage { names: vec!["docker.io/library/one:v1".to_owned()], target }
}

fn exported(store: &Memory, image: &ExportImage) -> Vec<u8> {
    let mut archive = Vec::new();
    export(store, std::slice::from_ref(image), &[], Kind::Both, &mut archive).expect("an export");
    archive
}

#[test]
fn what_goes_out_comes_back_in() {
    let store = Memory::default();
    let image = image(&store);
    let archive = exported(&store, &image);
    assert_eq!(archive, exported(&store, &image), "exports are reproducible");
    for compression in [Compression::Uncompressed, Compression::Gzip, Compression::Zstd] {
        let mut writer = Writer::new(Vec::new(), compression, None).expect("a writer");
        std::io::Write::write_all(&mut writer, &archive).expect("memory");
        let bytes = writer.finish().expect("memory");
        let other = Memory::default();
        let imported = import(bytes.as_slice(), &mut &other).expect("an import");
        assert_eq!(imported.len(), 1);
        assert_eq!(imported[0].name.as_deref(), Some("docker.io/library/one:v1"));
        assert_eq!(imported[0].target.digest, image.target.digest);
        assert!(other.blobs.lock().expect("no panic").len() >= 3);
    }
}

#[test]
fn damage_is_an_error() {
    let store = Memory::default();
    let archive = exported(&store, &image(&store));
    for cut in [0, 100, 600, archive.len() / 2] {
        assert!(import(&archive[..cut], &mut &Memory::default()).is_err(), "cut at {cut}");
    }
    let absent = ExportImage {
        names: Vec::new(),
        target: Descriptor::new(media_type::OCI_MANIFEST, Digest::of(b"?"), 1),
    };
    assert!(export(&store, &[absent], &[], Kind::Oci, &mut Vec::new()).is_err());
}
