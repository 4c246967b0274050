//! Config: what the daemon was told, in layers: defaults, then the file, then the flags.
//!
//! The file is our TOML; the keys of BuildKit's `buildkitd.toml` that mean something here are accepted in their places. An unknown key is an
//! error: a misspelt limit that is silently ignored is worse than a daemon that does not start.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use buildd_fs::private;
use buildd_oci::{
    digest::Digest,
    registry::{
        Error as RegistryError,
        hosts::{HostsConfig, buildkit::Registries, known::Known},
    },
};
use serde::{Deserialize, Serialize};

mod amount;
mod policy;

pub(crate) use amount::Amount;
pub(crate) use policy::{GcPolicy, Rule, disk_size};

/// The root of the machine's one daemon.
const ROOT: &str = "/var/lib/buildd";
/// Its state folder and its socket's.
const STATE: &str = "/run/buildd";
/// Characters of the hash of another root, in the name of its state folder.
const STATE_HASH: usize = 12;

/// Entitlements that a daemon can be told to grant.
pub(crate) const ENTITLEMENTS: [&str; 3] = ["network.host", "security.insecure", "device"];

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("parse configuration {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is not one of those known.
    #[error("configuration {key}: {value:?} is not one of {known}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it has.
        value: String,
        /// What it may have.
        known: String,
    },
}

/// The whole configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// Where what must survive a reboot lies.
    pub(crate) root: PathBuf,
    /// Where sockets, steps and tasks lie, if that is not the root's own folder; see `Config::state`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<PathBuf>,
    /// Log more.
    pub(crate) debug: bool,
    /// What builds may be granted when they ask for it.
    pub(crate) insecure_entitlements: Vec<String>,
    /// The socket.
    pub(crate) grpc: Grpc,
    /// How to work.
    pub(crate) worker: Worker,
    /// Devices for steps.
    pub(crate) cdi: Cdi,
    /// Registries.
    #[serde(skip_serializing_if = "Registries::is_empty")]
    pub(crate) registry: Registries,
    /// containerd's tables; only the mirrors among them mean something here.
    #[serde(skip_serializing)]
    pub(crate) plugins: Option<toml::Table>,
    /// Folders of hosts.toml files that flags name.
    #[serde(skip)]
    pub(crate) hosts_dirs: Vec<PathBuf>,
    /// The file this was read from.
    #[serde(skip)]
    pub(crate) source: Option<(PathBuf, String)>,
}

/// The sockets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Grpc {
    /// Addresses, `unix:///path`; none means `buildd.sock` in the state folder.
    pub(crate) address: Vec<String>,
}

/// The worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Worker {
    /// The namespace of builds that name none.
    pub(crate) namespace: String,
    /// What RUN gets without `--network`: `host` or `none`.
    pub(crate) default_network: String,
    /// Memory that one step may take: bytes, `2GB`, or a part of the machine's (`75%`).
    pub(crate) step_memory: Amount,
    /// Processes and threads that one step may have.
    pub(crate) step_processes: u32,
    /// What new layers are stored as: `file`, `directory`, or `auto`: files where the kernel mounts them.
    pub(crate) layer_form: String,
    /// Bytes that a compressed layer or archive may unpack to, however small it is: a bomb ends here. What is more than this may be 200
    /// times as large as it came.
    pub(crate) layer_growth: Amount,
    /// BuildKit's table.
    pub(crate) oci: OciWorker,
}

/// BuildKit's table of devices.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cdi {
    /// Whether steps get none.
    pub(crate) disabled: bool,
    /// Folders of CDI specs; the later ones count more.
    #[serde(rename = "specDirs")]
    pub(crate) spec_dirs: Vec<PathBuf>,
}

impl Cdi {
    /// The folders that are read.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        if self.disabled { Vec::new() } else { self.spec_dirs.clone() }
    }
}

impl Default for Cdi {
    fn default() -> Self {
        Self { disabled: false, spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()] }
    }
}

