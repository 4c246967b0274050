//! Export: images out of a store as one tar, the same bytes every time.
//!
//! Names are sorted, times are zero, owners are root; every blob is verified while it is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, BufReader, Read, Write},
};

use serde::Serialize;

use super::{IMAGE_NAME, LAYOUT, LAYOUT_FILE, REF_NAME};
use crate::{
    blob::{Provider, read_document},
    copy::MAX_DEPTH,
    descriptor::Descriptor,
    digest::Digest,
    error::Error,
    manifest::{Index, Manifest},
    media_type,
    platform::Platform,
    reference::Reference,
    verify::VerifyingReader,
};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// Which dialects an archive carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An OCI layout, with a `manifest.json` for docker beside it.
    Both,
    /// An OCI layout alone.
    Oci,
}

/// An image to export.
#[derive(Clone, Debug)]
pub struct ExportImage {
    /// Its canonical names; none makes an unnamed entry.
    pub names: Vec<String>,
    /// Its manifest or index.
    pub target: Descriptor,
}

/// Which platforms of an index an archive gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platforms {
    /// Those that are wholly here.
    Present,
    /// These, and they must be wholly here.
    Only(Vec<Platform>),
    /// All, and they must be wholly here.
    All,
}

/// A platform that an archive does not have, because it is not wholly here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The index's first name, or its digest.
    pub image: String,
    /// The platform.
    pub platform: String,
    /// The first of its blobs that is missing.
    pub blob: Digest,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes an archive of `images`; tells what was left out of it.
pub fn export(
    provider: &dyn Provider,
    images: &[ExportImage],
    platforms: &Platforms,
    kind: Kind,
    writer: &mut dyn Write,
) -> Result<Vec<Absent>, Error> {
    let mut found = Collected { provider, platforms, blobs: BTreeMap::new(), absent: Vec::new() };
    let mut entries = Vec::new();
    let mut docker = Vec::new();
    for image in images {
        let manifests = found.collect(image, &image.target, 0)?;
        entries.extend(index_entries(image));
        if let Some((_, manifest)) = best(&manifests) {
            docker.push(docker_image(image, manifest));
        }
    }
    let Collected { blobs, absent, .. } = found;
    let mut index = Index::new(entries);
    index.manifests.dedup();
    let mut archive = Archive { tar: tar::Builder::new(writer) };
    archive.directory("blobs/")?;
    let algorithms: BTreeSet<&str> = blobs.keys().map(|digest| digest.algorithm().as_str()).collect();
    for algorithm in algorithms {
        archive.directory(&format!("blobs/{algorithm}/"))?;
        for (digest, descriptor) in
            blobs.iter().filter(|(digest, _)| digest.algorithm().as_str() == algorithm)
        {
            let data = VerifyingReader::new(provider.open(descriptor)?, *digest, descriptor.size);
            archive.file(&blob_path(digest), 0o444, descriptor.size, data)?;
        }
    }
    let bytes = index.to_bytes();
    archive.file("index.json", 0o644, bytes.len() as u64, bytes.as_slice())?;
    if kind == Kind::Both && !docker.is_empty() {
        let bytes = serde_json::to_vec(&docker).expect("strings have a JSON form");
        archive.file("manifest.json", 0o644, bytes.len() as u64, bytes.as_slice())?;
    }
    archive.file(LAYOUT_FILE, 0o444, LAYOUT.len() as u64, LAYOUT)?;
    archive.tar.finish().map_err(|source| Error::WriteArchive { entry: "the end".to_owned(), source })?;
    Ok(absent)
}

type Found = (Option<Platform>, Manifest);

/// What images are made of, as far as it was looked at.
struct Collected<'a> {
    provider: &'a dyn Provider,
    platforms: &'a Platforms,
    blobs: BTreeMap<Digest, Descriptor>,
    absent: Vec<Absent>,
}

