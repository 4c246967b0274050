//! Registry: images in registries, over the distribution API.
//!
//! A `Registry` is what a daemon has one of: the hosts' settings, the connections and the tokens. A `Repository` is one repository
//! of it, seen through the hosts that may serve it in their order. Pull, push, builds and Transfer all come here.
//!
//! ```text
//! reference -> hosts (hosts.toml) -> [host, host, ...] -> transport (TLS, retries, redirects, auth) -> bytes, verified
//! ```
//!
//! # Invariants
//! A credential goes to the host it belongs to and to no other. What comes from a host is a claim until its digest is checked.
//!
//! # Sources
//! distribution-spec 1.1; containerd `core/remotes/docker`; spec registries.md.

pub mod auth;
pub mod docker_config;
pub mod error;
pub mod fetch;
pub mod file;
pub mod host;
pub mod hosts;
mod login;
pub mod push;
mod referrers;
pub mod resolve;
mod transport;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

pub use error::Error;
use reqwest::{Method, header::HeaderName};
pub use transport::Timeouts;

use self::{
    auth::{Authorizer, Scope},
    host::{Capability, Host},
    transport::{Answer, Call, Patience, Payload, Peer, Reach, Transport},
};
use crate::reference::Reference;

/// What a daemon has one of: the connections to all registries.
#[derive(Clone, Debug)]
pub struct Registry {
    transport: Arc<Transport>,
}

impl Registry {
    /// No connections yet.
    pub fn new() -> Result<Self, Error> {
        Ok(Self::with_timeouts(Timeouts::default()))
    }

    /// The same, in more or less of a hurry.
    pub fn with_timeouts(timeouts: Timeouts) -> Self {
        Self { transport: Arc::new(Transport::new(timeouts)) }
    }

    /// One repository through these hosts, in their order. `authorizer` knows the credentials of whoever asks.
    pub fn repository(&self, reference: &Reference, hosts: Vec<Host>, authorizer: Authorizer) -> Repository {
        Repository(Arc::new(Inner {
            transport: self.transport.clone(),
            reference: reference.clone(),
            hosts,
            authorizer,
            distrusted: Mutex::default(),
        }))
    }
}

/// One repository, as one request sees it.
#[derive(Clone, Debug)]
pub struct Repository(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    transport: Arc<Transport>,
    reference: Reference,
    hosts: Vec<Host>,
    authorizer: Authorizer,
    distrusted: Mutex<HashSet<String>>,
}

impl Repository {
    /// The image this is about.
    pub fn reference(&self) -> &Reference {
        &self.0.reference
    }

    /// From now on this host is asked last: what it sent was not what it should have been.
    pub fn distrust(&self, authority: &str) {
        tracing::warn!(host = authority, image = %self.0.reference, "a host served wrong content and is asked last now");
        self.0.distrusted.lock().unwrap_or_else(PoisonError::into_inner).insert(authority.to_owned());
    }

    /// The hosts that may be asked for something, in the order to ask them.
    fn candidates(&self, capability: Capability) -> Result<Vec<&Host>, Error> {
        let mut hosts: Vec<&Host> = self.0.hosts.iter().filter(|host| host.may(capability)).collect();
        if hosts.is_empty() {
            return Err(Error::NoHosts { reference: self.0.reference.to_string(), capability });
        }
        let distrusted = self.0.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.sort_by_key(|host| distrusted.contains(&host.authority));
        Ok(hosts)
    }

    /// How much is done about the passing failures of one of several hosts.
    fn patience(&self, last: bool) -> Patience {
        let total = self.0.transport.timeouts.patience;
        if last { Patience::last_host(total) } else { Patience::next_host_waits(total) }
    }

    fn peer<'a>(&'a self, host: &'a Host) -> Peer<'a> {
        Peer { transport: &self.0.transport, host, authorizer: &self.0.authorizer, floor: Reach::Named }
    }

    /// A request about this repository.
    fn call(
        &self,
        method: Method,
        host: &Host,
        rest: &str,
        patience: Patience,
    ) -> Result<Call<'static>, Error> {
        let path = self.0.reference.path();
        let bad =
            |reason| Error::Protocol { method: method.to_string(), url: host.authority.clone(), reason };
        let url = transport::endpoint(host, self.0.reference.domain(), path, rest).map_err(bad)?;
        let push = !matches!(method, Method::GET | Method::HEAD);
        let scopes = vec![Scope { repository: path.to_owned(), push }];
        Ok(Call { method, url, headers: Vec::new(), payload: Payload::None, scopes, patience })
    }

    /// Reads something small of one host.
    async fn get(
        &self,
        host: &Host,
        rest: &str,
        headers: &[(HeaderName, &str)],
        patience: Patience,
    ) -> Result<Answer, Error> {
        let mut call = self.call(Method::GET, host, rest, patience)?;
        call.headers = headers.iter().map(|(name, value)| (name.clone(), (*value).to_owned())).collect();
        self.peer(host).send(&call).await?.accept(&[200]).await
    }
}

/// The hosts that were asked in vain.
#[derive(Debug, Default)]
struct Tried(Vec<(String, Error)>);

impl Tried {
    fn add(&mut self, host: &Host, error: Error) {
        tracing::debug!(host = host.authority, %error, "a host did not serve it");
        self.0.push((host.authority.clone(), error));
    }

    /// The error of the host that came furthest (rule 55), with what each of several said.
    fn into_error(self, reference: &Reference) -> Error {
        let tried =
            self.0.iter().map(|(host, error)| format!("{host}: {}", error.chain())).collect::<Vec<_>>();
        let furthest = self
            .0
            .into_iter()
            .map(|(_, error)| error)
            .reduce(|best, error| if error.progress() > best.progress() { error } else { best });
        match furthest {
            Some(error) if tried.len() == 1 => error,
            Some(error) => {
                Error::Exhausted { reference: reference.to_string(), tried, source: Arc::new(error) }
            }
            None => Error::NoHosts { reference: reference.to_string(), capability: Capability::Pull },
        }
    }
}
