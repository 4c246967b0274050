//! Image config: how a container of the image starts, what its layers are, how it was made.
//!
//! Fields nobody knows are kept, so that a config that passes through us loses nothing.
//!
//! # Sources
//! image-spec "config"; Docker's additions (Healthcheck, Shell, OnBuild).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{digest::Digest, error::Error, platform::Platform};

/// The config document of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Processor, in Go's words.
    #[serde(default)]
    pub architecture: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// How a container starts.
    #[serde(default)]
    pub config: RunConfig,
    /// When it was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// One entry for each instruction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Operating system, in Go's words.
    #[serde(default)]
    pub os: String,
    /// The layers.
    #[serde(default)]
    pub rootfs: RootFs,
    /// Variant of the processor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// What else was there.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a container of the image starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port/protocol`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable_set")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// `NAME=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The program and its first arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Further arguments, or the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// How its health is tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Whether the command line is escaped already; Windows only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// Mount points for volumes.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable_set")]
    pub volumes: Option<BTreeMap<String, Value>>,
    /// Where it starts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Free labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Triggers for images built from this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// The signal that asks it to end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// What the shell form runs with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// What else was there.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A health test; durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and a program, or `CMD-SHELL` and a script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between tests.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time one test may take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time in which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between tests while starting.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// How many failures in a row mean unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image by their uncompressed digests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always "layers".
    #[serde(rename = "type", default = "layers")]
    pub kind: String,
    /// The diff_ids, lowest first.
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

/// One instruction of the image's making.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// By whom.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A note.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: layers(), diff_ids: Vec::new() }
    }
}

impl ImageConfig {
    /// Reads a config.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let digest = Digest::of(bytes);
        let config: Self = serde_json::from_slice(bytes).map_err(|source| Error::ParseDocument {
            what: "image config",
            digest,
            source,
        })?;
        if config.rootfs.kind != "layers" {
            let reason = format!(
                "its root file system is of type {:?}, only \"layers\" is supported",
                config.rootfs.kind
            );
            return Err(Error::InvalidDocument { what: "image config", digest, reason });
        }
        Ok(config)
    }

    /// The bytes of a config of ours.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers have a JSON form")
    }

    /// The platform it is for.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }
}

/// The chain ids of a stack of layers: each names its layer and all below.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chain
}

fn layers() -> String {
    "layers".to_owned()
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// Go writes a nil map as null.
fn nullable_set<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, Value>>, D::Error> {
    Option::deserialize(deserializer)
}
