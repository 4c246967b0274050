//! Buildkit: the `[registry."HOST"]` tables of buildkitd.toml, as the host list that everything else uses.
//!
//! The daemon translates its configuration once at the start.
//!
//! # Sources
//! buildkit `util/resolver/resolver.go`, `docs/buildkitd.toml.md`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    super::{
        Error,
        host::{Capabilities, Origin},
    },
    Table,
    address::{Address, is_localhost},
    chain::Chain,
    entry::Entry,
};

/// The table `[registry]` of buildd.toml and buildkitd.toml.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Registries {
    /// Folders of hosts.toml files, parted by colons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_path: Option<String>,
    /// A table for each registry.
    #[serde(flatten)]
    pub hosts: BTreeMap<String, Registry>,
}

impl Registries {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.config_path.is_none() && self.hosts.is_empty()
    }
}

/// One registry's table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// Asked first: `host`, `host/prefix` or a URL.
    pub mirrors: Vec<String>,
    /// Without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<bool>,
    /// Without checking certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// Files of authorities.
    pub ca: Vec<PathBuf>,
    /// Our certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keypair: Vec<KeyPair>,
}

/// One certificate of ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// File of the key.
    pub key: PathBuf,
    /// File of the certificate.
    pub cert: PathBuf,
}

/// Translates the tables of `file`; a mirror has the settings of the table of its own name.
pub fn tables(registries: &BTreeMap<String, Registry>, file: &Path) -> Result<Vec<Table>, Error> {
    let settings =
        |name: &str| registries.get(name).map(|table| entry(name, table, file)).unwrap_or_default();
    let mut tables = Vec::new();
    for (domain, registry) in registries {
        let mut chain = Chain { root: settings(domain), mirrors: Vec::new() };
        for text in &registry.mirrors {
            let mut address = Address::parse(text).map_err(|reason| Error::Settings {
                path: file.to_owned(),
                line: None,
                column: None,
                reason: format!("registry.{domain:?}: mirror {text:?}: {reason}"),
                remedy: Some("write it as HOST[:PORT][/PREFIX]".to_owned()),
            })?;
            let mut mirror = settings(&address.authority);
            address.plain |= mirror.plain.unwrap_or(is_localhost(&address.authority));
            // Compat: BuildKit puts the prefix behind the API's path.
            address.path = format!("/v2{}", address.path);
            mirror.override_path = true;
            mirror.address = Some(address);
            mirror.capabilities = Some(Capabilities { push: false, referrers: false, ..Capabilities::ALL });
            mirror.origins.insert(0, ("host", origin(domain, file)));
            chain.mirrors.push(mirror);
        }
        tables.push(Table { domain: domain.clone(), chain });
    }
    Ok(tables)
}

fn origin(name: &str, file: &Path) -> Origin {
    Origin::Config(file.to_owned(), format!("registry.{name:?}"))
}

fn entry(name: &str, table: &Registry, file: &Path) -> Entry {
    let mut entry = Entry { plain: table.http, skip_verify: table.insecure, ..Entry::default() };
    entry.tls.ca.clone_from(&table.ca);
    entry.tls.client = table.keypair.iter().map(|pair| (pair.cert.clone(), pair.key.clone())).collect();
    let set = [
        ("scheme", table.http.is_some()),
        ("skip_verify", table.insecure.is_some()),
        ("ca", !table.ca.is_empty()),
        ("client", !table.keypair.is_empty()),
    ];
    let origin = origin(name, file);
    entry.origins = set.iter().filter(|(_, set)| *set).map(|(name, _)| (*name, origin.clone())).collect();
    entry
}
