//! Annotations: notes that a client puts on a manifest, on the index, or on the descriptors of either.
//!
//! `annotation[-LEVEL][PLATFORM].KEY=VALUE`, where LEVEL is `manifest` (not said), `index`, `manifest-descriptor` or
//! `index-descriptor`.
//!
//! # Sources
//! spec solver 2.5; moby/buildkit `exporter/containerimage/exptypes/annotations.go`.

use std::collections::BTreeMap;

use buildd_oci::platform::Platform;

use crate::error::{Error, Result};

/// Which document carries a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The manifest itself.
    Manifest,
    /// The manifest's entry in the index.
    ManifestDescriptor,
    /// The index itself.
    Index,
    /// The descriptor of the index, in the layout of an archive.
    IndexDescriptor,
}

/// All that a client wants noted.
#[derive(Clone, Debug, Default)]
pub struct Annotations(Vec<Note>);

#[derive(Clone, Debug)]
struct Note {
    level: Level,
    /// Only for this platform.
    platform: Option<Platform>,
    key: String,
    value: String,
}

impl Annotations {
    /// Takes one attribute.
    pub fn add(&mut self, attribute: &str, value: &str) -> Result<()> {
        let bad = |reason: String| Error::Invalid {
            what: "exporter attribute",
            name: attribute.to_owned(),
            reason,
        };
        let form = || bad("annotation[-LEVEL][PLATFORM].KEY is its form".to_owned());
        let rest = attribute.strip_prefix("annotation").ok_or_else(form)?;
        let end = rest.find(['[', '.']).ok_or_else(form)?;
        let (level, rest) = rest.split_at(end);
        let level = match level {
            "" | "-manifest" => Level::Manifest,
            "-manifest-descriptor" => Level::ManifestDescriptor,
            "-index" => Level::Index,
            "-index-descriptor" => Level::IndexDescriptor,
            _ => {
                let known = "manifest, manifest-descriptor, index and index-descriptor are known";
                return Err(bad(known.to_owned()));
            }
        };
        let (platform, rest) = match rest.strip_prefix('[').map(|rest| rest.split_once(']').ok_or_else(form))
        {
            None => (None, rest),
            Some(split) => {
                let (platform, rest) = split?;
                (Some(platform.parse().map_err(|error| bad(format!("{error}")))?), rest)
            }
        };
        if platform.is_some() && matches!(level, Level::Index | Level::IndexDescriptor) {
            return Err(bad("an index has no platform".to_owned()));
        }
        let key = rest.strip_prefix('.').filter(|key| !key.is_empty()).ok_or_else(form)?;
        self.0.push(Note { level, platform, key: key.to_owned(), value: value.to_owned() });
        Ok(())
    }

    /// Those of a document of this platform; what is for one platform beats what is for all.
    pub fn of(&self, level: Level, platform: &Platform) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for own in [false, true] {
            let notes = self.0.iter().filter(|note| note.level == level && note.platform.is_some() == own);
            for note in notes.filter(|note| note.platform.as_ref().is_none_or(|only| only == platform)) {
                found.insert(note.key.clone(), note.value.clone());
            }
        }
        found
    }

    /// Those of the index.
    pub fn of_index(&self, level: Level) -> BTreeMap<String, String> {
        let notes = self.0.iter().filter(|note| note.level == level);
        notes.map(|note| (note.key.clone(), note.value.clone())).collect()
    }
}

#[cfg(test)]
mod tests;
