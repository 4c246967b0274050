//! Settings: hosts.toml, read strictly.
//!
//! `folder` finds the file; what is read here becomes a `Chain`. A file that is wrong in any way is refused as a whole: a host that was
//! left out, or its TLS settings, would send requests where they must not go (containerd's rule 8 does that).
//!
//! # Errors
//! `Settings`, with line and column.
//!
//! # Sources
//! containerd `docs/hosts.md`, `core/remotes/docker/config`; spec registries.md rules 9 to 41.

use std::path::{Path, PathBuf};

use reqwest::header::{HeaderName, HeaderValue};
use toml::de::DeTable;

use super::{
    super::{Error, host::Capabilities},
    address::Address,
    chain::Chain,
    document::{Document, Key, Value, in_file_order},
    duration,
    entry::Entry,
};

/// Hosts of one file; each may be asked for each image, so thousands would turn one pull into a flood.
const HOSTS: usize = 64;
/// Headers of one host, and bytes of one value: they go with every request.
const HEADERS: usize = 64;
const HEADER_BYTES: usize = 16 << 10;

const KEYS: [&str; 7] =
    ["capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"];
const ROOT_KEYS: [&str; 9] = [
    "server",
    "host",
    "capabilities",
    "ca",
    "client",
    "skip_verify",
    "header",
    "override_path",
    "dial_timeout",
];

/// Reads `text`, the hosts.toml at `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<Chain, Error> {
    let document = Document { path, text };
    let root = document.parse()?;
    let mut chain = Chain { root: entry(document, &root, &ROOT_KEYS)?, mirrors: Vec::new() };
    for (key, value) in in_file_order(&root) {
        match key.get_ref().as_ref() {
            "server" => {
                let text = document.string(key, value, "\"https://registry.example\"")?;
                chain.root.address = Some(address(document, value, text)?);
                chain.root.origins.insert(0, ("server", document.origin(key)));
            }
            "host" => chain.mirrors = mirrors(document, key, value)?,
            _ => {}
        }
    }
    Ok(chain)
}

fn address(document: Document<'_>, place: &Value<'_>, text: &str) -> Result<Address, Error> {
    Address::parse(text).map_err(|reason| {
        document.refuse(place.span(), format!("{text:?}: {reason}"), Some("write it as https://HOST[:PORT]"))
    })
}

fn mirrors(document: Document<'_>, key: &Key<'_>, value: &Value<'_>) -> Result<Vec<Entry>, Error> {
    const EXAMPLE: &str = "write [host.\"https://mirror.example\"]";
    let table = document.table(key, value, EXAMPLE)?;
    if table.len() > HOSTS {
        return Err(document.refuse(key.span(), format!("more than {HOSTS} hosts"), None));
    }
    let mut mirrors = Vec::new();
    for (name, value) in in_file_order(table) {
        let settings = document.table(name, value, EXAMPLE)?;
        if let Some((nested, _)) = settings.iter().find(|(key, _)| key.get_ref() == "host") {
            let reason = "a host has no hosts of its own";
            return Err(document.refuse(nested.span(), reason, Some(EXAMPLE)));
        }
        let mut entry = entry(document, settings, &KEYS)?;
        let text = name.get_ref();
        entry.address = Some(Address::parse(text).map_err(|reason| {
            document.refuse(name.span(), format!("host {text:?}: {reason}"), Some(EXAMPLE))
        })?);
        entry.origins.insert(0, ("host", document.origin(name)));
        mirrors.push(entry);
    }
    Ok(mirrors)
}

/// The settings that the root and each host may have.
fn entry(document: Document<'_>, table: &DeTable<'_>, allowed: &[&str]) -> Result<Entry, Error> {
    let mut entry = Entry::default();
    for (key, value) in in_file_order(table) {
        let Some(name) = KEYS.iter().find(|name| key.get_ref() == *name) else {
            if allowed.contains(&key.get_ref().as_ref()) {
                continue;
            }
            return Err(document.unknown(key.span(), "key", key.get_ref(), allowed));
        };
        match *name {
            "capabilities" => entry.capabilities = capabilities(document, key, value)?,
            "ca" => {
                for (text, span) in document.one_or_more(key, value, "\"ca.crt\"")? {
                    entry.tls.ca.push(file(document, span, text)?);
                }
            }
            "client" => entry.tls.client = client(document, key, value)?,
            "skip_verify" => entry.skip_verify = Some(document.boolean(key, value)?),
            "override_path" => entry.override_path = document.boolean(key, value)?,
            "dial_timeout" => {
                let text = document.string(key, value, "\"5s\"")?;
                let refused = |reason: String| {
                    document.refuse(value.span(), format!("dial_timeout: {reason}"), Some("\"5s\""))
                };
                entry.dial_timeout = Some(duration::parse(text).map_err(refused)?);
            }
            _ => entry.headers = headers(document, key, value)?,
        }
        entry.origins.push((*name, document.origin(key)));
    }
    Ok(entry)
}

