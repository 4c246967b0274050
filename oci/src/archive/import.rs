//! Import: an archive's stream into a store, then the images that its index names.
//!
//! Files are taken in the order they come; nothing is believed about their names but what the documents say. Hard links
//! are not followed, symbolic links only from one name in the archive to another.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Chain, Cursor, Read},
};

use serde::Deserialize;

use super::{IMAGE_NAME, LAYOUT_FILE, REF_NAME, SUBJECT};
use crate::{
    blob::MAX_DOCUMENT,
    compress::{self, Compression, Growth},
    config::ImageConfig,
    descriptor::Descriptor,
    digest::Digest,
    error::Error,
    manifest::{Index, Manifest},
    media_type::{self, Family},
    reference::Reference,
    tar_stream::TarStream,
};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;
/// Most entries of one archive: more is an attack on memory.
const MAX_ENTRIES: usize = 1_000_000;
/// Most bytes of names, links and JSON files of one archive: they are held in memory until its end.
const MAX_HELD: usize = 256 << 20;
/// Largest image config that docker writes by far.
const MAX_CONFIG: u64 = 1 << 20;

/// What an archive says about a file before its bytes come; none of it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Bytes.
    pub size: u64,
    /// The digest that its name claims.
    pub claimed: Option<Digest>,
}

impl File {
    fn named(name: &str, size: u64) -> Self {
        let claimed = name.strip_prefix("blobs/").and_then(|name| name.replacen('/', ":", 1).parse().ok());
        Self { size, claimed }
    }
}

/// Where an import's files go.
pub trait ImportSink {
    /// Takes a blob of unknown digest; it may become visible only when the import as a whole succeeded.
    fn put(&mut self, file: File, data: &mut dyn Read) -> Result<(Digest, u64), Error>;
}

/// One image of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Its canonical name, if the archive names it.
    pub name: Option<String>,
    /// Its tag, if the archive has only that.
    pub tag: Option<String>,
    /// Its manifest or index.
    pub target: Descriptor,
    /// What it refers to (a signature, an attestation); without a name it is no image of its own then, and is kept as long as that is.
    pub subject: Option<Digest>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// A file of the archive, as it was stored.
#[derive(Clone, Copy, Debug)]
struct Stored {
    digest: Digest,
    size: u64,
    compression: Compression,
}

#[derive(Default)]
struct Files {
    stored: HashMap<String, Stored>,
    links: HashMap<String, String>,
    documents: BTreeMap<String, Vec<u8>>,
    /// Small JSON files by digest: the configs of docker images are among them.
    configs: HashMap<Digest, Vec<u8>>,
}

/// Reads an archive, compressed or not, to its end.
pub fn import(reader: impl Read + Send, sink: &mut dyn ImportSink) -> Result<Vec<Imported>, Error> {
    let reader = compress::reader(reader, Growth::default())
        .map_err(|source| Error::ReadArchive { operation: "its first bytes".to_owned(), source })?;
    let files = read_files(BufReader::with_capacity(BUFFER, reader), sink)?;
    if let Some(layout) = files.documents.get(LAYOUT_FILE) {
        return oci_images(&files, layout);
    }
    match files.documents.get("manifest.json") {
        Some(manifest) => docker_images(&files, manifest, sink),
        None => Err(invalid("it has neither oci-layout nor manifest.json")),
    }
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidArchive { reason: reason.into() }
}

fn read_files(reader: impl BufRead, sink: &mut dyn ImportSink) -> Result<Files, Error> {
    let fail = |operation: &str| {
        let operation = operation.to_owned();
        move |source| Error::ReadArchive { operation, source }
    };
    let mut files = Files::default();
    let mut archive = TarStream::new(reader);
    let (mut count, mut held) = (0, 0);
    while let Some(entry) = archive.next_entry().map_err(fail("an entry's header"))? {
        count += 1;
        if count > MAX_ENTRIES {
            return Err(invalid(format!("more than {MAX_ENTRIES} entries")));
        }
        let name = String::from_utf8(entry.path()).map_err(|_| invalid("an entry's name is not UTF-8"))?;
        let name = clean(&name);
        let kind = entry.kind();
        if kind.is_symlink() {
            let target = String::from_utf8(entry.link().unwrap_or_default())
                .map_err(|_| invalid("a link's target is not UTF-8"))?;
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let target = clean(&format!("{folder}/{target}"));
            held += name.len() + target.len();
            files.links.insert(name, target);
        } else if kind.is_file() || kind == tar::EntryType::Continuous {
            held += name.len();
            if matches!(name.as_str(), LAYOUT_FILE | "index.json" | "manifest.json") {
                let bytes = read_bounded(&mut archive, &name)?;
                files.documents.insert(name, bytes);
            } else {
                let size = entry.size();
                let file = File::named(&name, size);
                let (stored, taken) = if size <= MAX_CONFIG {
                    let bytes = read_bounded(&mut archive, &name)?;
                    let stored = store(file, &mut bytes.as_slice(), sink)?;
                    if bytes.first() == Some(&b'{') {
                        held += bytes.len();
                        files.configs.insert(stored.0.digest, bytes);
                    }
                    stored
                } else {
                    store(file, &mut archive, sink)?
                };
                if taken != size {
                    return Err(invalid(format!(
                        "{name} has {taken} of its {size} bytes: the archive is cut off"
                    )));
                }
                files.stored.insert(name, stored);
            }
        }
        if held > MAX_HELD {
            return Err(invalid(format!("its names and documents have more than {MAX_HELD} bytes")));
        }
    }
    Ok(files)
}

