//! Connection: where a daemon listens, and a channel to it.
//!
//! `client` and `private_daemon` open connections here; `session` serves its own services over one with the same limits.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

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
