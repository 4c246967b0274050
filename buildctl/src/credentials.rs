//! Credentials: this user's logins, and the registries that they are for as they are reached from here.
//!
//! `login` and `logout` change them, a build's session hands out what they are worth. The settings of hosts are those of this machine,
//! which is the daemon's too unless it is remote.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use buildd_oci::registry::{
    docker_config::DockerConfig,
    host::Host,
    hosts::{DEFAULT_ROOTS, HostOptions, HostsConfig},
};

/// The registry of images that name none, and the address of its API.
pub(crate) const HUB: &str = "docker.io";
const HUB_API: &str = "registry-1.docker.io";

/// The folder of docker's configuration: `$DOCKER_CONFIG`, else `~/.docker`.
pub(crate) fn folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("DOCKER_CONFIG")
        .or_else(|| set("HOME").map(|home| home.join(".docker")))
        .context("find docker's configuration: neither DOCKER_CONFIG nor HOME is set")
}

/// The file in it that holds the logins.
pub(crate) fn file() -> Result<PathBuf> {
    Ok(folder()?.join("config.json"))
}

/// The logins as they are now.
pub(crate) fn logins() -> Result<DockerConfig> {
    Ok(DockerConfig::read(&file()?)?)
}

/// The registry that an address or an image's domain means.
pub(crate) fn host(name: &str, options: &HostOptions) -> Result<Host> {
    let roots = DEFAULT_ROOTS.map(PathBuf::from).to_vec();
    let domain = if name == HUB_API { HUB } else { name };
    Ok(HostsConfig { roots, tables: Vec::new() }.registry(domain, options)?)
}

/// The name of a registry as people write it: with or without scheme, or as the key of docker's file.
pub(crate) fn name(text: &str) -> Result<String> {
    let bare = text.strip_prefix("https://").or(text.strip_prefix("http://")).unwrap_or(text);
    let (name, path) = bare.split_once('/').unwrap_or((bare, ""));
    if name.is_empty() || !matches!(path, "" | "v1" | "v1/" | "v2" | "v2/") {
        bail!("{text:?} is not a registry: give HOST or HOST:PORT, without a repository");
    }
    let hub = matches!(name, "index.docker.io" | HUB_API);
    Ok(if hub { HUB.to_owned() } else { name.to_owned() })
}

#[cfg(test)]
mod tests;
