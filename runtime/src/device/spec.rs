//! CDI specs: files of this machine's administrator that say what a container needs to use a device.
//!
//! Read anew for each step that asks for devices: what the files say now counts. JSON is YAML too.
//!
//! # Sources
//! Container Device Interface, SPEC.md 0.6 and later.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::IgnoredAny};

/// Largest spec: a file that has no end ends here.
const MAX_SPEC: u64 = 1 << 20;
/// Files of one folder that are read.
const MAX_FILES: usize = 1000;

/// One file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    /// `vendor/class`.
    pub(super) kind: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, Scalar>,
    #[serde(default)]
    pub(super) devices: Vec<SpecDevice>,
    /// What every device of the file needs.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// A device.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpecDevice {
    pub(super) name: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, Scalar>,
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// What a container needs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<Node>,
    pub(super) mounts: Vec<Bind>,
    pub(super) additional_gids: Vec<u32>,
    /// What is not done here, by name.
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, IgnoredAny>,
}

/// A device node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) host_path: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<i64>,
    pub(super) minor: Option<i64>,
    pub(super) file_mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// A path of the host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Bind {
    pub(super) host_path: String,
    pub(super) container_path: String,
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

/// The value of an annotation; people write `true` and `"true"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Text(String),
    Switch(bool),
}

impl Scalar {
    /// The text of it.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Switch(true) => "true",
            Self::Switch(false) => "false",
        }
    }
}

/// The specs of some folders, those of later folders first; and the files that cannot be used, with the reason.
pub(super) fn read(folders: &[PathBuf]) -> (Vec<Spec>, Vec<String>) {
    let (mut specs, mut broken) = (Vec::new(), Vec::new());
    for folder in folders.iter().rev() {
        let paths = match files(folder) {
            Ok(paths) => paths,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                broken.push(format!("{}: {error}", folder.display()));
                continue;
            }
        };
        for path in paths {
            match parse(&path) {
                Ok(spec) => specs.push(spec),
                Err(reason) => broken.push(format!("{}: {reason}", path.display())),
            }
        }
    }
    (specs, broken)
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in folder.read_dir()?.take(MAX_FILES) {
        let path = entry?.path();
        let known = path.extension().is_some_and(|kind| kind == "json" || kind == "yaml" || kind == "yml");
        if known {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn parse(path: &Path) -> Result<Spec, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_SPEC + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_SPEC {
        return Err(format!("it has more than {MAX_SPEC} bytes"));
    }
    let spec: Spec = serde_yaml_ng::from_str(&text).map_err(|error| error.to_string())?;
    let is_kind =
        spec.kind.split_once('/').is_some_and(|(vendor, class)| !vendor.is_empty() && !class.is_empty());
    match is_kind {
        true => Ok(spec),
        false => Err(format!("kind {:?} is not vendor/class", spec.kind)),
    }
}
