//! Realm: the token server that a registry names, if credentials may go there.
//!
//! # Invariants
//! A password leaves in the open only where the registry's own address is plain HTTP, or this machine's, and the token server is the
//! same machine (NET-01). An address that only this network link knows is never asked: that is where clouds keep their keys (NET-17).

use reqwest::Url;

use super::super::{
    host::{Host, Scheme},
    hosts::address::{is_localhost, split_port},
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
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let link_local = match bare.parse() {
        Ok(std::net::IpAddr::V4(address)) => address.is_link_local(),
        Ok(std::net::IpAddr::V6(address)) => {
            address.is_unicast_link_local() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_link_local())
        }
        Err(_) => false,
    };
    if link_local {
        return refuse("is a link-local address");
    }
    let open = host.scheme != Scheme::Https || is_localhost(&host.authority);
    let same = name == split_port(&host.authority).0 || is_localhost(name);
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
