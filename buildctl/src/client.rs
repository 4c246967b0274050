//! Client: one connection to the daemon and the typed services on it.
//!
//! The address is `--addr`, else BUILDKIT_HOST, else the default socket; if nothing answers on the default one, a private daemon is started.

use anyhow::{Context as _, Result};
use buildd_api::{
    buildkit::moby::buildkit::v1::control_client::ControlClient,
    containerd::containerd::services::{
        containers::v1::containers_client::ContainersClient, content::v1::content_client::ContentClient,
        images::v1::images_client::ImagesClient,
        introspection::v1::introspection_client::IntrospectionClient,
        leases::v1::leases_client::LeasesClient, namespaces::v1::namespaces_client::NamespacesClient,
        snapshots::v1::snapshots_client::SnapshotsClient, streaming::v1::streaming_client::StreamingClient,
        tasks::v1::tasks_client::TasksClient, transfer::v1::transfer_client::TransferClient,
        version::v1::version_client::VersionClient,
    },
};
use tonic::{
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    connection::{self, Address, MESSAGE_BYTES},
    global::Global,
    private_daemon,
};

/// Adds the namespace (and the lease) to every call of containerd's services.
#[derive(Debug, Clone)]
pub(crate) struct Headers {
    namespace: AsciiMetadataValue,
    lease: Option<AsciiMetadataValue>,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            metadata.insert("containerd-lease", lease.clone());
        }
        Ok(request)
    }
}

/// A channel that adds [`Headers`].
pub(crate) type Namespaced = InterceptedService<Channel, Headers>;

/// A connection to the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    headers: Headers,
}

macro_rules! services {
    ($($name:ident: $client:ident),* $(,)?) => {
        $(
            /// The service of this name, in the namespace.
            pub(crate) fn $name(&self) -> $client<Namespaced> {
                $client::with_interceptor(self.channel.clone(), self.headers.clone())
                    .max_decoding_message_size(MESSAGE_BYTES)
                    .max_encoding_message_size(MESSAGE_BYTES)
            }
        )*
    };
}

impl Client {
    /// Connects as the flags say.
    pub(crate) async fn connect(global: &Global) -> Result<Self> {
        let channel = match &global.addr {
            Some(text) if !text.is_empty() => connection::open(&Address::parse(text)?).await?,
            _ => private_daemon::connect_or_start().await?,
        };
        let namespace = global
            .namespace
            .parse()
            .with_context(|| format!("namespace {:?} is not a plain name", global.namespace))?;
        Ok(Self { channel, headers: Headers { namespace, lease: None } })
    }

    /// The same connection, whose containerd calls keep what they make under a lease.
    pub(crate) fn with_lease(&self, lease: &str) -> Result<Self> {
        let lease = lease.parse().with_context(|| format!("lease {lease:?} is not a plain name"))?;
        Ok(Self {
            channel: self.channel.clone(),
            headers: Headers { lease: Some(lease), ..self.headers.clone() },
        })
    }

    /// The connection.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// BuildKit's control service.
    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    services! {
        images: ImagesClient,
        content: ContentClient,
        snapshots: SnapshotsClient,
        leases: LeasesClient,
        namespaces: NamespacesClient,
        containers: ContainersClient,
        tasks: TasksClient,
        transfer: TransferClient,
        streaming: StreamingClient,
        version: VersionClient,
        introspection: IntrospectionClient,
    }
}
