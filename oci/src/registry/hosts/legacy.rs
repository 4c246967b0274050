//! Legacy: mirrors and TLS settings as containerd's config.toml had them before hosts.toml.
//!
//! The daemon reads /etc/containerd/config.toml's tables once at the start, and logs the advice: one line for each table that says how
//! to write it today.
//!
//! # Invariants
//! Only the registry tables are read; whatever else the file sets is containerd's business. Passwords in it are never taken.
//!
//! # Sources
//! containerd `docs/cri/registry.md`, `internal/cri/server/images/image_pull.go`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use super::{
    super::{
        Error,
        host::{Capabilities, Origin},
    },
    ANY, Table,
    address::{Address, HUB, HUB_API},
    chain::Chain,
    document::{Document, Key, Value, in_file_order},
    entry::Entry,
};

/// Plugins of containerd 1.x, 2.x and before that have a `registry` table.
const PLUGINS: [&str; 3] = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "cri"];
/// The plugin of containerd 2.x whose own table has `config_path`.
const TRANSFER: &str = "io.containerd.transfer.v1.local";
/// Mirrors of one domain; all may be asked for each image.
const ENDPOINTS: usize = 64;

/// What a config.toml holds for us.
#[derive(Clone, Debug, Default)]
pub struct Legacy {
    /// `config_path`: folders with hosts.toml files.
    pub roots: Vec<PathBuf>,
    /// Mirror tables.
    pub tables: Vec<Table>,
    /// How to write each today, a line for each.
    pub advice: Vec<String>,
}

/// Reads `text`, the config.toml at `path`.
pub fn from_containerd(text: &str, path: &Path) -> Result<Legacy, Error> {
    let document = Document { path, text };
    let root = document.parse()?;
    let mut legacy = Legacy::default();
    let Some((key, plugins)) = root.get_key_value("plugins") else { return Ok(legacy) };
    let plugins = document.table(key, plugins, "write [plugins.\"NAME\"]")?;
    for (name, value) in in_file_order(plugins) {
        let name: &str = name.get_ref();
        let Some(table) = value.get_ref().as_table() else { continue };
        if name == TRANSFER {
            legacy.config_path(document, table)?;
        }
        if let Some((key, registry)) = table.get_key_value("registry").filter(|_| PLUGINS.contains(&name)) {
            let registry = document.table(key, registry, "write [plugins.\"NAME\".registry]")?;
            legacy.config_path(document, registry)?;
            legacy.registry(document, registry)?;
        }
    }
    Ok(legacy)
}

impl Legacy {
    fn config_path(&mut self, document: Document<'_>, table: &DeTable<'_>) -> Result<(), Error> {
        let Some((key, value)) = table.get_key_value("config_path") else { return Ok(()) };
        let text = document.string(key, value, "\"/etc/containerd/certs.d\"")?;
        for root in text.split(':').filter(|root| !root.is_empty()).map(PathBuf::from) {
            if !self.roots.contains(&root) {
                self.roots.push(root);
            }
        }
        Ok(())
    }

    fn registry(&mut self, document: Document<'_>, registry: &DeTable<'_>) -> Result<(), Error> {
        let mut settings = BTreeMap::new();
        for (key, host, table) in tables(document, registry, "configs")? {
            settings.insert(host.to_owned(), config(document, table)?);
            if table.contains_key("auth") {
                self.advise(document, key, format!("its auth is not read: run buildctl login {host}"));
            }
        }
        let mut plain_configs = settings.clone();
        for (key, domain, table) in tables(document, registry, "mirrors")? {
            plain_configs.remove(domain);
            let chain = mirror(document, domain, table, &settings)?;
            let addresses = chain.mirrors.iter().chain([&chain.root]).filter_map(|e| e.address.as_ref());
            let hosts: Vec<String> = addresses.map(today).collect();
            let folder = if domain == ANY { "_default" } else { domain };
            let advice = format!("write it as {folder}/hosts.toml below a config_path: {}", hosts.join(" "));
            self.advise(document, key, advice);
            self.tables.push(Table { domain: domain.to_owned(), chain });
        }
        for (domain, root) in plain_configs.into_iter().filter(|(_, entry)| entry.tls_is_set()) {
            self.advice.push(format!(
                "{}: configs.{domain:?}.tls is the older form: write ca, client and skip_verify into \
                 {domain}/hosts.toml below a config_path",
                document.path.display()
            ));
            self.tables.push(Table { domain, chain: Chain { root, mirrors: Vec::new() } });
        }
        Ok(())
    }

