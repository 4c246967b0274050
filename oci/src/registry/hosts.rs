//! Hosts: which addresses may serve an image's domain, in which order, with all that is set for each.
//!
//! A `Registry` asks with the domain of a reference (`docker.io`, never its API's name) before each operation; `registry explain` prints
//! the same list. Reads files, so callers run it off the async threads.
//!
//! ```text
//! domain -> folder (hosts.toml | certificates) or a table of a configuration -> Chain -> [mirror, mirror, ..., registry]
//! ```
//!
//! # Invariants
//! A setting that cannot be read or understood fails the request: the default in its place would go to the wrong host, or trust it.
//! A hosts.toml wins over tables of configurations.
//!
//! # Errors
//! `Settings` and `ReadSettings` for files, `Address` for a domain that is none.
//!
//! # Sources
//! containerd `docs/hosts.md`; spec registries.md rules 1 to 48.

pub(super) mod address;
pub mod buildkit;
mod certs;
mod chain;
mod document;
mod duration;
mod entry;
mod folder;
pub mod known;
pub mod legacy;
mod settings;

use std::path::{Path, PathBuf};

use self::chain::Chain;
use super::{
    Error,
    host::{Host, Origin},
};

/// Folders looked in when nobody names any.
pub const DEFAULT_ROOTS: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

/// The domain of a table that stands for all domains without one.
const ANY: &str = "*";

/// Where settings of hosts come from.
#[derive(Clone, Debug, Default)]
pub struct HostsConfig {
    /// Folders with one folder for each domain; the first that has one wins.
    pub roots: Vec<PathBuf>,
    /// Translated tables; the first for a domain wins.
    pub tables: Vec<Table>,
}

/// Hosts of one domain, translated from a form that is not hosts.toml.
#[derive(Clone, Debug)]
pub struct Table {
    /// The domain of references, or `*`.
    pub domain: String,
    chain: Chain,
}

/// What one request wants of its hosts.
#[derive(Clone, Default)]
pub struct HostOptions {
    /// `http` for `--plain-http`: the scheme of a registry that no file gives an address.
    pub default_scheme: Option<String>,
    /// Looked in instead of the roots.
    pub host_dir: Option<PathBuf>,
    /// Trust whoever answers for the registry itself; mirrors are not meant.
    pub skip_verify: bool,
    /// Sent to the registry itself, not to mirrors.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for HostOptions {
    /// Without the values of headers: they may be credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostOptions")
            .field("default_scheme", &self.default_scheme)
            .field("host_dir", &self.host_dir)
            .field("skip_verify", &self.skip_verify)
            .finish_non_exhaustive()
    }
}

impl HostsConfig {
    /// The hosts for images of `domain`, first asked first; never empty.
    pub fn hosts(&self, domain: &str, options: &HostOptions) -> Result<Vec<Host>, Error> {
        // The domain becomes a folder's name: `..` or a slash in it would leave the root.
        address::check_authority(domain)
            .map_err(|reason| Error::Address { text: domain.to_owned(), reason })?;
        let request_root = options.host_dir.as_ref().map(std::slice::from_ref);
        let Some(folder) = folder::find(request_root.unwrap_or(&self.roots), domain)? else {
            return self.table(domain).hosts(domain, options);
        };
        let path = folder.join("hosts.toml");
        match folder::hosts_toml(&path)? {
            Some(text) => {
                let chain = settings::parse(&path, &text)?;
                let mut hosts = chain.hosts(domain, options)?;
                name_unused(&folder, &mut hosts)?;
                Ok(hosts)
            }
            None => with_certificates(self.table(domain), &folder)?.hosts(domain, options),
        }
    }

    /// The registry of `domain` itself, for logins: never what stands in its place.
    pub fn registry(&self, domain: &str, options: &HostOptions) -> Result<Host, Error> {
        let usual = Chain::default().hosts(domain, options)?.remove(0);
        let hosts = self.hosts(domain, options)?;
        Ok(hosts.into_iter().rfind(|host| host.authority == usual.authority).unwrap_or(usual))
    }

    fn table(&self, domain: &str) -> Chain {
        let find = |name: &str| self.tables.iter().find(|table| table.domain == name);
        find(domain).or_else(|| find(ANY)).map(|table| table.chain.clone()).unwrap_or_default()
    }
}

/// The chain, with the folder's certificates for the registry itself unless it has some.
fn with_certificates(mut chain: Chain, folder: &Path) -> Result<Chain, Error> {
    let (tls, files) = certs::read(folder)?;
    if !files.is_empty() && chain.root.tls.ca.is_empty() && chain.root.tls.client.is_empty() {
        for path in files {
            let setting = if path.extension().is_some_and(|e| e == "crt") { "ca" } else { "client" };
            chain.root.origins.push((setting, Origin::File(path, None)));
        }
        chain.root.tls = tls;
    }
    Ok(chain)
}

/// Notes certificate files beside a hosts.toml that no host of it names: a common surprise (rule 38).
fn name_unused(folder: &Path, hosts: &mut [Host]) -> Result<(), Error> {
    let (_, mut files) = certs::read(folder)?;
    for host in hosts.iter() {
        let tls = &host.tls;
        let used =
            |file: &PathBuf| tls.ca.contains(file) || tls.client.iter().any(|(c, k)| c == file || k == file);
        files.retain(|file| !used(file));
    }
    if let Some(registry) = hosts.last_mut() {
        registry.origins.extend(files.into_iter().map(|file| ("unused", Origin::File(file, None))));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
