//! containerd's services: the same store, in containerd's words.
//!
//! One file a service. A service parses, calls the store through the door to blocking, and maps the error; it never computes.
//!
//! # Invariants
//! Every call but those on namespaces, version and introspection names its namespace, or is refused.

mod containers;
mod content;
mod convert;
mod diff;
mod events;
mod images;
mod introspection;
mod leases;
mod namespaces;
mod snapshots;
mod streaming;
mod tasks;
mod transfer;
mod version;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use buildd_api::containerd::containerd::services as api;
use buildd_fs::pipeline::Limit;
use buildd_runtime::task;
use buildd_store::{Error, identifier, meta::lease::Resource, root::Store, transfer::registries::Registries};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, service::RoutesBuilder};

use crate::{collect::Collector, session::transport::MESSAGE_LIMIT, status::Answer};

/// What the services share.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    store: Arc<Store>,
    tasks: Arc<task::Tasks>,
    collector: Collector,
    streams: Arc<streaming::Streams>,
    registries: Arc<Registries>,
    hosts_settings: Arc<HashMap<String, String>>,
    watched: Arc<Mutex<HashSet<tasks::events::Watched>>>,
    uuid: String,
    /// Ends the streams that have no end of their own.
    leave: CancellationToken,
}

/// What the services are made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The store.
    pub(crate) store: Arc<Store>,
    /// The tasks.
    pub(crate) tasks: Arc<task::Tasks>,
    /// Collects what nobody needs.
    pub(crate) collector: Collector,
    /// The way to registries.
    pub(crate) registries: Arc<Registries>,
    /// Where a client finds what we know of hosts.
    pub(crate) hosts_settings: HashMap<String, String>,
    /// Names this daemon on both APIs.
    pub(crate) uuid: String,
    /// Says that it goes.
    pub(crate) leave: CancellationToken,
}

impl Services {
    /// The services over their parts.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { store, tasks, collector, registries, hosts_settings, uuid, leave } = parts;
        Self {
            store,
            tasks,
            collector,
            streams: Arc::default(),
            registries,
            hosts_settings: Arc::new(hosts_settings),
            watched: Arc::default(),
            uuid,
            leave,
        }
    }

    /// Adds every service.
    pub(crate) fn assemble(&self, routes: &mut RoutesBuilder) {
        macro_rules! serve {
            ($($server:path),* $(,)?) => {$({
                use $server as Server;
                let server = Server::new(self.clone());
                routes.add_service(
                    server.max_decoding_message_size(MESSAGE_LIMIT).max_encoding_message_size(MESSAGE_LIMIT),
                );
            })*};
        }
        serve!(
            api::containers::v1::containers_server::ContainersServer,
            api::content::v1::content_server::ContentServer,
            api::diff::v1::diff_server::DiffServer,
            api::events::v1::events_server::EventsServer,
            api::images::v1::images_server::ImagesServer,
            api::introspection::v1::introspection_server::IntrospectionServer,
            api::leases::v1::leases_server::LeasesServer,
            api::namespaces::v1::namespaces_server::NamespacesServer,
            api::snapshots::v1::snapshots_server::SnapshotsServer,
            api::streaming::v1::streaming_server::StreamingServer,
            api::tasks::v1::tasks_server::TasksServer,
            api::transfer::v1::transfer_server::TransferServer,
            api::version::v1::version_server::VersionServer,
        );
    }

    /// Lets the lease that a call works under, if any, hold what the call is about to make.
    async fn leased(&self, ns: &str, lease: Option<String>, kind: String, id: &str) -> Result<(), Status> {
        let Some(lease) = lease else { return Ok(()) };
        let (ns, resource) = (ns.to_owned(), Resource { kind, id: id.to_owned() });
        self.with_store(move |store| store.leases.add(&ns, &lease, &resource)).await
    }

    /// Work of the store, off the async threads.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Store>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let store = Arc::clone(&self.store);
        buildd_fs::blocking::run(move || work(&store)).await.or_status()
    }

    /// Work of the store that waits for a client, on a thread of its own.
    async fn pipeline<T: Send + 'static>(
        &self,
        limit: &'static Limit,
        work: impl FnOnce(&Arc<Store>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let store = Arc::clone(&self.store);
        limit.run(move || work(&store)).await.or_status()
    }
}

/// The namespace that a call names.
fn namespace<T>(request: &Request<T>) -> Result<String, Status> {
    let value = request.metadata().get("containerd-namespace").and_then(|value| value.to_str().ok());
    let name = value.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Status::failed_precondition("namespace is required"))?;
    identifier::check(name).or_status()?;
    Ok(name.to_owned())
}

/// The lease that a call works under.
fn lease<T>(request: &Request<T>) -> Option<String> {
    request.metadata().get("containerd-lease").and_then(|value| value.to_str().ok()).map(str::to_owned)
}
