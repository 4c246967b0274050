//! Address: where a registry, or what it points us at, may make us connect to.
//!
//! An image's name, a redirect, an upload's Location and a foreign layer's URL are all chosen by somebody else. None of them may
//! reach the metadata service of a cloud, and none that comes from a public host may reach what listens on this machine (NET-17).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How far away from us an address must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Anything but link-local: a host that somebody named.
    Named,
    /// Not this machine either: where a host that is not this machine sends us.
    Elsewhere,
    /// No private network either: an URL that an image's author wrote.
    Public,
}

impl Reach {
    /// Whether `address` may be connected to.
    pub(crate) fn allows(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if is_link_local(address) {
            return false;
        }
        match self {
            Self::Named => true,
            Self::Elsewhere => !is_this_machine(address),
            Self::Public => !is_this_machine(address) && !is_private(address),
        }
    }

    /// Whether a host as it stands in an URL may be connected to: names are checked once they are resolved.
    pub(crate) fn allows_host(self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) => self.allows(address),
            Err(_) => self == Self::Named || !is_local_name(host),
        }
    }
}

/// Whether a host is this machine by its very name: `localhost` or a loopback address (rule 43).
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// `localhost` and names below it, with or without the root's dot.
fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// 169.254/16, fe80::/10 and the one unique-local address that is a cloud's metadata service.
fn is_link_local(address: IpAddr) -> bool {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == METADATA,
    }
}

fn is_this_machine(address: IpAddr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0)
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || is_carrier(v4) || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_multicast(),
    }
}

/// 100.64/10: between a provider and its customers, and where some clouds keep their metadata.
fn is_carrier(v4: Ipv4Addr) -> bool {
    v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64
}

/// Resolves names and leaves out the addresses that may not be reached.
#[derive(Debug)]
pub(crate) struct Guard {
    /// The host of the URLs a client is for; other names are its proxies' and token servers'.
    pub(crate) host: String,
    /// How far away it must be.
    pub(crate) reach: Reach,
}

impl Guard {
    /// As reqwest takes it.
    pub(crate) fn shared(host: &str, reach: Reach) -> Arc<dyn Resolve> {
        Arc::new(Self { host: host.to_owned(), reach })
    }
}

/// Why a name was not resolved.
#[derive(Debug, thiserror::Error)]
#[error("{host} has only addresses that a registry may not send us to ({addresses})")]
pub(crate) struct Refused {
    host: String,
    addresses: String,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = if name.as_str() == self.host { self.reach } else { Reach::Named };
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.iter().copied().filter(|address| reach.allows(address.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                let addresses: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
                let refused = Refused { host: name.as_str().to_owned(), addresses: addresses.join(", ") };
                return Err(refused.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
