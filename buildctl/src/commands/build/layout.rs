//! Layout: an image in an OCI layout on this machine, as `--build-context NAME=oci-layout://FOLDER[:TAG][@DIGEST]` names it.
//!
//! The digest is found here, in the layout's `index.json`: the daemon is asked for that image and no other.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use buildd_oci::{
    archive::{IMAGE_NAME, REF_NAME},
    blob::MAX_DOCUMENT,
    descriptor::Descriptor,
    digest::Digest,
    manifest::Index,
};

use crate::session::{blob_path, open_layout_file};

/// The tag that is meant where none is written.
const DEFAULT_TAG: &str = "latest";

/// An image in a layout.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The layout.
    pub(super) folder: PathBuf,
    /// The image's manifest or index.
    pub(super) digest: Digest,
}

impl Layout {
    /// Finds the image that `FOLDER[:TAG][@DIGEST]` names.
    pub(super) fn find(text: &str) -> Result<Self> {
        let (text, digest) = match text.rsplit_once('@').map(|(text, digest)| (text, digest.parse())) {
            Some((text, Ok(digest))) => (text, Some(digest)),
            _ => (text, None),
        };
        let (folder, tag) = match text.rsplit_once(':') {
            Some((folder, tag)) if !tag.contains('/') && !Path::new(text).is_dir() => (folder, Some(tag)),
            _ => (text, None),
        };
        let folder = PathBuf::from(folder);
        let digest = match digest {
            Some(digest) => digest,
            None => find(&index(&folder)?, tag).with_context(|| format!("{}", folder.display()))?,
        };
        let blob = blob_path(&digest);
        open_layout_file(&folder, &blob).with_context(|| format!("read {}", folder.join(&blob).display()))?;
        Ok(Self { folder, digest })
    }
}

fn index(folder: &Path) -> Result<Index> {
    let path = folder.join("index.json");
    let failed = || format!("read {}, which an OCI layout has", path.display());
    let file = open_layout_file(folder, Path::new("index.json")).with_context(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).with_context(failed)?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        bail!("{} has more than {MAX_DOCUMENT} bytes", path.display());
    }
    Index::parse(&bytes).with_context(failed)
}

/// The image of a tag; without one, `latest`, or the only image there is.
fn find(index: &Index, tag: Option<&str>) -> Result<Digest> {
    let images = &index.manifests;
    let wanted = tag.unwrap_or(DEFAULT_TAG);
    let found = images.iter().find(|image| tag_of(image) == Some(wanted));
    match (found, images.as_slice()) {
        (Some(image), _) => Ok(image.digest),
        (None, [only]) if tag.is_none() => Ok(only.digest),
        (None, []) => bail!("there is no image in it"),
        (None, _) => {
            let tags: Vec<&str> = images.iter().filter_map(tag_of).collect();
            let there = if tags.is_empty() { "none has a tag".to_owned() } else { tags.join(", ") };
            bail!("no image of the tag {wanted:?} is in it (there: {there}); a digest after @ names any")
        }
    }
}

/// The tag of an image; of one that has a whole name, the tag of that.
fn tag_of(image: &Descriptor) -> Option<&str> {
    let named = image.annotations.get(REF_NAME).or_else(|| image.annotations.get(IMAGE_NAME))?;
    match named.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => Some(tag),
        _ => Some(named),
    }
}

#[cfg(test)]
mod tests;
