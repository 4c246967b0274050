//! Conversions that several services need: descriptors, times, labels, masks.

use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

use buildd_api::containerd::containerd::types;
use buildd_oci::{descriptor::Descriptor, digest::Digest};
use prost_types::{FieldMask, Timestamp};
use tonic::Status;

use crate::status::Answer;

/// Bytes of a label, key and value together, as containerd has it.
const MAX_LABEL: usize = 4096;

/// A time on the wire.
pub(super) fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Some(time.into())
}

/// A digest from the wire.
pub(super) fn digest(text: &str) -> Result<Digest, Status> {
    text.parse::<Digest>().or_status()
}

/// A descriptor from the wire.
pub(super) fn descriptor(wire: Option<types::Descriptor>) -> Result<Descriptor, Status> {
    let wire = wire.ok_or_else(|| Status::invalid_argument("a target descriptor is required"))?;
    let size = u64::try_from(wire.size).map_err(|_| Status::invalid_argument("a negative size"))?;
    let annotations = wire.annotations.into_iter().collect();
    Ok(Descriptor { annotations, ..Descriptor::new(wire.media_type, digest(&wire.digest)?, size) })
}

/// A descriptor on the wire.
pub(super) fn to_descriptor(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: signed(descriptor.size),
        annotations: descriptor.annotations.clone().into_iter().collect(),
    }
}

/// A size or offset on the wire.
pub(super) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A size or offset from the wire.
pub(super) fn unsigned(size: i64) -> Result<u64, Status> {
    u64::try_from(size).map_err(|_| Status::out_of_range("a negative size or offset"))
}

/// Labels from the wire, checked.
pub(super) fn labels(wire: HashMap<String, String>) -> Result<BTreeMap<String, String>, Status> {
    if let Some((key, _)) = wire.iter().find(|(key, value)| key.len() + value.len() > MAX_LABEL) {
        let start: String = key.chars().take(64).collect();
        return Err(Status::invalid_argument(format!(
            "label {start:?}: key and value exceed {MAX_LABEL} bytes"
        )));
    }
    Ok(wire.into_iter().filter(|(_, value)| !value.is_empty()).collect())
}

/// What an update changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Masked {
    /// The labels afterwards, if they change.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// Other fields that change; of those that the caller named.
    pub(super) fields: Vec<String>,
}

/// Applies a mask: no mask replaces all; `labels` replaces them; `labels.k` sets or, with an empty value, removes one.
pub(super) fn masked(
    mask: Option<FieldMask>,
    known: &[&str],
    old: &BTreeMap<String, String>,
    new: HashMap<String, String>,
) -> Result<Masked, Status> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        let fields = known.iter().map(|field| (*field).to_owned()).collect();
        return Ok(Masked { labels: Some(labels(new)?), fields });
    }
    let mut masked = Masked { labels: None, fields: Vec::new() };
    let wanted = labels(new)?;
    for path in paths {
        if path == "labels" {
            masked.labels = Some(wanted.clone());
        } else if let Some(key) = path.strip_prefix("labels.") {
            let labels = masked.labels.get_or_insert_with(|| old.clone());
            match wanted.get(key) {
                Some(value) => labels.insert(key.to_owned(), value.clone()),
                None => labels.remove(key),
            };
        } else if known.contains(&path.as_str()) {
            masked.fields.push(path);
        } else {
            return Err(Status::invalid_argument(format!("cannot update {path:?}")));
        }
    }
    Ok(masked)
}

/// The same as a change of labels, where nothing else can be changed.
pub(super) fn labels_masked(
    mask: Option<FieldMask>,
    new: HashMap<String, String>,
) -> impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), Status> {
    move |labels| {
        if let Some(changed) = masked(mask, &[], labels, new)?.labels {
            *labels = changed;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
