//! Attributes: what a client may say about an export; an unknown word is refused with the nearest known one.

use buildd_fs::nearest::nearest;
use buildd_oci::{compress::Compression, media_type::Family};

use super::{ExportRequest, annotations::Annotations, canonical, drivers::Driver};
use crate::error::{Error, Result};

/// Attributes of the exporters that make images.
pub(super) const IMAGE: &[&str] = &[
    "name",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "source-date-epoch",
    "rewrite-timestamp",
    "push",
    "push-by-digest",
    "registry.insecure",
    "unpack",
    "store",
    "tar",
    "name-canonical",
];
/// Attributes of the exporters that send trees.
pub(super) const TREE: &[&str] = &["source-date-epoch", "platform-split"];

/// An export's attributes, checked.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// Canonical names.
    pub names: Vec<String>,
    /// How layers are compressed.
    pub compression: Compression,
    /// How hard.
    pub level: Option<i32>,
    /// Whose media types.
    pub family: Family,
    /// Whether layers that lie here in another compression are packed again.
    pub force_compression: bool,
    /// Notes on the documents.
    pub annotations: Annotations,
    /// No time is later than this.
    pub epoch: Option<i64>,
    /// Whether times in layers obey the epoch: those of all layers, of none, or (not said) of those that this build made.
    pub rewrite_timestamp: Option<bool>,
    /// Whether each of several trees gets a folder of its own.
    pub platform_split: Option<bool>,
    /// Whether the image goes to the registries of its names.
    pub push: bool,
    /// Without a tag.
    pub push_by_digest: bool,
    /// Trusting whoever answers.
    pub insecure: bool,
}

impl Attributes {
    /// Checks the attributes of a request.
    pub(super) fn parse(request: &ExportRequest, driver: &Driver) -> Result<Self> {
        let (makes_image, known) = (driver.makes_image, driver.attributes);
        let push =
            request.attributes.get("push").is_some_and(|value| truth("push", value).is_ok_and(|push| push));
        // A local image costs nothing uncompressed; what travels is compressed.
        let default = match request.kind.as_str() {
            "image" if !push => Compression::Uncompressed,
            _ => Compression::Gzip,
        };
        let family = if request.kind == "docker" { Family::Docker } else { Family::Oci };
        let mut attributes = Self {
            names: Vec::new(),
            compression: default,
            level: None,
            family,
            force_compression: false,
            annotations: Annotations::default(),
            epoch: request.epoch,
            rewrite_timestamp: None,
            platform_split: None,
            push: false,
            push_by_digest: false,
            insecure: false,
        };
        for (key, value) in &request.attributes {
            if makes_image && key.starts_with("annotation") {
                attributes.annotations.add(key, value)?;
            } else if known.contains(&key.as_str()) {
                attributes.set(key, value)?;
            } else {
                let known_here = || format!("unknown; there are {}", known.join(", "));
                let reason = nearest(key, known)
                    .map_or_else(known_here, |near| format!("unknown; did you mean {near:?}?"));
                return Err(invalid("exporter attribute", key, &reason));
            }
        }
        if attributes.rewrite_timestamp == Some(true) && attributes.epoch.is_none() {
            let reason = "it needs a time to rewrite to: SOURCE_DATE_EPOCH or source-date-epoch";
            return Err(invalid("exporter attribute", "rewrite-timestamp", reason));
        }
        if let Some(level) = attributes.level
            && !attributes.compression.levels().contains(&level)
        {
            let levels = attributes.compression.levels();
            let reason = format!(
                "{} has levels {} to {}",
                attributes.compression.as_str(),
                levels.start(),
                levels.end()
            );
            return Err(invalid("compression-level", &level.to_string(), &reason));
        }
        Ok(attributes)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let number =
            || value.parse::<i64>().map_err(|_| invalid(key_name(key), value, "it is not a whole number"));
        match key {
            "name" => {
                self.names =
                    value.split(',').filter(|n| !n.is_empty()).map(canonical).collect::<Result<_>>()?;
            }
            "compression" => {
                self.compression = value
                    .parse()
                    .map_err(|()| invalid("compression", value, "uncompressed, gzip and zstd are known"))?;
            }
            "compression-level" => {
                self.level =
                    Some(number()?.try_into().map_err(|_| invalid("compression-level", value, "too large"))?);
            }
            "source-date-epoch" => self.epoch = Some(number()?),
            "oci-mediatypes" => {
                self.family = if truth(key, value)? { Family::Oci } else { Family::Docker };
            }
            "force-compression" => self.force_compression = truth(key, value)?,
            "rewrite-timestamp" => self.rewrite_timestamp = Some(truth(key, value)?),
            "platform-split" => self.platform_split = Some(truth(key, value)?),
            "push" => self.push = truth(key, value)?,
            "push-by-digest" => self.push_by_digest = truth(key, value)?,
            "registry.insecure" => self.insecure = truth(key, value)?,
            "tar" if !truth(key, value)? => return Err(invalid("tar", value, "only tar archives are sent")),
            "store" if !truth(key, value)? => {
                return Err(invalid("store", value, "an image is always stored"));
            }
            // Layers are stored as they are mounted: there is nothing to unpack, and names are canonical.
            _ => drop(truth(key, value)?),
        }
        Ok(())
    }
}

fn key_name(key: &str) -> &'static str {
    if key == "source-date-epoch" { "source-date-epoch" } else { "compression-level" }
}

fn truth(key: &str, value: &str) -> Result<bool> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::Invalid {
            what: "exporter attribute",
            name: key.to_owned(),
            reason: "it is true or false".to_owned(),
        }),
    }
}

fn invalid(what: &'static str, name: &str, reason: &str) -> Error {
    Error::Invalid { what, name: name.to_owned(), reason: reason.to_owned() }
}
