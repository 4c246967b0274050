//! Copies of images between stores: children first, each once, and no deeper than is allowed.

use std::{
    collections::HashMap,
    io::{Cursor, Read},
    sync::Mutex,
};

use super::{MAX_DEPTH, copy, walk_children};
use crate::{
    ErrorKind,
    blob::{Ingester, Provider},
    descriptor::Descriptor,
    digest::Digest,
    error::Error,
    manifest::{Index, Manifest},
    media_type,
};

#[derive(Default)]
struct Memory(Mutex<HashMap<Digest, Vec<u8>>>);

impl Memory {
    fn add(&self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        self.0.lock().expect("no panic").insert(descriptor.digest, bytes);
        descriptor
    }

    fn image(&self) -> Descriptor {
        let layer = self.add(media_type::OCI_LAYER, b"layer".to_vec());
        let config = self.add(media_type::OCI_CONFIG, b"{}".to_vec());
        let manifest = Manifest::new(media_type::OCI_MANIFEST, config, vec![layer.clone(), layer]);
        self.add(media_type::OCI_MANIFEST, manifest.to_bytes())
    }
}

impl Provider for Memory {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let bytes = self.0.lock().expect("no panic").get(&blob.digest).cloned();
        Ok(Box::new(Cursor::new(bytes.ok_or(Error::BlobNotFound { digest: blob.digest })?)))
    }
}

impl Ingester for Memory {
    fn exists(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.0.lock().expect("no panic").contains_key(digest))
    }

    fn ingest(&self, expected: &Descriptor, data: &mut dyn Read) -> Result<(), Error> {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).map_err(|source| Error::Blob {
            operation: "write",
            digest: expected.digest,
            source,
        })?;
        self.0.lock().expect("no panic").insert(expected.digest, bytes);
        Ok(())
    }
}

#[test]
fn children_come_first_and_once() {
    let from = Memory::default();
    let image = from.image();
    let index = from.add(media_type::OCI_INDEX, Index::new(vec![image.clone(), image.clone()]).to_bytes());
    let blobs = walk_children(&from, &index).expect("a walk");
    let types: Vec<&str> = blobs.iter().map(|blob| blob.media_type.as_str()).collect();
    assert_eq!(
        types,
        [media_type::OCI_CONFIG, media_type::OCI_LAYER, media_type::OCI_MANIFEST, media_type::OCI_INDEX]
    );
    let to = Memory::default();
    copy(&from, &to, &index).expect("a copy");
    assert_eq!(walk_children(&to, &index).expect("a walk of the copy"), blobs);
}

#[test]
fn damage_and_depth_are_errors() {
    let from = Memory::default();
    let image = from.image();
    let layer = Digest::of(b"layer");
    from.0.lock().expect("no panic").insert(layer, b"LAYER".to_vec());
    let to = Memory::default();
    assert!(copy(&from, &to, &image).is_err(), "a damaged layer was copied");
    assert!(!to.exists(&layer).expect("memory") && !to.exists(&image.digest).expect("memory"));

    let mut nested = from.image();
    for _ in 0..=MAX_DEPTH {
        nested = from.add(media_type::OCI_INDEX, Index::new(vec![nested]).to_bytes());
    }
    let error = walk_children(&from, &nested).expect_err("too deep");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}
