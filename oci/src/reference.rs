//! Reference: the name of an image, as people write it and as it is stored.
//!
//! `alpine:v1` and `docker.io/library/alpine:v1` are one name; the second is canonical and is what stores hold.
//!
//! # Sources
//! distribution `reference` grammar; docker's normalisation of familiar names.

use std::fmt;

use crate::{digest::Digest, error::Error};

/// Longest repository name, registry included.
pub const MAX_NAME: usize = 255;
/// Longest tag.
pub const MAX_TAG: usize = 128;
const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";

/// A canonical image name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as people write it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fail =
            |reason, remedy| Error::ParseReference { text: text.chars().take(300).collect(), reason, remedy };
        if text.is_empty() {
            return Err(fail("it is empty", None));
        }
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(fail("it is an image id, not a name", None));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rfind(':') {
            Some(colon) if !rest[colon..].contains('/') => (&rest[..colon], Some(&rest[colon + 1..])),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(fail("a tag has letters, digits, '_', '.' and '-', and at most 128 of them", None));
        }
        let (domain, path) = split_domain(name);
        if !is_domain(domain) {
            return Err(fail("the registry is not a host name", None));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            let remedy = text.replacen(path, &path.to_ascii_lowercase(), 1);
            return Err(fail("a repository name must be lower case", Some(format!("write it as {remedy}"))));
        }
        if !path.split('/').all(is_component) {
            return Err(fail(
                "a repository name has lower-case letters and digits, parted by '.', '_', '__', '-' or '/'",
                None,
            ));
        }
        let path = match (domain, path.contains('/')) {
            (DEFAULT_DOMAIN, false) => format!("{OFFICIAL}{path}"),
            _ => path.to_owned(),
        };
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(fail("it is longer than 255 characters", None));
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// The same, with the tag `latest` if it has neither tag nor digest.
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same image, at this digest whatever its tag may come to mean.
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The name under which a store keeps it: with the tag if it has one, else with the digest.
    pub fn store_name(&self) -> String {
        match self.tag {
            Some(_) => Self { digest: None, ..self.clone() }.to_string(),
            None => self.to_string(),
        }
    }

    /// The registry.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registry and repository.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag, if any.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if any.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The name as people write it.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => match rest.strip_prefix(OFFICIAL) {
                Some(short) if !self.path[OFFICIAL.len()..].contains('/') => short.to_owned(),
                _ => rest.to_owned(),
            },
            None => full,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The first part is a registry if it looks like one: a dot, a colon, "localhost" or an upper-case letter.
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (if first == "index.docker.io" { DEFAULT_DOMAIN } else { first }, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn is_domain(domain: &str) -> bool {
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// Letters and digits, parted by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !(bytes.first().is_some_and(|b| alphanumeric(*b)) && bytes.last().is_some_and(|b| alphanumeric(*b))) {
        return false;
    }
    bytes.split(|b| alphanumeric(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests;
