//! Platform: operating system and processor of an image.
//!
//! # Sources
//! image-spec "image index"; containerd `platforms` (normalisation of architectures and variants).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// `os/architecture[/variant]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// Processor, in Go's words: amd64, arm64, …
    #[serde(default)]
    pub architecture: String,
    /// Operating system, in Go's words: linux, …
    #[serde(default)]
    pub os: String,
    /// Version of the system; Windows only.
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the system; Windows only.
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the processor: v7, v8, …; empty for the usual one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// A platform in its normal form.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (architecture, variant) =
            normalize(&architecture.to_ascii_lowercase(), &variant.to_ascii_lowercase());
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        Self { architecture, os, os_version: String::new(), os_features: Vec::new(), variant }
    }

    /// The platform of this machine.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, "")
    }

    /// Whether an image of platform `other` may be used where `self` is asked for.
    pub fn matches(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.normalized(), other.normalized());
        mine.os == theirs.os && mine.architecture == theirs.architecture && mine.variant == theirs.variant
    }

    /// The normal form.
    pub fn normalized(&self) -> Self {
        let mut platform = Self::new(&self.os, &self.architecture, &self.variant);
        platform.os_version.clone_from(&self.os_version);
        platform.os_features.clone_from(&self.os_features);
        platform
    }
}

/// Go's name and the variant; the usual variant of an architecture is written as none.
fn normalize(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", ""),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fail = |reason| Error::ParsePlatform { text: text.chars().take(200).collect(), reason };
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part.len() <= 64
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(word) {
            return Err(fail("its parts must be letters, digits, '_', '-' or '.'"));
        }
        match parts.as_slice() {
            ["linux" | "windows" | "darwin" | "freebsd"] => {
                Ok(Self::new(parts[0], &Self::host().architecture, ""))
            }
            [architecture] => Ok(Self::new(std::env::consts::OS, architecture, "")),
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(fail("too many parts")),
        }
    }
}