impl Collected<'_> {
    /// Takes every blob below `target`; the manifests among them.
    fn collect(
        &mut self,
        image: &ExportImage,
        target: &Descriptor,
        depth: usize,
    ) -> Result<Vec<Found>, Error> {
        let fail = |reason: &str| Error::InvalidDocument {
            what: "image",
            digest: target.digest,
            reason: reason.to_owned(),
        };
        if depth > MAX_DEPTH {
            return Err(fail("indexes nested too deeply"));
        }
        if media_type::is_manifest(&target.media_type) {
            let manifest = Manifest::parse(&read_document(self.provider, target)?)?;
            self.blobs.insert(target.digest, target.clone());
            let children = manifest.layers.iter().chain([&manifest.config]);
            children.clone().try_for_each(|descriptor| self.provider.open(descriptor).map(drop))?;
            self.blobs.extend(children.map(|descriptor| (descriptor.digest, descriptor.clone())));
            return Ok(vec![(target.platform.clone(), manifest)]);
        }
        if !media_type::is_index(&target.media_type) {
            let reason = format!("media type {:?} is neither a manifest nor an index", target.media_type);
            return Err(fail(&reason));
        }
        let index = Index::parse(&read_document(self.provider, target)?)?;
        let mut manifests = Vec::new();
        let before = self.absent.len();
        for child in index.manifests.iter().filter(|child| self.platforms.want(child)) {
            match self.collect(image, child, depth + 1) {
                Err(Error::BlobNotFound { digest }) => self.miss(image, target, child, digest)?,
                found => manifests.extend(found?),
            }
        }
        if manifests.is_empty() {
            if let Some(Absent { platform, blob, .. }) = self.absent.drain(before..).next() {
                return Err(Error::PlatformAbsent { index: target.digest, platform, blob });
            }
            return Err(Error::NoPlatform { digest: target.digest, wanted: self.platforms.to_string() });
        }
        self.blobs.insert(target.digest, target.clone());
        Ok(manifests)
    }

    /// Leaves a platform out, if whoever asked can do without it: a pull of one platform leaves the others incomplete.
    fn miss(
        &mut self,
        image: &ExportImage,
        index: &Descriptor,
        child: &Descriptor,
        blob: Digest,
    ) -> Result<(), Error> {
        let platform = child.platform.as_ref().map_or_else(|| child.digest.to_string(), Platform::to_string);
        if *self.platforms != Platforms::Present {
            return Err(Error::PlatformAbsent { index: index.digest, platform, blob });
        }
        let image = image.names.first().cloned().unwrap_or_else(|| image.target.digest.to_string());
        self.absent.push(Absent { image, platform, blob });
        Ok(())
    }
}

impl Platforms {
    fn want(&self, child: &Descriptor) -> bool {
        match (self, &child.platform) {
            (Self::Only(wanted), Some(platform)) => wanted.iter().any(|wanted| wanted.matches(platform)),
            _ => true,
        }
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present | Self::All => f.write_str("any"),
            Self::Only(wanted) => {
                let wanted: Vec<String> = wanted.iter().map(Platform::to_string).collect();
                f.write_str(&wanted.join(", "))
            }
        }
    }
}

/// docker's `manifest.json` has one platform for a name: this machine's, else the first.
fn best(manifests: &[Found]) -> Option<&Found> {
    let host = Platform::host();
    let fits = |platform: &Option<Platform>| platform.as_ref().is_some_and(|p| host.matches(p));
    manifests.iter().find(|(platform, _)| fits(platform)).or(manifests.first())
}

fn index_entries(image: &ExportImage) -> Vec<Descriptor> {
    let mut bare = image.target.clone();
    bare.annotations.retain(|key, _| key != IMAGE_NAME && key != REF_NAME);
    if image.names.is_empty() {
        return vec![bare];
    }
    let named = |name: &String| {
        let mut entry = bare.clone();
        let tag = Reference::parse(name).ok().and_then(|r| r.tag().map(str::to_owned));
        entry.annotations.insert(IMAGE_NAME.to_owned(), name.clone());
        entry.annotations.insert(REF_NAME.to_owned(), tag.unwrap_or_else(|| name.clone()));
        entry
    };
    image.names.iter().map(named).collect()
}

fn docker_image(image: &ExportImage, manifest: &Manifest) -> DockerImage {
    let familiar = |name: &String| match Reference::parse(name) {
        Ok(reference) => Some(reference).filter(|r| r.tag().is_some()).map(|r| r.familiar()),
        Err(_) => Some(name.clone()),
    };
    DockerImage {
        config: blob_path(&manifest.config.digest),
        repo_tags: image.names.iter().filter_map(familiar).collect(),
        layers: manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
    }
}

pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
}

impl<W: Write> Archive<W> {
    fn directory(&mut self, name: &str) -> Result<(), Error> {
        self.entry(name, tar::EntryType::Directory, 0o755, 0, io::empty())
    }

    fn file(&mut self, name: &str, mode: u32, size: u64, data: impl Read) -> Result<(), Error> {
        self.entry(name, tar::EntryType::Regular, mode, size, data)
    }

    fn entry(
        &mut self,
        name: &str,
        kind: tar::EntryType,
        mode: u32,
        size: u64,
        data: impl Read,
    ) -> Result<(), Error> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        let fail = |source| Error::WriteArchive { entry: name.to_owned(), source };
        header.set_path(name).map_err(fail)?;
        header.set_cksum();
        // It copies in small pieces: what lies behind is read, and verified, in large ones.
        self.tar.append(&header, BufReader::with_capacity(BUFFER, data)).map_err(fail)
    }
}
