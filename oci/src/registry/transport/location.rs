//! Location: the URLs we make, the URLs we are sent to, and how they look in an error.
//!
//! # Invariants
//! What goes to an origin other than the host's own carries nothing of ours: no credentials, no extra headers, no client
//! certificate. Nobody moves us from TLS to plain HTTP.

use reqwest::Url;

use super::address::{Reach, is_loopback};
use crate::registry::host::{Capabilities, Host, Scheme, Tls};

/// Longest URL that is followed or shown.
const MAX_URL: usize = 8 << 10;

/// `<scheme>://<authority><path>/<repository>/<rest>`, with `ns=` for hosts that stand in for another one (rules 50 and 51).
pub(crate) fn endpoint(host: &Host, domain: &str, repository: &str, rest: &str) -> Result<Url, String> {
    let scheme = if host.scheme == Scheme::Http { "http" } else { "https" };
    let text = format!("{scheme}://{}{}/{repository}/{rest}", host.authority, host.path);
    let mut url = Url::parse(&text).map_err(|error| format!("{text} is no URL: {error}"))?;
    if !stands_for(&host.authority, domain) {
        url.query_pairs_mut().append_pair("ns", domain);
    }
    Ok(url)
}

fn stands_for(authority: &str, domain: &str) -> bool {
    authority == domain || (domain == "docker.io" && authority == "registry-1.docker.io")
}

/// A host that nobody configured: where an image's author or another host sends us.
pub(crate) fn stranger(url: &Url) -> Host {
    let origin = url.origin().ascii_serialization();
    Host {
        scheme: if url.scheme() == "https" { Scheme::Https } else { Scheme::Http },
        authority: origin.split_once("://").map_or("", |(_, authority)| authority).to_owned(),
        path: String::new(),
        capabilities: Capabilities::ALL,
        tls: Tls::default(),
        headers: Vec::new(),
        dial_timeout: None,
        origins: Vec::new(),
    }
}

/// Where an answer sends us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    /// The URL.
    pub(crate) url: Url,
    /// Whether it is the origin that we came from, so that what belongs to the host may go along.
    pub(crate) same: bool,
}

/// Reads a `Location` that came from `from`, a URL of the host `home`.
pub(crate) fn follow(home: &Url, from: &Url, location: &str) -> Result<Hop, String> {
    if location.len() > MAX_URL {
        return Err(format!("sends us to a URL of {} bytes", location.len()));
    }
    let mut url = from.join(location).map_err(|error| format!("sends us to {location:?}: {error}"))?;
    // A registry behind a proxy that ends TLS often believes that it is spoken to in plain HTTP.
    if url.scheme() == "http" && home.scheme() == "https" && url.host_str() == home.host_str() {
        let plain_port = url.port();
        if url.set_scheme("https").is_ok() && plain_port.is_none() {
            // The port of plain HTTP was meant as "the usual one".
            let _ = url.set_port(home.port());
        }
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("sends us to a {} URL", url.scheme()));
    }
    if from.scheme() == "https" && url.scheme() == "http" {
        return Err(format!("sends us from TLS to plain HTTP at {}", shown(&url)));
    }
    let host = url.host_str().unwrap_or_default();
    if !reach(home, &url).allows_host(host) {
        return Err(format!("sends us to {host}, which an outside host has no business with"));
    }
    let same = url.origin() == home.origin();
    if !url.username().is_empty() || url.password().is_some() {
        return Err("sends us to a URL with a user name in it".to_owned());
    }
    url.set_fragment(None);
    Ok(Hop { url, same })
}

/// How far away `url` must be, if `home` sends us there.
pub(crate) fn reach(home: &Url, url: &Url) -> Reach {
    let local = is_loopback(home.host_str().unwrap_or_default());
    if local || url.origin() == home.origin() { Reach::Named } else { Reach::Elsewhere }
}

/// A URL without what may be secret: no user, and of the query only the names and `ns` (rule 52).
pub(crate) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    let pairs: Vec<String> = url
        .query_pairs()
        .map(|(name, value)| format!("{name}={}", if name == "ns" { value.as_ref() } else { "***" }))
        .collect();
    shown.set_query(None);
    let mut text = shown.to_string();
    if !pairs.is_empty() {
        text.push('?');
        text.push_str(&pairs.join("&"));
    }
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// The URL of the next page, from `Link` headers, if it lies at the same origin.
pub(crate) fn next_page(from: &Url, links: &[String]) -> Result<Option<Url>, String> {
    for (target, parameters) in links.iter().flat_map(|line| link_values(line)) {
        let next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
            name.eq_ignore_ascii_case("rel") && value.trim_matches('"').eq_ignore_ascii_case("next")
        });
        if !next {
            continue;
        }
        let hop = follow(from, from, target)?;
        if !hop.same {
            return Err(format!("puts its next page at another host, {}", shown(&hop.url)));
        }
        return Ok(Some(hop.url));
    }
    Ok(None)
}

/// The targets and parameters of one `Link` line; a comma may stand inside a target.
fn link_values(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split('<')
        .skip(1)
        .filter_map(|value| value.split_once('>'))
        .map(|(target, parameters)| (target, parameters.trim_end().trim_end_matches(',')))
}

#[cfg(test)]
mod tests;