fn store(file: File, data: &mut impl Read, sink: &mut dyn ImportSink) -> Result<(Stored, u64), Error> {
    let mut head = Vec::with_capacity(4);
    data.by_ref()
        .take(4)
        .read_to_end(&mut head)
        .map_err(|source| Error::ReadArchive { operation: "a file".to_owned(), source })?;
    let compression = Compression::detect(&head);
    let mut whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(head).chain(data);
    let (digest, size) = sink.put(file, &mut whole)?;
    Ok((Stored { digest, size, compression }, size))
}

fn read_bounded(data: &mut impl Read, name: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    data.take(MAX_DOCUMENT + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::ReadArchive { operation: name.to_owned(), source })?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(invalid(format!("{name} is larger than {MAX_DOCUMENT} bytes")));
    }
    Ok(bytes)
}

/// A name without `.`, empty parts and leading slash; `..` steps back, never above the top.
fn clean(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Files {
    fn find(&self, name: &str) -> Result<Stored, Error> {
        let mut name = clean(name);
        // Each step follows one link; more steps than links means a loop.
        for _ in 0..=self.links.len() {
            if let Some(stored) = self.stored.get(&name) {
                return Ok(*stored);
            }
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        Err(invalid(format!("{name} is named in its manifest.json but is not in the archive")))
    }
}

fn oci_images(files: &Files, layout: &[u8]) -> Result<Vec<Imported>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let layout: Layout =
        serde_json::from_slice(layout).map_err(|e| invalid(format!("its oci-layout: {e}")))?;
    if layout.image_layout_version != "1.0.0" {
        return Err(invalid(format!("unsupported OCI version {:?}", layout.image_layout_version)));
    }
    let index =
        files.documents.get("index.json").ok_or_else(|| invalid("it has oci-layout but no index.json"))?;
    let index = Index::parse(index)?;
    let held: HashMap<Digest, u64> =
        files.stored.values().map(|stored| (stored.digest, stored.size)).collect();
    let mut images = Vec::new();
    for target in index.manifests {
        if held.get(&target.digest).is_some_and(|size| *size != target.size) {
            return Err(Error::SizeMismatch {
                digest: target.digest,
                expected: target.size,
                actual: held[&target.digest],
            });
        }
        if !held.contains_key(&target.digest) {
            return Err(invalid(format!(
                "{} is named in its index but is not in the archive",
                target.digest
            )));
        }
        let named = target.annotations.get(IMAGE_NAME).or_else(|| target.annotations.get(REF_NAME));
        let (name, tag) = match named {
            Some(name) if name.contains(['/', ':', '@']) => (Some(canonical(name)?), None),
            Some(tag) => (None, Some(tag.clone())),
            None => (None, None),
        };
        let subject = target.annotations.get(SUBJECT).map(|digest| digest.parse()).transpose()?;
        images.push(Imported { name, tag, target, subject });
    }
    Ok(images)
}

fn canonical(name: &str) -> Result<String, Error> {
    Ok(Reference::parse(name)?.with_default_tag().to_string())
}

fn docker_images(files: &Files, manifest: &[u8], sink: &mut dyn ImportSink) -> Result<Vec<Imported>, Error> {
    let listed: Vec<DockerImage> =
        serde_json::from_slice(manifest).map_err(|e| invalid(format!("its manifest.json: {e}")))?;
    let mut images = Vec::new();
    for image in listed {
        let config = files.find(&image.config)?;
        let diff_ids = match files.configs.get(&config.digest) {
            Some(bytes) => ImageConfig::parse(bytes)?.rootfs.diff_ids,
            None => return Err(invalid(format!("{} is not an image config", image.config))),
        };
        if diff_ids.len() != image.layers.len() {
            return Err(invalid(format!("{} layers but {} diff_ids", image.layers.len(), diff_ids.len())));
        }
        let mut layers = Vec::new();
        for (layer, diff_id) in image.layers.iter().zip(diff_ids) {
            let stored = files.find(layer)?;
            if stored.compression == Compression::Uncompressed && stored.digest != diff_id {
                return Err(Error::DigestMismatch {
                    expected: diff_id,
                    actual: Box::new(stored.digest),
                    size: stored.size,
                });
            }
            let media_type = media_type::layer(stored.compression, Family::Docker);
            layers.push(Descriptor::new(media_type, stored.digest, stored.size));
        }
        let config = Descriptor::new(media_type::DOCKER_CONFIG, config.digest, config.size);
        let bytes = Manifest::new(media_type::DOCKER_MANIFEST, config, layers).to_bytes();
        let file = File { size: bytes.len() as u64, claimed: None };
        let (digest, size) = sink.put(file, &mut bytes.as_slice())?;
        let target = Descriptor::new(media_type::DOCKER_MANIFEST, digest, size);
        let names = image.repo_tags.unwrap_or_default();
        if names.is_empty() {
            images.push(Imported { name: None, tag: None, target: target.clone(), subject: None });
        }
        for name in names {
            images.push(Imported {
                name: Some(canonical(&name)?),
                tag: None,
                target: target.clone(),
                subject: None,
            });
        }
    }
    Ok(images)
}
