//! Address: where a host is, out of the URLs and the bare names that people write for it.
//!
//! `settings`, `buildkit` and `legacy` parse what files say; `upstream` makes the default one from an image's domain.
//!
//! # Invariants
//! `authority` is a host name, an IPv4 address or a bracketed IPv6 address, lower case, and a port if one was given: nothing in it
//! ends the host part of a URL or changes whose host it is.

use std::net::{IpAddr, Ipv6Addr};

/// The API of the registry that images without a domain come from: its own name serves a web site.
pub(in crate::registry) const HUB_API: &str = "registry-1.docker.io";
/// The domain of images that name none.
pub(in crate::registry) const HUB: &str = "docker.io";
/// What DNS allows; longer is an attack on whoever prints or keeps it.
const NAME_BYTES: usize = 253;

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Whether the scheme is plain `http`.
    pub(super) plain: bool,
    /// Name and port.
    pub(super) authority: String,
    /// The URL's path, cleaned: empty, or with a slash at the start and none at the end.
    pub(super) path: String,
}

impl Address {
    /// A URL, or one without its scheme, which is https then. User, query and fragment are dropped (rule 19).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let plain = match scheme.to_ascii_lowercase().as_str() {
            "https" => false,
            "http" => true,
            other => return Err(format!("scheme {other:?} is neither http nor https")),
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let host = authority.rsplit('@').next().unwrap_or_default();
        let authority = check_authority(host)?;
        let authority = if authority == HUB { HUB_API.to_owned() } else { authority };
        Ok(Self { plain, authority, path: clean(path)? })
    }

    /// The path of the API: `/v2` at the end of the URL's path unless it is there, or just the URL's (rules 16 to 18).
    pub(super) fn api_path(&self, override_path: bool) -> String {
        let done = override_path || self.path.ends_with("/v2");
        if done { self.path.clone() } else { format!("{}/v2", self.path) }
    }
}

/// A host and port in the form that everything else relies on, or what is wrong with it.
pub(in crate::registry) fn check_authority(text: &str) -> Result<String, String> {
    let (name, port) = split_port(text);
    if let Some(port) = port {
        let number = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse::<u16>().ok()).flatten();
        if number.is_none_or(|number| number == 0) {
            return Err(format!("port {port:?} is not a number from 1 to 65535"));
        }
    }
    if name.is_empty() {
        return Err("it has no host name".to_owned());
    }
    if let Some(inner) = name.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("its bracket is not closed")?;
        inner.parse::<Ipv6Addr>().map_err(|_| format!("{inner:?} is not an IPv6 address"))?;
    } else {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if let Some(bad) = name.chars().find(|c| !c.is_ascii() || !allowed(*c as u8)) {
            return Err(format!("{bad:?} is no part of a host name"));
        }
        if name.starts_with(['.', '-']) || name.contains("..") || name.len() > NAME_BYTES {
            return Err(format!("{name:?} is not a host name"));
        }
    }
    Ok(text.to_ascii_lowercase())
}

/// Name (an IPv6 address with its brackets) and port.
pub(in crate::registry) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rfind(':') {
        // A colon inside of brackets belongs to the address.
        Some(colon) if !authority[colon..].contains(']') => {
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        _ => (authority, None),
    }
}

/// Whether it is this machine: exactly `localhost`, or a loopback address written plainly (rule 43).
pub(in crate::registry) fn is_localhost(authority: &str) -> bool {
    let name = split_port(authority).0;
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The path without `.`, `..` and empty parts; `..` at the root stays there.
fn clean(path: &str) -> Result<String, String> {
    if let Some(bad) = path.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '\\' | '"' | '<' | '>')) {
        return Err(format!("{bad:?} is no part of a path"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Ok(parts.iter().map(|part| format!("/{part}")).collect())
}
