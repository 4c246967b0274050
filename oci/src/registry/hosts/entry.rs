//! Entry: what one table of some file says about one host, before defaults fill the rest.
//!
//! `settings` (hosts.toml), `buildkit` and `legacy` (older tables) make entries; `chain` turns them into hosts. The entry of the
//! registry itself has no address where the file names no `server`.

use std::{fmt, time::Duration};

use super::{
    super::host::{Capabilities, Host, Origin, Scheme, Tls},
    address::{Address, split_port},
};

/// What is set for one host.
#[derive(Clone, Default)]
pub(super) struct Entry {
    /// Where it is; `None`: where the registry is by default.
    pub(super) address: Option<Address>,
    /// Plain HTTP or TLS for a host without an address; `None`: as usual for it.
    pub(super) plain: Option<bool>,
    /// What it may be asked for; `None`: everything.
    pub(super) capabilities: Option<Capabilities>,
    /// Files and trust.
    pub(super) tls: Tls,
    /// `skip_verify` as it is written, if it is.
    pub(super) skip_verify: Option<bool>,
    /// Sent with each request.
    pub(super) headers: Vec<(String, String)>,
    /// How long connecting may take.
    pub(super) dial_timeout: Option<Duration>,
    /// Whether the path of the address is the API's.
    pub(super) override_path: bool,
    /// Each setting that is there, and where.
    pub(super) origins: Vec<(&'static str, Origin)>,
}

impl fmt::Debug for Entry {
    /// Without the values of headers: they may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("address", &self.address)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// Whether something was said about TLS; only then a plain host is tried with TLS first (rule 46).
    pub(super) fn tls_is_set(&self) -> bool {
        !self.tls.ca.is_empty() || !self.tls.client.is_empty() || self.skip_verify.is_some()
    }

    /// The host at `address`.
    pub(super) fn at(self, address: &Address) -> Host {
        let ambiguous = self.tls_is_set() && split_port(&address.authority).1 != Some("80");
        let scheme = match (address.plain, ambiguous) {
            (false, _) => Scheme::Https,
            (true, true) => Scheme::HttpsOrHttp,
            (true, false) => Scheme::Http,
        };
        let mut origins = self.origins;
        let has = |origins: &[(&str, Origin)], setting| origins.iter().any(|(name, _)| *name == setting);
        if !has(&origins, "scheme") {
            let address = origins.iter().find(|(name, _)| matches!(*name, "server" | "host"));
            origins.push(("scheme", address.map_or(Origin::Default, |(_, origin)| origin.clone())));
        }
        if !has(&origins, "capabilities") {
            origins.push(("capabilities", Origin::Default));
        }
        Host {
            scheme,
            authority: address.authority.clone(),
            path: address.api_path(self.override_path),
            capabilities: self.capabilities.unwrap_or(Capabilities::ALL),
            tls: Tls { skip_verify: self.skip_verify.unwrap_or_default(), ..self.tls },
            headers: self.headers,
            dial_timeout: self.dial_timeout,
            origins,
        }
    }
}
