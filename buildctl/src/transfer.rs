//! Transfer: images in and out of the daemon over containerd's Transfer and Streaming services.
//!
//! A stream is opened first and named by an id; the transfer then refers to it. Bytes flow only as far as the receiver's window allows.
//!
//! # Sources
//!
//! containerd `core/transfer/streaming`, `core/streaming/proxy`.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result, bail};
use buildd_api::containerd::containerd::{
    services::{
        leases::v1::{CreateRequest, DeleteRequest},
        streaming::v1::StreamInit,
        transfer::v1::{TransferOptions, TransferRequest},
    },
    types::transfer::{AuthRequest, AuthResponse, AuthType, Data, Progress, WindowUpdate},
};
use buildd_oci::registry::auth::{Credential, Credentials};
use prost::Name;
use prost_types::Any;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
};
use tonic::Streaming;

use crate::{
    client::Client,
    id::new_id,
    timestamp::{now, rfc3339},
};

/// Bytes of one message, if the daemon lets us send as many.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes that a sender may be ahead of us.
const WINDOW_BYTES: i32 = 1 << 20;
/// How long after a finished transfer its last bytes may be on their way.
const SILENCE: Duration = Duration::from_millis(500);
/// Messages of ours waiting for the wire.
const QUEUE: usize = 32;

/// A message in the envelope of containerd's typeurl: the full name, without a host.
pub(crate) fn any<M: Name>(message: &M) -> Any {
    Any { type_url: M::full_name(), value: message.encode_to_vec() }
}

/// Opens an envelope, if it holds this message.
fn from_any<M: Name + Default>(any: &Any) -> Result<Option<M>> {
    if any.type_url.trim_start_matches('/').rsplit('/').next() != Some(M::full_name().as_str()) {
        return Ok(None);
    }
    M::decode(any.value.as_slice()).map(Some).with_context(|| format!("decode {}", M::full_name()))
}

/// One open stream.
pub(crate) struct Stream {
    id: String,
    outgoing: mpsc::Sender<Any>,
    incoming: Streaming<Any>,
}

impl Stream {
    /// Opens a stream and waits until the daemon knows its id.
    pub(crate) async fn open(client: &Client, purpose: &str) -> Result<Self> {
        let id = format!("{purpose}-{}", new_id());
        let (outgoing, messages) = mpsc::channel(QUEUE);
        let init = any(&StreamInit { id: id.clone() });
        outgoing.send(init).await.context("open a stream")?;
        let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
        let mut incoming = client.streaming().stream(messages).await.context("open a stream")?.into_inner();
        incoming.message().await.context("open a stream")?.context("the daemon closed a new stream")?;
        Ok(Self { id, outgoing, incoming })
    }

