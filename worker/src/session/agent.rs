//! Agent: the client's ssh agent as a socket on this machine, for a step or for git.
//!
//! Each connection is one to the client's agent. Only listing keys, signing and what they need (the extensions) pass; adding, removing and
//! locking keys are answered with a refusal here, so that a step can use the agent but not change it.
//!
//! # Wire
//! draft-miller-ssh-agent: a length of four bytes, a type, the rest. A request has one answer, in order.

use std::{
    io,
    os::unix::net::UnixListener as StdListener,
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_fs::path::through;
use rustix::fs::{Mode, OFlags};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixListener,
    sync::Semaphore,
    task::JoinHandle,
};

use super::Session;

/// Longest message, as in OpenSSH: a length of 4 GiB fills no memory (MNT-09).
const MAX_MESSAGE: usize = 256 << 10;
/// Connections at once on one socket.
const MAX_CONNECTIONS: usize = 32;
/// The answer to what is refused.
const FAILURE: u8 = 5;
/// What passes: listing keys, signing, extensions.
const ALLOWED: [u8; 3] = [11, 13, 27];

/// A connection to a client's agent.
pub trait AgentStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AgentStream for T {}

/// A socket that leads to a client's agent, as long as this lives.
#[derive(Debug)]
pub struct AgentSocket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

impl AgentSocket {
    /// Opens the socket `path` for the agent `id` of a client.
    pub fn open(session: Arc<dyn Session>, id: &str, path: &Path) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let (folder, name) = path.parent().zip(path.file_name()).ok_or_else(invalid)?;
        let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        // The kernel takes short names of sockets only, and our folders may lie deep.
        let short = through(&folder).join(name);
        let listener = StdListener::bind(short)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let task = tokio::spawn(accept(listener, session, id.to_owned()));
        Ok(Self { path: path.to_owned(), task })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

async fn accept(listener: UnixListener, session: Arc<dyn Session>, id: String) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (session, id) = (session.clone(), id.clone());
        connections.spawn(async move {
            let _place = place;
            match session.agent(&id).await {
                Ok(agent) => {
                    if let Err(error) = relay(stream, agent).await {
                        tracing::debug!(%error, "a connection to the client's ssh agent ended");
                    }
                }
                Err(error) => tracing::debug!(%error, "no connection to the client's ssh agent"),
            }
        });
    }
}

/// Passes requests on and answers back until either side ends.
async fn relay(mut step: impl AgentStream, mut agent: impl AgentStream) -> io::Result<()> {
    while let Some(request) = message(&mut step).await? {
        let answer = match request.first() {
            Some(kind) if ALLOWED.contains(kind) => {
                send(&mut agent, &request).await?;
                message(&mut agent).await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?
            }
            _ => vec![FAILURE],
        };
        send(&mut step, &answer).await?;
    }
    Ok(())
}

/// One message without its length; None at the end.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read.map(drop)?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > MAX_MESSAGE {
        let text = format!("a message of {length} bytes to an ssh agent");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(body))
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> io::Result<()> {
    let mut whole = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    whole.extend_from_slice(body);
    stream.write_all(&whole).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes(), body].concat()
    }

    /// What a step hears that says `said` to an agent which answers everything with a 12.
    fn heard(said: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (mut step, ours) = tokio::io::duplex(1 << 20);
            let (agent, mut theirs) = tokio::io::duplex(1 << 20);
            let agent_side = tokio::spawn(async move {
                let mut requests = Vec::new();
                while let Ok(Some(request)) = message(&mut theirs).await {
                    requests.push(request[0]);
                    send(&mut theirs, &[12]).await.expect("an answer");
                }
                requests
            });
            let relayed = tokio::spawn(async move { relay(ours, agent).await });
            step.write_all(&said).await.expect("a request");
            step.shutdown().await.expect("the end");
            let mut answers = Vec::new();
            step.read_to_end(&mut answers).await.expect("answers");
            let _ = relayed.await;
            (answers, agent_side.await.expect("the agent"))
        })
    }

    #[test]
    fn a_step_lists_and_signs_and_changes_nothing() {
        let said =
            [framed(&[11]), framed(&[17, 1, 2]), framed(&[19]), framed(&[13, 9]), framed(&[22])].concat();
        let (answers, requests) = heard(said);
        let expected = [framed(&[12]), framed(&[5]), framed(&[5]), framed(&[12]), framed(&[5])].concat();
        assert_eq!(answers, expected);
        assert_eq!(requests, [11, 13]);
    }

    #[test]
    fn lengths_that_lie_end_the_connection() {
        for said in [vec![0xff, 0xff, 0xff, 0xff, 11], vec![0, 0, 0, 0], vec![0, 0, 0, 9, 11], vec![0, 0]] {
            assert_eq!(heard(said.clone()), (Vec::new(), Vec::new()), "{said:?}");
        }
    }
}
