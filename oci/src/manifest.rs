//! Manifest and index: what an image is made of, with the bytes that its digest is of.
//!
//! Raw bytes are the identity: a document that was read is never encoded again.
//!
//! # Sources
//! image-spec "manifest" and "index"; Docker schema 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{descriptor::Descriptor, digest::Digest, error::Error, media_type, platform::Platform};

/// Most layers of one image: overlayfs stacks no more than 500.
pub const MAX_LAYERS: usize = 500;
/// Most entries of one index: more is an attack on memory.
pub const MAX_MANIFESTS: usize = 10_000;

/// One image for one platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// What this document is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Several manifests, usually one for each platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The manifests.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// What this document is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// A manifest of ours.
    pub fn new(media_type: &str, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type.to_owned(),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads a manifest; an index in a manifest's clothes is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = parse("manifest", bytes)?;
        let fail =
            |reason: String| Error::InvalidDocument { what: "manifest", digest: Digest::of(bytes), reason };
        if manifest.schema_version != 2 {
            return Err(fail(format!("schema version {}, only 2 is supported", manifest.schema_version)));
        }
        if media_type::is_index(&manifest.media_type) {
            return Err(fail("its media type is that of an index".to_owned()));
        }
        if manifest.layers.len() > MAX_LAYERS {
            return Err(fail(format!(
                "{} layers, at most {MAX_LAYERS} can be stacked",
                manifest.layers.len()
            )));
        }
        Ok(manifest)
    }

    /// The bytes of a manifest of ours.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers have a JSON form")
    }
}

impl Index {
    /// An index of ours.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The first manifest that fits a platform; one that names none fits all.
    pub fn find(&self, platform: &Platform) -> Option<&Descriptor> {
        self.manifests.iter().find(|d| d.platform.as_ref().is_none_or(|p| platform.matches(p)))
    }

    /// Reads an index.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let index: Self = parse("index", bytes)?;
        let fail =
            |reason: String| Error::InvalidDocument { what: "index", digest: Digest::of(bytes), reason };
        if media_type::is_manifest(&index.media_type) {
            return Err(fail("its media type is that of a manifest".to_owned()));
        }
        if index.manifests.len() > MAX_MANIFESTS {
            return Err(fail(format!(
                "{} manifests, at most {MAX_MANIFESTS} are read",
                index.manifests.len()
            )));
        }
        Ok(index)
    }

    /// The bytes of an index of ours.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers have a JSON form")
    }
}

fn parse<T: for<'de> Deserialize<'de>>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::ParseDocument {
        what,
        digest: Digest::of(bytes),
        source,
    })
}
