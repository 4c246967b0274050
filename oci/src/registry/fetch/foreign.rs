//! Foreign: layers that lie outside of registries, at URLs that their image's author wrote.
//!
//! Only layers of the types made for it are looked for there, and only when no host has them. The author may not make us talk to
//! this machine or to a private network, and learns nothing of who we are (MAN-11).

use std::sync::Arc;

use reqwest::{
    Method, Url,
    header::{ACCEPT_ENCODING, RANGE},
};

use crate::{
    descriptor::Descriptor,
    registry::{
        Repository,
        auth::{Anonymous, Authorizer},
        error::Error,
        host::Host,
        hosts::address::split_port,
        transport::{self, Answer, Call, Patience, Payload, Peer, Reach, is_loopback},
    },
};

/// URLs of one layer that are tried.
pub(super) const MAX_URLS: usize = 3;

/// Whether a blob may lie elsewhere.
pub(super) fn may_be_elsewhere(descriptor: &Descriptor) -> bool {
    let kind = &descriptor.media_type;
    !descriptor.urls.is_empty()
        && (kind.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || kind.starts_with("application/vnd.docker.image.rootfs.foreign."))
}

/// Asks for a blob at a URL.
pub(super) async fn open(
    repository: &Repository,
    hosts: &[&Host],
    text: &str,
    range: Option<String>,
) -> Result<Answer, Error> {
    // An image from this machine may point at this machine.
    let local = hosts.iter().any(|host| is_loopback(split_port(&host.authority).0));
    let floor = if local { Reach::Named } else { Reach::Public };
    let url = check(text, floor).map_err(|reason| Error::Protocol {
        method: Method::GET.to_string(),
        url: repository.reference().to_string(),
        reason: format!("the URL of a layer {reason}"),
    })?;
    let host = transport::stranger(&url);
    let authorizer = Authorizer::new(Arc::new(Anonymous));
    let peer = Peer { transport: &repository.0.transport, host: &host, authorizer: &authorizer, floor };
    let mut headers = vec![(ACCEPT_ENCODING, "identity".to_owned())];
    headers.extend(range.map(|range| (RANGE, range)));
    let patience = Patience::last_host(repository.0.transport.timeouts.patience);
    let call =
        Call { method: Method::GET, url, headers, payload: Payload::None, scopes: Vec::new(), patience };
    peer.send(&call).await?.accept(&[200, 206]).await
}

fn check(text: &str, floor: Reach) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is none: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("is a {} URL", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name in it".to_owned());
    }
    let host = url.host_str().unwrap_or_default();
    if !floor.allows_host(host) {
        return Err(format!("leads to {host}, which an image has no business with"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests;