    fn advise(&mut self, document: Document<'_>, key: &Key<'_>, advice: String) {
        let line = match document.origin(key) {
            Origin::File(_, Some(line)) => line,
            _ => 1,
        };
        let path = document.path.display();
        self.advice.push(format!("{path}:{line}: {:?} is in the older form: {advice}", key.get_ref()));
    }
}

/// The tables in `name` of `registry`.
fn tables<'t, 'd>(
    document: Document<'d>,
    registry: &'t DeTable<'d>,
    name: &str,
) -> Result<Vec<(&'t Key<'d>, &'t str, &'t DeTable<'d>)>, Error> {
    let Some((key, value)) = registry.get_key_value(name) else { return Ok(Vec::new()) };
    in_file_order(document.table(key, value, "write one table for each host")?)
        .into_iter()
        .map(|(key, value)| {
            let table = document.table(key, value, "write one table for each host")?;
            Ok((key, key.get_ref().as_ref(), table))
        })
        .collect()
}

fn config(document: Document<'_>, table: &DeTable<'_>) -> Result<Entry, Error> {
    let mut entry = Entry::default();
    let Some((key, value)) = table.get_key_value("tls") else { return Ok(entry) };
    let (mut cert, mut private) = (None, None);
    for (key, value) in in_file_order(document.table(key, value, "write tls = { ca_file = \"...\" }")?) {
        let setting = match key.get_ref().as_ref() {
            "insecure_skip_verify" => {
                entry.skip_verify = Some(document.boolean(key, value)?);
                "skip_verify"
            }
            "ca_file" => {
                entry.tls.ca.extend(file(document, key, value)?);
                "ca"
            }
            "cert_file" => {
                cert = file(document, key, value)?;
                "client"
            }
            "key_file" => {
                private = file(document, key, value)?;
                "client"
            }
            other => {
                let known = ["insecure_skip_verify", "ca_file", "cert_file", "key_file"];
                return Err(document.unknown(key.span(), "key", other, &known));
            }
        };
        entry.origins.push((setting, document.origin(key)));
    }
    match (cert, private) {
        (Some(cert), private) => entry.tls.client.push((cert.clone(), private.unwrap_or(cert))),
        (None, Some(_)) => return Err(document.refuse(key.span(), "key_file without cert_file", None)),
        (None, None) => {}
    }
    Ok(entry)
}

/// `None` for an empty name, which containerd takes as not set.
fn file(document: Document<'_>, key: &Key<'_>, value: &Value<'_>) -> Result<Option<PathBuf>, Error> {
    let text = document.string(key, value, "\"/path/to/file.pem\"")?;
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

fn mirror(
    document: Document<'_>,
    domain: &str,
    table: &DeTable<'_>,
    settings: &BTreeMap<String, Entry>,
) -> Result<Chain, Error> {
    let registry = if domain == HUB { HUB_API } else { domain };
    let mut chain = Chain { root: settings.get(registry).cloned().unwrap_or_default(), mirrors: Vec::new() };
    let Some((key, value)) = table.get_key_value("endpoint") else { return Ok(chain) };
    let endpoints = document.strings(key, value, "[\"https://mirror.example\"]")?;
    if endpoints.len() > ENDPOINTS {
        return Err(document.refuse(key.span(), format!("more than {ENDPOINTS} endpoints"), None));
    }
    let mut has_registry = false;
    for (text, span) in endpoints {
        let address = Address::parse(text).map_err(|reason| {
            document.refuse(span, format!("{text:?}: {reason}"), Some("write it as https://HOST[:PORT]"))
        })?;
        let mut entry = settings.get(&address.authority).cloned().unwrap_or_default();
        entry.origins.insert(0, ("host", document.origin(key)));
        // A path that is given is the API's.
        entry.override_path = !address.path.is_empty();
        if address.authority == registry {
            has_registry = true;
        } else {
            entry.capabilities = Some(Capabilities { push: false, referrers: false, ..Capabilities::ALL });
        }
        entry.address = Some(address);
        chain.mirrors.push(entry);
    }
    // Compat: the registry's usual place comes last, unless it is in the list.
    if has_registry && let Some(last) = chain.mirrors.pop() {
        chain.root = last;
    }
    Ok(chain)
}

/// A mirror as hosts.toml has it.
fn today(address: &Address) -> String {
    let scheme = if address.plain { "http" } else { "https" };
    let path = if address.path == "/v2" { "" } else { &address.path };
    let override_path = if path.is_empty() { "" } else { ", override_path = true" };
    format!(
        "[host.\"{scheme}://{}{path}\"] capabilities = [\"pull\", \"resolve\"]{override_path}",
        address.authority
    )
}