    /// The id that a transfer names.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Sends everything the reader has, as the daemon's window allows, then closes our half.
    ///
    /// The other half must be kept until the transfer is over: dropping it resets the stream, and what is on the way is lost.
    pub(crate) async fn send_all(mut self, mut reader: impl AsyncRead + Unpin) -> Result<Streaming<Any>> {
        let mut window: i64 = 0;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            while window <= 0 {
                // The end of the stream is the daemon's word that it wants no more.
                let Some(message) = self.incoming.message().await? else { return Ok(self.incoming) };
                if let Some(update) = from_any::<WindowUpdate>(&message)? {
                    window += i64::from(update.update);
                }
            }
            let most = usize::try_from(window).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let read = reader.read(&mut piece[..most]).await.context("read the archive")?;
            if read == 0 {
                return Ok(self.incoming);
            }
            window -= i64::try_from(read).unwrap_or(i64::MAX);
            if self.outgoing.send(any(&Data { data: piece[..read].to_vec() })).await.is_err() {
                return Ok(self.incoming);
            }
        }
    }

    /// Writes everything the daemon sends, until it ends the stream.
    ///
    /// Compat: containerd leaves the stream open after an export, so that once `transferred` fires a moment's silence is the end as well.
    pub(crate) async fn receive_all(
        mut self,
        mut writer: impl AsyncWrite + Unpin,
        mut transferred: oneshot::Receiver<()>,
    ) -> Result<()> {
        let mut granted: i32 = 0;
        let mut over = false;
        loop {
            if granted < WINDOW_BYTES / 2 {
                let update = WindowUpdate { update: WINDOW_BYTES - granted };
                // The daemon may be done already; what it sent is still to be read.
                let _ = self.outgoing.send(any(&update)).await;
                granted = WINDOW_BYTES;
            }
            let message = tokio::select! {
                biased;
                message = self.incoming.message() => message?,
                _ = &mut transferred, if !over => {
                    over = true;
                    continue;
                }
                () = tokio::time::sleep(SILENCE), if over => None,
            };
            let Some(message) = message else { break };
            let Some(data) = from_any::<Data>(&message)? else { continue };
            granted -= i32::try_from(data.data.len()).unwrap_or(granted);
            writer.write_all(&data.data).await.context("write the archive")?;
        }
        writer.flush().await.context("write the archive")
    }

    /// Answers every question for credentials until the daemon has no more.
    pub(crate) async fn answer(mut self, credentials: &dyn Credentials) -> Result<()> {
        while let Some(message) = self.incoming.message().await? {
            let Some(question) = from_any::<AuthRequest>(&message)? else { continue };
            let found = credentials.credential(&question.host).await;
            let answer = match found.with_context(|| format!("credentials for {}", question.host)) {
                Ok(found) => auth_response(found),
                Err(error) => {
                    // Without an answer the daemon would wait.
                    tracing::warn!("{error:#}");
                    AuthResponse::default()
                }
            };
            self.outgoing.send(any(&answer)).await.context("answer the daemon")?;
        }
        Ok(())
    }

    /// Gives every progress message to `show` until the stream ends.
    pub(crate) async fn progress(mut self, mut show: impl FnMut(Progress)) -> Result<()> {
        while let Some(message) = self.incoming.message().await? {
            if let Some(progress) = from_any::<Progress>(&message)? {
                show(progress);
            }
        }
        Ok(())
    }
}

fn auth_response(credential: Credential) -> AuthResponse {
    let (auth_type, username, secret) = match credential {
        Credential::Anonymous => (AuthType::None, String::new(), String::new()),
        Credential::Basic { username, password } => (AuthType::Credentials, username, password.0),
        Credential::Refresh(token) => (AuthType::Refresh, String::new(), token.0),
        Credential::Bearer(token) => (AuthType::Header, String::new(), format!("Bearer {}", token.0)),
    };
    AuthResponse { auth_type: auth_type.into(), secret, username, expire_at: None }
}

/// Starts a transfer and waits for its end.
pub(crate) async fn transfer(client: &Client, source: Any, destination: Any, progress: &str) -> Result<()> {
    let request = TransferRequest {
        source: Some(source),
        destination: Some(destination),
        options: Some(TransferOptions { progress_stream: progress.to_owned() }),
    };
    client.transfer().transfer(request).await?;
    Ok(())
}

/// A lease that keeps what a command is making, for a day at most if the command dies.
pub(crate) async fn lease(client: &Client) -> Result<String> {
    const SECONDS: i64 = 24 * 3600;
    let id = format!("buildctl-{}", new_id());
    let expire = rfc3339(now() + SECONDS);
    let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), expire)]);
    let created =
        client.leases().create(CreateRequest { id: id.clone(), labels }).await.context("create a lease")?;
    match created.into_inner().lease {
        Some(lease) => Ok(lease.id),
        None => bail!("the daemon created no lease"),
    }
}

/// Ends a lease; a failure costs nothing but a day's wait for the space.
pub(crate) async fn release(client: &Client, id: &str) {
    let request = DeleteRequest { id: id.to_owned(), sync: false };
    if let Err(e) = client.leases().delete(request).await {
        tracing::debug!(error = %e, "delete lease {id}");
    }
}

#[cfg(test)]
mod tests;
