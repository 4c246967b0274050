//! Registries: what the file says of them, made into the one list of hosts that everything reads.
//!
//! hosts.toml files win; BuildKit's `[registry."HOST"]` tables and containerd's older mirror tables are translated. Folders come from
//! `--hosts-dir`, else from `[registry] config_path`, else from containerd's `config_path`, else they are containerd's and docker's own.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use buildd_oci::registry::{
    Error,
    hosts::{
        DEFAULT_ROOTS, HostsConfig,
        buildkit::{self, KeyPair},
        legacy,
    },
};
use serde::{Deserialize, Serialize};

use super::Config;

/// Where containerd has its configuration: its mirrors go on to work.
const CONTAINERD: &str = "/etc/containerd/config.toml";
/// Bytes of it that are read: nobody writes more by hand.
const MAX_FILE: u64 = 4 << 20;

/// The table `[registry]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Registries {
    /// Folders of hosts.toml files, parted by colons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config_path: Option<String>,
    /// BuildKit's tables.
    #[serde(flatten)]
    pub(crate) hosts: BTreeMap<String, Registry>,
}

impl Registries {
    /// Whether nothing is set.
    pub(super) fn is_empty(&self) -> bool {
        self.config_path.is_none() && self.hosts.is_empty()
    }
}

/// One registry, as BuildKit's file has it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Registry {
    /// Hosts to ask first.
    pub(crate) mirrors: Vec<String>,
    /// Without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<bool>,
    /// Without checking certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) insecure: Option<bool>,
    /// Certificate authorities.
    pub(crate) ca: Vec<PathBuf>,
    /// Our certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) keypair: Vec<Pair>,
}

/// A certificate and its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    /// File of the key.
    pub(crate) key: PathBuf,
    /// File of the certificate.
    pub(crate) cert: PathBuf,
}

impl Config {
    /// All that is known of hosts; older forms are named in the log with how to write them today.
    pub(crate) fn hosts(&self) -> Result<HostsConfig, Error> {
        let mut older = Vec::new();
        if let Some((path, text)) = self.source.as_ref().filter(|_| self.plugins.is_some()) {
            older.push(legacy::from_containerd(text, path)?);
        }
        older.extend(of_containerd(Path::new(CONTAINERD))?);
        let file = self.source.as_ref().map_or(Path::new("buildd.toml"), |(path, _)| path);
        let mut hosts = HostsConfig { tables: buildkit::tables(&self.tables(), file)?, roots: self.roots() };
        for older in older {
            for line in older.advice {
                tracing::warn!("{line}");
            }
            hosts.tables.extend(older.tables);
            if hosts.roots.is_empty() {
                hosts.roots = older.roots;
            }
        }
        if hosts.roots.is_empty() {
            hosts.roots = DEFAULT_ROOTS.iter().map(PathBuf::from).collect();
        }
        Ok(hosts)
    }

    fn roots(&self) -> Vec<PathBuf> {
        if !self.hosts_dirs.is_empty() {
            return self.hosts_dirs.clone();
        }
        let paths = self.registry.config_path.iter().flat_map(|paths| paths.split(':'));
        paths.filter(|path| !path.is_empty()).map(PathBuf::from).collect()
    }

    fn tables(&self) -> BTreeMap<String, buildkit::Registry> {
        let translate = |(name, table): (&String, &Registry)| {
            let pairs = table.keypair.iter().map(|p| KeyPair { key: p.key.clone(), cert: p.cert.clone() });
            let table = buildkit::Registry {
                mirrors: table.mirrors.clone(),
                http: table.http,
                insecure: table.insecure,
                ca: table.ca.clone(),
                keypair: pairs.collect(),
            };
            (name.clone(), table)
        };
        self.registry.hosts.iter().map(translate).collect()
    }
}

fn of_containerd(path: &Path) -> Result<Option<legacy::Legacy>, Error> {
    let fail = |error: io::Error| Error::ReadSettings { path: path.to_owned(), source: error.into() };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(fail)?,
    };
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(fail)?;
    legacy::from_containerd(&text, path).map(Some)
}
