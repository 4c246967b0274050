//! Devices: what `RUN --device` gives a step: nodes, files and variables, as the CDI specs of this machine say.
//!
//! A request is `vendor/class=name`, `vendor/class=*` for all of a class, `vendor/class` for its first, or the value of the annotation
//! [`CLASS`]. Entitlements are the daemon's matter; it asks [`Devices::allowed`] which devices the administrator gives to every build.
//!
//! # Invariants
//! Nothing of a spec runs on the host: a device that wants hooks, or anything else that is not done here, is refused by name.
//!
//! # Sources
//! Container Device Interface; moby/buildkit `docs/cdi.md`.

use std::{
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use buildd_fs::nearest::nearest;
use serde::{Deserialize, Serialize};
use spec::{Bind, Edits, Node, Spec, SpecDevice};

use crate::{
    error::{Error, Result},
    mount::{StepMount, StepMountKind},
};

mod spec;

/// The annotation by which devices are asked for as a group.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// The annotation of devices that every build may have.
const ALLOWED: &str = "org.mobyproject.buildkit.device.autoallow";
/// Devices that one step may ask for.
const MAX_DEVICES: usize = 100;

/// The devices of this machine.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    folders: Vec<PathBuf>,
}

/// A device that a step asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRequest {
    /// As its writer named it.
    pub name: String,
    /// Whether the step can do without.
    pub optional: bool,
}

/// A device node of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Where, below `/dev`.
    pub path: PathBuf,
    /// `c`, `b` or `p`.
    pub kind: char,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permissions.
    pub mode: u32,
    /// Owner; the step's user if none.
    pub uid: Option<u32>,
    /// Group; the step's if none.
    pub gid: Option<u32>,
}

/// What the devices of a step change in its container.
#[derive(Debug, Default)]
pub struct Granted {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Nodes in `/dev`.
    pub nodes: Vec<DeviceNode>,
    /// Files and folders of the host.
    pub mounts: Vec<StepMount>,
    /// Further groups of its user.
    pub groups: Vec<u32>,
}

/// The specs as they are now.
struct Catalogue {
    specs: Vec<Spec>,
    broken: Vec<String>,
}

impl Devices {
    /// Those that the specs in these folders describe; where two describe one device, the later folder counts.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    fn catalogue(&self) -> Catalogue {
        let (specs, broken) = spec::read(&self.folders);
        Catalogue { specs, broken }
    }

    /// Whether the administrator gives all devices that a request names to every build.
    pub fn allowed(&self, name: &str) -> bool {
        let catalogue = self.catalogue();
        let found = catalogue.find(name);
        !found.is_empty() && found.iter().all(|(spec, device)| is_allowed(spec, device))
    }

    /// What a step gets for its requests.
    pub fn grant(&self, requests: &[DeviceRequest]) -> Result<Granted> {
        let mut granted = Granted::default();
        if requests.is_empty() {
            return Ok(granted);
        }
        let catalogue = self.catalogue();
        let mut given: Vec<(&Spec, &SpecDevice)> = Vec::new();
        if requests.len() > MAX_DEVICES {
            let (name, reason) =
                (requests[MAX_DEVICES].name.clone(), format!("a step has at most {MAX_DEVICES}"));
            return Err(Error::Invalid { what: "device", name, reason });
        }
        for request in requests {
            let found = catalogue.find(&request.name);
            if found.is_empty() && !request.optional {
                return Err(catalogue.missing(&request.name));
            }
            for (spec, device) in found {
                if !given.iter().any(|(_, known)| std::ptr::eq(*known, device)) {
                    given.push((spec, device));
                }
            }
        }
        let mut specs: Vec<&Spec> = Vec::new();
        for (spec, device) in given {
            let name = format!("{}={}", spec.kind, device.name);
            if !specs.iter().any(|known| std::ptr::eq(*known, spec)) {
                specs.push(spec);
                granted.add(&name, &spec.container_edits)?;
            }
            granted.add(&name, &device.container_edits)?;
        }
        Ok(granted)
    }
}

fn is_allowed(spec: &Spec, device: &SpecDevice) -> bool {
    let said = device.annotations.get(ALLOWED).or_else(|| spec.annotations.get(ALLOWED));
    said.is_some_and(|value| value.text() == "true")
}

impl Catalogue {
    /// The devices behind a request.
    fn find(&self, name: &str) -> Vec<(&Spec, &SpecDevice)> {
        let of_kind = |kind: &str| {
            let specs: Vec<&Spec> = self.specs.iter().filter(|spec| spec.kind == kind).collect();
            let mut devices: Vec<(&Spec, &SpecDevice)> = Vec::new();
            for (spec, device) in
                specs.iter().flat_map(|spec| spec.devices.iter().map(|device| (*spec, device)))
            {
                // A device of an earlier place is the one that counts.
                if !devices.iter().any(|(_, known)| known.name == device.name) {
                    devices.push((spec, device));
                }
            }
            devices.sort_by(|a, b| a.1.name.cmp(&b.1.name));
            devices
        };
        match name.split_once('=') {
            Some((kind, "*")) => of_kind(kind),
            Some((kind, device)) => {
                of_kind(kind).into_iter().filter(|(_, known)| known.name == device).collect()
            }
            None if name.contains('/') => of_kind(name).into_iter().take(1).collect(),
            None => self
                .devices()
                .filter(|(_, device)| device.annotations.get(CLASS).is_some_and(|class| class.text() == name))
                .collect(),
        }
    }

