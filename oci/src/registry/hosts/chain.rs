//! Chain: the hosts of one domain as some file sets them, mirrors first, the registry itself last.
//!
//! Made by `settings`, `buildkit` and `legacy`; `hosts` asks for the finished list. Here lie the rules for a registry that no file
//! gives an address: Docker Hub's API, and plain HTTP on this machine.
//!
//! # Invariants
//! What a request brings (`--plain-http`, `--skip-verify`, headers) is for the registry itself: mirrors are the administrator's, and a
//! header may be a credential that is not theirs.
//!
//! # Sources
//! containerd `core/remotes/docker/config`; spec registries.md rules 9 to 19 and 43 to 48.

use super::{
    super::{
        Error,
        host::{Capabilities, Host, Origin},
    },
    HostOptions,
    address::{Address, HUB, HUB_API, is_localhost, split_port},
    entry::Entry,
};

/// What a file says about a domain.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    /// Asked first, in this order.
    pub(super) mirrors: Vec<Entry>,
    /// The registry itself.
    pub(super) root: Entry,
}

impl Chain {
    /// The hosts for `domain`.
    pub(super) fn hosts(self, domain: &str, options: &HostOptions) -> Result<Vec<Host>, Error> {
        let mut hosts: Vec<Host> = self
            .mirrors
            .into_iter()
            .filter_map(|mut entry| entry.address.take().map(|address| entry.at(&address)))
            .collect();
        hosts.push(registry(domain, self.root, options)?);
        Ok(hosts)
    }
}

/// The last host: what `server` names, or the usual place of the domain.
fn registry(domain: &str, mut entry: Entry, options: &HostOptions) -> Result<Host, Error> {
    if options.skip_verify {
        entry.skip_verify = Some(true);
        entry.origins.retain(|(name, _)| *name != "skip_verify");
        entry.origins.push(("skip_verify", Origin::Request));
    }
    if !options.headers.is_empty() {
        entry.headers.extend(options.headers.iter().cloned());
        entry.origins.push(("header", Origin::Request));
    }
    if let Some(address) = entry.address.take() {
        return Ok(entry.at(&address));
    }
    let plain = plain(domain, &mut entry, options)?;
    // The file's words about a server that it does not name: only trust, headers and time are kept (rule 12).
    entry.capabilities = Some(Capabilities::ALL);
    entry.origins.retain(|(name, _)| !matches!(*name, "capabilities" | "override_path"));
    entry.override_path = false;
    entry.origins.insert(0, ("server", Origin::Default));
    let authority = if domain == HUB { HUB_API.to_owned() } else { domain.to_owned() };
    Ok(entry.at(&Address { plain, authority, path: String::new() }))
}

/// Whether a registry at its usual place speaks plain HTTP, with the trust that goes with it (rules 43 to 47).
fn plain(domain: &str, entry: &mut Entry, options: &HostOptions) -> Result<bool, Error> {
    if let Some(scheme) = &options.default_scheme {
        let plain = match scheme.as_str() {
            "http" => true,
            "https" => false,
            _ => {
                let reason = format!("scheme {scheme:?} is neither http nor https");
                return Err(Error::Address { text: domain.to_owned(), reason });
            }
        };
        // Compat: Docker Hub is never asked in the open (containerd core/remotes/docker/config/hosts.go).
        if domain != HUB {
            entry.origins.push(("scheme", Origin::Request));
            return Ok(plain);
        }
    }
    if let Some(plain) = entry.plain {
        return Ok(plain);
    }
    if !is_localhost(domain) {
        return Ok(false);
    }
    let port = split_port(domain).1;
    // Nobody can issue a certificate for this machine's own name; who brings a CA wants it used.
    if port != Some("80") && !entry.tls_is_set() {
        entry.skip_verify = Some(true);
        entry.origins.push(("skip_verify", Origin::Default));
    }
    Ok(!matches!(port, None | Some("443")))
}
