//! Ssh: connections to the client's agent, one stream for each.

use buildd_api::buildkit::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, ssh_client::SshClient};
use buildd_worker::session::SessionError;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, transport::Channel};

use super::calls::refused;

/// Bytes of a connection on their way.
const BUFFER: usize = 64 << 10;
/// Bytes of one message.
const PIECE: usize = 32 << 10;
/// Messages that wait for the client.
const QUEUE: usize = 16;

/// Whether the client has an agent of this id.
pub(super) async fn check(channel: Channel, id: &str) -> Result<bool, SessionError> {
    let request = CheckAgentRequest { id: id.to_owned() };
    match SshClient::new(channel).check_agent(request).await {
        Ok(_) => Ok(true),
        // Compat: BuildKit's client answers an unknown id with a plain error.
        Err(status) if matches!(status.code(), Code::NotFound | Code::Unknown | Code::Unimplemented) => {
            Ok(false)
        }
        Err(status) => Err(refused(&format!("ssh agent {id:?}"), &status)),
    }
}

/// A connection to it.
pub(super) fn connect(channel: Channel, id: &str) -> Result<DuplexStream, SessionError> {
    let what = format!("ssh agent {id:?}");
    let (requests, outgoing) = mpsc::channel(QUEUE);
    let mut request = Request::new(ReceiverStream::new(outgoing));
    let value = id.parse().map_err(|_| SessionError {
        kind: buildd_oci::ErrorKind::InvalidArgument,
        message: format!("{what}: its id is not plain text"),
    })?;
    request.metadata_mut().insert("buildkit.ssh.id", value);
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (mut read, mut write) = tokio::io::split(ours);
    tokio::spawn(async move {
        let mut buffer = vec![0; PIECE];
        while let Ok(count) = read.read(&mut buffer).await {
            if count == 0 || requests.send(BytesMessage { data: buffer[..count].to_vec() }).await.is_err() {
                return;
            }
        }
    });
    // Compat: BuildKit's client answers, even with headers, only after it was sent something: nobody may wait for it first.
    tokio::spawn(async move {
        let mut answers = match SshClient::new(channel).forward_agent(request).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return tracing::debug!(%status, "{what} does not answer"),
        };
        while let Ok(Some(answer)) = answers.message().await {
            if write.write_all(&answer.data).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    });
    Ok(theirs)
}