/// The keys of BuildKit's `[worker.oci]` that mean something here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OciWorker {
    /// Whether there is one; `false` changes nothing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enabled: Option<bool>,
    /// Labels that clients see.
    pub(crate) labels: BTreeMap<String, String>,
    /// `overlayfs`, `native` or `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshotter: Option<String>,
    /// Whether the cache is pruned by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gc: Option<bool>,
    /// The older name of `reservedSpace`: bytes, or a part of the disk (`10%`).
    #[serde(rename = "gckeepstorage", skip_serializing_if = "Option::is_none")]
    pub(crate) keep_storage: Option<Amount>,
    /// How much of the cache is left in any case.
    #[serde(rename = "reservedSpace", skip_serializing_if = "Option::is_none")]
    pub(crate) reserved_space: Option<Amount>,
    /// How much of it is left at most.
    #[serde(rename = "maxUsedSpace", skip_serializing_if = "Option::is_none")]
    pub(crate) max_used_space: Option<Amount>,
    /// How much of the disk shall be free.
    #[serde(rename = "minFreeSpace", skip_serializing_if = "Option::is_none")]
    pub(crate) min_free_space: Option<Amount>,
    /// Rules that stand for all of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) gcpolicy: Vec<GcPolicy>,
    /// Steps at once.
    #[serde(rename = "max-parallelism", skip_serializing_if = "Option::is_none")]
    pub(crate) max_parallelism: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: ROOT.into(),
            state: None,
            debug: false,
            insecure_entitlements: Vec::new(),
            grpc: Grpc::default(),
            worker: Worker::default(),
            cdi: Cdi::default(),
            registry: Registries::default(),
            plugins: None,
            hosts_dirs: Vec::new(),
            source: None,
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            namespace: "default".into(),
            default_network: "host".into(),
            step_memory: Amount::Text("75%".to_owned()),
            step_processes: 4096,
            layer_form: "auto".into(),
            layer_growth: Amount::Text("8GB".to_owned()),
            oci: OciWorker::default(),
        }
    }
}

impl Config {
    /// The defaults under a file.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .and_then(|text| private::check_file(path).map(|()| text).map_err(io::Error::other))
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        Ok(Self { source: Some((path.to_owned(), text)), ..config })
    }

    /// Checks what types cannot say.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        one_of("worker.default-network", &self.worker.default_network, &["host", "none"])?;
        one_of("worker.layer-form", &self.worker.layer_form, &["auto", "file", "directory"])?;
        amount("worker.step-memory", Some(&self.worker.step_memory))?;
        amount("worker.layer-growth", Some(&self.worker.layer_growth))?;
        self.worker.oci.check()?;
        for entitlement in &self.insecure_entitlements {
            one_of("insecure-entitlements", entitlement, &ENTITLEMENTS)?;
        }
        Ok(())
    }

    /// The file that [`Config::load`] would read back.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// All that is known of registries' hosts; older forms are named in the log with how to write them today.
    pub(crate) fn hosts(&self) -> Result<HostsConfig, RegistryError> {
        let file = self.source.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        let known = Known::gather(&self.hosts_dirs, file)?;
        known.advice.iter().for_each(|line| tracing::warn!("{line}"));
        Ok(known.hosts)
    }

    /// Where a client finds what we know of hosts: the names and values that introspection tells.
    pub(crate) fn hosts_settings(&self) -> HashMap<String, String> {
        let path = |path: &Path| std::path::absolute(path).unwrap_or(path.to_owned()).display().to_string();
        let dirs: Vec<String> = self.hosts_dirs.iter().map(|dir| path(dir)).collect();
        let file = self.source.as_ref().map(|(file, _)| ("config".to_owned(), path(file)));
        file.into_iter().chain([("hosts_dirs".to_owned(), dirs.join(":"))]).collect()
    }

    /// The folder of steps and tasks. It belongs to the root: where none is named, a root other than the default has one of its own.
    pub(crate) fn state(&self) -> PathBuf {
        let (root, usual) = (canonical(&self.root), canonical(ROOT.as_ref()));
        match &self.state {
            Some(state) => state.clone(),
            None if root == usual => STATE.into(),
            None => {
                let hash = Digest::of(root.as_os_str().as_bytes()).hex();
                PathBuf::from(format!("{STATE}-{}", &hash[..STATE_HASH]))
            }
        }
    }

    /// The addresses to listen on.
    pub(crate) fn addresses(&self) -> Vec<String> {
        if self.grpc.address.is_empty() {
            // Whoever names no address finds the one daemon of the machine there, wherever its root is.
            let folder = self.state.as_deref().unwrap_or(Path::new(STATE));
            return vec![format!("unix://{}/buildd.sock", folder.display())];
        }
        self.grpc.address.clone()
    }
}

/// A path without links and dots, as far as it is there.
fn canonical(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or(path.to_owned());
    let there = path.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    let Some((part, there)) = there else { return path };
    match path.strip_prefix(part) {
        Ok(rest) if !rest.as_os_str().is_empty() => there.join(rest),
        _ => there,
    }
}

fn amount(key: &'static str, amount: Option<&Amount>) -> Result<(), ConfigError> {
    match amount {
        Some(Amount::Text(text)) if amount.is_some_and(|amount| amount.bytes(0).is_none()) => {
            one_of(key, text, &["a number of bytes", "a number and a unit, 5GB", "a part, 10%"])
        }
        _ => Ok(()),
    }
}

fn one_of(key: &'static str, value: &str, known: &[&str]) -> Result<(), ConfigError> {
    if known.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Value { key, value: value.to_owned(), known: known.join(", ") })
}

#[cfg(test)]
mod tests;