/// `None` for an empty list, which means all of them (rule 22).
fn capabilities(
    document: Document<'_>,
    key: &Key<'_>,
    value: &Value<'_>,
) -> Result<Option<Capabilities>, Error> {
    const NAMES: [&str; 4] = ["pull", "resolve", "push", "referrers"];
    let mut found = Capabilities { pull: false, resolve: false, push: false, referrers: false };
    let words = document.strings(key, value, "[\"pull\", \"resolve\"]")?;
    for (word, span) in &words {
        match word.to_ascii_lowercase().as_str() {
            "pull" => found.pull = true,
            "resolve" => found.resolve = true,
            "push" => found.push = true,
            "referrers" => found.referrers = true,
            _ => return Err(document.unknown(span.clone(), "capability", word, &NAMES)),
        }
    }
    Ok((!words.is_empty()).then_some(found))
}

/// A file's path; relative ones start at the folder of the hosts.toml.
fn file(document: Document<'_>, span: std::ops::Range<usize>, text: &str) -> Result<PathBuf, Error> {
    if text.is_empty() || text.contains('\0') {
        return Err(document.refuse(span, "this is no path", Some("name a file in PEM form")));
    }
    Ok(document.path.parent().unwrap_or(Path::new("")).join(text))
}

/// One file, a list of files, or a list of pairs; files and pairs may be mixed (rule 29).
fn client(
    document: Document<'_>,
    key: &Key<'_>,
    value: &Value<'_>,
) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    const EXAMPLE: &str = "client = [[\"client.cert\", \"client.key\"]]";
    let one = |value: &Value<'_>, text| {
        let path = file(document, value.span(), text)?;
        Ok((path.clone(), path))
    };
    if let Some(text) = value.get_ref().as_str() {
        return Ok(vec![one(value, text)?]);
    }
    let refuse = |value: &Value<'_>, reason: &str| document.refuse(value.span(), reason, Some(EXAMPLE));
    let list = value.get_ref().as_array().ok_or_else(|| {
        refuse(value, &format!("{} must be a file, or a list of files or pairs of them", key.get_ref()))
    })?;
    list.iter()
        .map(|item| {
            if let Some(text) = item.get_ref().as_str() {
                return one(item, text);
            }
            match document.strings(key, item, "[[\"client.cert\", \"client.key\"]]")?.as_slice() {
                [(cert, _), ("", _)] => one(item, *cert),
                [(cert, at), (key, key_at)] => {
                    Ok((file(document, at.clone(), cert)?, file(document, key_at.clone(), key)?))
                }
                _ => Err(refuse(item, "a pair is a certificate and its key")),
            }
        })
        .collect()
}

fn headers(document: Document<'_>, key: &Key<'_>, value: &Value<'_>) -> Result<Vec<(String, String)>, Error> {
    let table = document.table(key, value, "write header = { x-name = \"value\" }")?;
    let mut headers = Vec::new();
    for (name, value) in in_file_order(table) {
        let known = HeaderName::from_bytes(name.get_ref().as_bytes());
        if known.is_err()
            || known.is_ok_and(|name| matches!(name.as_str(), "content-length" | "transfer-encoding"))
        {
            let reason = format!("{:?} cannot be sent as a header", name.get_ref());
            return Err(document.refuse(name.span(), reason, None));
        }
        for (text, span) in document.one_or_more(name, value, "\"value\"")? {
            // The value may be a secret: no message shows it.
            if HeaderValue::from_str(text).is_err() || text.len() > HEADER_BYTES {
                let reason = format!("the value of header {} cannot be sent", name.get_ref());
                return Err(document.refuse(span, reason, Some("one line of visible characters")));
            }
            headers.push((name.get_ref().to_string(), text.to_owned()));
        }
    }
    if headers.len() > HEADERS {
        return Err(document.refuse(key.span(), format!("more than {HEADERS} headers"), None));
    }
    Ok(headers)
}
