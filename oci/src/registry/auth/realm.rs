//! Realm: the token server that a registry names, if credentials may go there.
//!
//! # Invariants
//! A password leaves in the open only where the registry's own address is plain HTTP, or this machine's, and the token server is the
//! same machine (NET-01). Where clouds keep their keys is never asked, nor does another machine send us to what listens here (NET-17).

use reqwest::Url;

use super::super::{
    host::{Host, Scheme},
    hosts::address::{is_localhost, split_port},
    transport::Reach,
};

/// Longest URL of a token server; it is shown in errors.
const URL_BYTES: usize = 2000;

/// The URL, or why it is not asked.
pub(super) fn check(host: &Host, text: &str) -> Result<Url, String> {
    if text.len() > URL_BYTES {
        return Err("its token server's address is too long".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("its token server's address is no URL: {error}"))?;
    let refuse = |why: &str| Err(format!("its token server {} {why}", shown(&url)));
    let Some(name) = url.host_str() else { return refuse("has no host") };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("has a user in its address");
    }
    let here = is_localhost(&host.authority);
    let open = here || host.scheme != Scheme::Https;
    let same = name == split_port(&host.authority).0;
    let reach = if here || same { Reach::Named } else { Reach::Elsewhere };
    if !reach.allows_host(name) {
        return refuse("is an address that no other machine may send us to");
    }
    let same = same || is_localhost(name);
    match url.scheme() {
        "https" => Ok(url),
        "http" if open && same => Ok(url),
        "http" => refuse("is plain HTTP"),
        _ => refuse("is neither http nor https"),
    }
}

/// The URL without what may hold secrets.
pub(super) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}
