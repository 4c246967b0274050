//! Session: our half of a build, which the daemon calls back into for files, secrets and credentials.
//!
//! `Control.Session` is a byte pipe inside a gRPC stream. On it runs an HTTP/2 server of ours, one service a file of `session/`; the
//! daemon is its only client. Dropping the session ends all of it.

mod auth;
mod authority;
mod directory;
mod filesend;
mod filesync;
mod health;
mod layout;
mod secrets;
mod ssh;
mod upload;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use anyhow::{Context as _, Result};
use buildd_api::{
    buildkit::{
        health::health_server::HealthServer,
        moby::{
            buildkit::secrets::v1::secrets_server::SecretsServer,
            filesync::v1::{auth_server::AuthServer, file_sync_server::FileSyncServer},
            sshforward::v1::ssh_server::SshServer,
            upload::v1::upload_server::UploadServer,
        },
    },
    bytes_message::{SharedBytes, SharedBytesCodec},
    containerd::containerd::services::content::v1::content_server::ContentServer,
};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf},
    task::JoinHandle,
};
use tokio_util::{
    io::{CopyToBytes, SinkWriter, StreamReader},
    sync::PollSender,
};
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::{
        Channel,
        server::{Connected, Server},
    },
};

pub(crate) use filesend::Target;
pub(crate) use layout::{blob_path, open as open_layout_file};
pub(crate) use secrets::Secret;
pub(crate) use ssh::Agent;
pub(crate) use upload::Upload;

use crate::connection::{CONNECTION_WINDOW, FRAME, MESSAGE_BYTES, STREAM_WINDOW};

/// Bytes of one piece of the pipe: HTTP/2 writes the head of a frame by itself, and each piece is a message of the outer stream.
const PIPE_PIECE: usize = 64 << 10;
/// Pieces of the pipe in flight; when full, HTTP/2 waits.
const PIPE_PIECES: usize = 32;

/// The method that makes a call the pipe.
const SESSION: &str = "/moby.buildkit.v1.Control/Session";

/// What the daemon calls; it looks a method up here before calling it.
const METHODS: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.filesync.v1.Auth/FetchToken",
    "/moby.filesync.v1.Auth/GetTokenAuthority",
    "/moby.filesync.v1.Auth/VerifyTokenAuthority",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
    "/moby.upload.v1.Upload/Pull",
    "/containerd.services.content.v1.Content/Info",
    "/containerd.services.content.v1.Content/Read",
];

/// What a session serves.
#[derive(Debug, Default)]
pub(crate) struct SessionOptions {
    /// Folders by name: `context`, `dockerfile`.
    pub(crate) locals: BTreeMap<String, PathBuf>,
    /// OCI layouts by name.
    pub(crate) layouts: BTreeMap<String, PathBuf>,
    /// Secrets by id.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// ssh agents by id.
    pub(crate) agents: BTreeMap<String, Agent>,
    /// Where each exporter's result goes, by the exporter's index; None if it stays with the daemon.
    pub(crate) targets: Vec<Option<Target>>,
    /// A context given as a tar stream.
    pub(crate) upload: Option<Upload>,
    /// Name under which the daemon keeps what it received for the next build of the same folder.
    pub(crate) shared_key: String,
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    id: String,
    server: JoinHandle<()>,
}

impl Session {
    /// Opens the stream and starts serving on it.
    pub(crate) async fn open(channel: Channel, options: SessionOptions) -> Result<Self> {
        let id = crate::id::new_id();
        let (pipe_out, outgoing) = tokio::sync::mpsc::channel::<Bytes>(PIPE_PIECES);
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing).map(|data| SharedBytes { data });
        let mut request = Request::new(outgoing);
        let metadata = request.metadata_mut();
        metadata.insert("x-docker-expose-session-uuid", id.parse().context("session id")?);
        metadata
            .insert("x-docker-expose-session-sharedkey", options.shared_key.parse().context("shared key")?);
        for method in METHODS {
            metadata.append("x-docker-expose-session-grpc-method", MetadataValue::from_static(method));
        }
        let mut control = Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        control.ready().await.context("open the session")?;
        let incoming =
            control.streaming(request, PathAndQuery::from_static(SESSION), SharedBytesCodec::default()).await;
        let incoming = incoming.context("open the session")?.into_inner();
        let read =
            StreamReader::new(Box::pin(incoming.map_ok(|message| message.data).map_err(io::Error::other)));
        let sink = PollSender::new(pipe_out).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
        let write = BufWriter::with_capacity(PIPE_PIECE, SinkWriter::new(CopyToBytes::new(sink)));
        let pipe = Pipe { read: Box::new(read), write: Box::new(write) };
        let server = tokio::spawn(serve(pipe, options));
        Ok(Self { id, server })
    }

    /// The id that `Solve` names.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(pipe: Pipe, options: SessionOptions) {
    let filesync = FileSyncServer::new(filesync::FileSyncService::new(options.locals))
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
    let served = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .add_service(HealthServer::new(health::HealthService))
        .add_service(filesync)
        .add_service(filesend::FileSendService::new(options.targets))
        .add_service(AuthServer::new(auth::AuthService::of_this_user()))
        .add_service(SecretsServer::new(secrets::SecretsService::new(options.secrets)))
        .add_service(SshServer::new(ssh::SshService::new(options.agents)))
        .add_service(ContentServer::new(layout::LayoutService::new(options.layouts)))
        .add_service(UploadServer::new(upload::UploadService::new(options.upload)))
        .serve_with_incoming(
            futures::stream::once(async { Ok::<_, io::Error>(pipe) }).chain(futures::stream::pending()),
        )
        .await;
    if let Err(e) = served {
        tracing::debug!(error = %e, "the session's server ended");
    }
}

/// The byte pipe as tonic's server takes a connection.
struct Pipe {
    read: Box<dyn AsyncRead + Send + Unpin>,
    write: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Connected for Pipe {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
