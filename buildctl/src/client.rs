//! Client: one connection to the daemon and the typed services on it.
//!
//! The address is `--addr`, else BUILDKIT_HOST, else the default socket; if nothing answers on the default one, a private daemon is started.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
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
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{cli::Global, private_daemon};

/// Messages of both APIs, as BuildKit and containerd bound them.
pub(crate) const MESSAGE_BYTES: usize = 16 << 20;
/// Headers of one answer, as Go's clients bound them: an error has the whole text that it is in, and more than once.
const HEADER_BYTES: u32 = 16 << 20;
/// Bytes of one frame that we take: with HTTP/2's default of 16 KiB a large file is tens of thousands of messages within messages.
pub(crate) const FRAME: u32 = 256 << 10;
/// HTTP/2 windows: Go's default of 64 KiB makes a context or an archive crawl.
pub(crate) const STREAM_WINDOW: u32 = 4 << 20;
/// Window of the whole connection, several streams wide.
pub(crate) const CONNECTION_WINDOW: u32 = 16 << 20;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, without TLS.
    Tcp(String),
}

impl Address {
    /// Parses `unix://PATH` (or `unix:PATH`) and `tcp://HOST:PORT`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            return Ok(Self::Unix(path.into()));
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            return Ok(Self::Tcp(address.to_owned()));
        }
        bail!("address {text:?} is neither unix://PATH nor tcp://HOST:PORT")
    }
}

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
            Some(text) if !text.is_empty() => open(&Address::parse(text)?).await?,
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

/// Opens a connection; an error names the address.
pub(crate) async fn open(address: &Address) -> Result<Channel> {
    match address {
        Address::Unix(path) => {
            // Connected once here for the sake of a clear message; tonic's wraps the cause three times.
            let first = UnixStream::connect(path)
                .await
                .with_context(|| format!("no daemon answers at {}", path.display()))?;
            let (path, mut first) = (path.clone(), Some(first));
            let connector = tower::service_fn(move |_| {
                let (path, ready) = (path.clone(), first.take());
                async move {
                    match ready {
                        Some(stream) => Ok(TokioIo::new(stream)),
                        None => UnixStream::connect(path).await.map(TokioIo::new),
                    }
                }
            });
            tuned(Endpoint::from_static("http://localhost"))
                .connect_with_connector(connector)
                .await
                .context("speak HTTP/2 with the daemon")
        }
        Address::Tcp(address) => tuned(
            Endpoint::from_shared(format!("http://{address}"))
                .with_context(|| format!("{address:?} is no host and port"))?,
        )
        .connect()
        .await
        .with_context(|| format!("no daemon answers at tcp://{address}")),
    }
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .http2_max_header_list_size(HEADER_BYTES)
}