    fn devices(&self) -> impl Iterator<Item = (&Spec, &SpecDevice)> {
        self.specs.iter().flat_map(|spec| spec.devices.iter().map(move |device| (spec, device)))
    }

    fn missing(&self, name: &str) -> Error {
        let known: Vec<String> =
            self.devices().map(|(spec, device)| format!("{}={}", spec.kind, device.name)).collect();
        let mut reason = match nearest(name, &known) {
            Some(near) => format!("no CDI spec of this machine describes it (did you mean {near}?)"),
            None if known.is_empty() => "there are no CDI specs on this machine".to_owned(),
            None => "no CDI spec of this machine describes it".to_owned(),
        };
        if let Some(first) = self.broken.first() {
            reason.push_str(&format!("; one cannot be read: {first}"));
        }
        Error::NoDevice { name: name.to_owned(), reason }
    }
}

impl Granted {
    fn add(&mut self, device: &str, edits: &Edits) -> Result<()> {
        let refuse = |reason: String| Error::Invalid { what: "device", name: device.to_owned(), reason };
        if let Some(other) = edits.others.keys().next() {
            let reason = match other.as_str() {
                "hooks" => "its CDI spec has hooks, programs that would run on this machine as root: no step gets that".to_owned(),
                other => format!("its CDI spec asks for {other}, which steps do not get"),
            };
            return Err(refuse(reason));
        }
        self.env.extend(edits.env.iter().cloned());
        self.groups.extend(edits.additional_gids.iter().copied().filter(|gid| *gid != 0));
        for asked in &edits.device_nodes {
            self.nodes.push(node(asked).map_err(refuse)?);
        }
        for asked in &edits.mounts {
            self.mounts.push(bind(asked).map_err(refuse)?);
        }
        Ok(())
    }
}

/// A path without `..`, so that it means what it says.
fn plain(path: &str) -> Option<&Path> {
    let path = Path::new(path);
    let normal = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    (path.is_absolute() && path.components().all(normal)).then_some(path)
}

/// A node with what is left open taken from the host's.
fn node(asked: &Node) -> std::result::Result<DeviceNode, String> {
    let path = plain(&asked.path).filter(|path| path.starts_with("/dev") && *path != Path::new("/dev"));
    let path = path.ok_or_else(|| format!("its device node {:?} is not below /dev", asked.path))?;
    let host = asked.host_path.as_deref().unwrap_or(&asked.path);
    let meta = std::fs::metadata(host).map_err(|error| format!("its device node {host}: {error}"));
    let kind = match (asked.kind.as_deref(), &meta) {
        (Some("c" | "u"), _) => 'c',
        (Some("b"), _) => 'b',
        (Some("p"), _) => 'p',
        (Some(other), _) => return Err(format!("its device node {host} is of the unknown type {other:?}")),
        (None, Ok(meta)) if meta.file_type().is_char_device() => 'c',
        (None, Ok(meta)) if meta.file_type().is_block_device() => 'b',
        (None, Ok(meta)) if meta.file_type().is_fifo() => 'p',
        (None, Ok(_)) => return Err(format!("{host} is no device node")),
        (None, Err(reason)) => return Err(reason.clone()),
    };
    let (major, minor) = match (asked.major, asked.minor, &meta) {
        (Some(major), Some(minor), _) => (major, minor),
        (_, _, Ok(meta)) => {
            let device = meta.rdev();
            (i64::from(rustix::fs::major(device)), i64::from(rustix::fs::minor(device)))
        }
        (_, _, Err(reason)) => return Err(reason.clone()),
    };
    let mode = asked.file_mode.or(meta.as_ref().ok().map(|meta| meta.mode())).unwrap_or(0o666) & 0o777;
    let (uid, gid) = (asked.uid, asked.gid);
    Ok(DeviceNode { path: path.to_owned(), kind, major, minor, mode, uid, gid })
}

/// A file or folder of the host, as it lies.
fn bind(asked: &Bind) -> std::result::Result<StepMount, String> {
    let Bind { host_path, container_path, options, kind } = asked;
    if !matches!(kind.as_str(), "" | "bind" | "none") {
        return Err(format!("its CDI spec asks for a mount of type {kind:?}; paths of the host are bound"));
    }
    let target = plain(container_path).filter(|path| *path != Path::new("/"));
    let target = target.ok_or_else(|| format!("its mount target {container_path:?} is no plain path"))?;
    let source =
        Path::new(host_path).canonicalize().map_err(|error| format!("its mount {host_path}: {error}"))?;
    let writable = !options.iter().any(|option| option == "ro");
    let kind = StepMountKind::Bind { source, writable, nodev: true };
    Ok(StepMount { target: target.to_owned(), kind })
}

#[cfg(test)]
mod tests;
