//! Clients: the connections of a daemon, one pool for each host and the way it is spoken to.
//!
//! # Invariants
//! A connection made with one host's certificates, or without checking them, is never used for another host.
//!
//! # Concurrency
//! A map under a std mutex that is never held while a file is read or a connection made.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use reqwest::{Client, Url};
use rustls::RootCertStore;

use super::{
    address::{Guard, Reach, is_loopback},
    tls,
};
use crate::registry::{error::Error, host::Tls};

/// Rule 41.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Most pools that are kept: a registry that redirects to ever new hosts does not fill the memory.
const MAX_CLIENTS: usize = 64;
/// Largest header list of an HTTP/2 answer (NET-11); HTTP/1 has hyper's limits of 100 lines and some 400 KiB.
const MAX_HEADER_LIST: u32 = 128 << 10;
/// Bytes of one HTTP/2 stream on their way: the default of 64 KiB makes a fast link wait.
const STREAM_WINDOW: u32 = 4 << 20;
/// Of all streams of a connection.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// What a pool of connections belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// Scheme, host and port.
    pub(crate) origin: String,
    /// The host alone, as it stands in the URL.
    pub(crate) host: String,
    /// Whom to trust.
    pub(crate) tls: Tls,
    /// How long connecting may take.
    pub(crate) dial_timeout: Duration,
    /// How far away it must be.
    pub(crate) reach: Reach,
}

impl Target {
    /// Where `url` leads.
    pub(crate) fn of(url: &Url, tls: Tls, dial_timeout: Option<Duration>, reach: Reach) -> Self {
        Self {
            origin: url.origin().ascii_serialization(),
            host: url.host_str().unwrap_or_default().to_owned(),
            tls,
            dial_timeout: dial_timeout.unwrap_or(DIAL_TIMEOUT),
            reach,
        }
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    pools: Mutex<HashMap<Target, Client>>,
    roots: Arc<OnceLock<RootCertStore>>,
    plain: Mutex<HashSet<String>>,
    answered: Mutex<HashSet<String>>,
}

impl Clients {
    /// The pool for a target.
    pub(crate) async fn of(&self, target: &Target) -> Result<Client, Error> {
        if let Some(client) = self.pools.lock().unwrap_or_else(PoisonError::into_inner).get(target) {
            return Ok(client.clone());
        }
        let config = match target.origin.starts_with("https:") {
            true => {
                let (tls, roots) = (target.tls.clone(), self.roots.clone());
                let made = move || tls::config(&tls, roots.get_or_init(tls::system_roots));
                Some(buildd_fs::blocking::run(made).await?)
            }
            false => None,
        };
        let client = build(target, config)?;
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= MAX_CLIENTS {
            pools.clear();
        }
        Ok(pools.entry(target.clone()).or_insert(client).clone())
    }

    /// Whether a host that might speak TLS turned out not to (rule 46: it stays so).
    pub(crate) fn is_plain(&self, authority: &str) -> bool {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).contains(authority)
    }

    /// From now on this host is spoken to in plain HTTP.
    pub(crate) fn set_plain(&self, authority: &str) {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).insert(authority.to_owned());
    }

    /// Whether a host ever answered: then being unreachable is an outage, not a wrong name.
    pub(crate) fn has_answered(&self, authority: &str) -> bool {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).contains(authority)
    }

    /// It did.
    pub(crate) fn set_answered(&self, authority: &str) {
        if !self.has_answered(authority) {
            self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(authority.to_owned());
        }
    }
}

fn build(target: &Target, config: Option<rustls::ClientConfig>) -> Result<Client, Error> {
    // A host without TLS never starts a handshake, but a proxy on the way to it may be reached by one.
    let config = match config {
        Some(config) => config,
        None => tls::config(&Tls::default(), &RootCertStore::empty())?,
    };
    let mut builder = Client::builder();
    if is_loopback(&target.host) {
        // Compat: Go's clients, and so everybody's settings, know that no proxy leads to this machine.
        builder = builder.no_proxy();
    }
    builder
        .tls_backend_preconfigured(config)
        .user_agent(concat!("buildd/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(target.dial_timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(10)
        .tcp_keepalive(Duration::from_secs(30))
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(MAX_HEADER_LIST)
        .dns_resolver(Guard::shared(&target.host, target.reach))
        .build()
        .map_err(|source| Error::Request {
            method: "prepare".to_owned(),
            url: target.origin.clone(),
            source: Arc::new(source.without_url()),
        })
}
