//! Ssh: the agents of `--ssh`: sockets of agents that run, or keys that an agent of our own holds as long as the build runs.
//!
//! The daemon opens one stream for each connection that a step or git makes.

use std::{
    collections::BTreeMap,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use buildd_api::buildkit::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse, ssh_server::Ssh,
};
use futures::{Stream, StreamExt as _};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    net::UnixStream,
    process::{Child, Command},
    time::{Instant, sleep},
};
use tokio_util::io::ReaderStream;
use tonic::{Request, Response, Status, Streaming};

/// The id of an agent that has no other.
const DEFAULT: &str = "default";
/// How long our own agent may take to start.
const START: Duration = Duration::from_secs(10);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(10);

/// An agent that the daemon may use.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: PathBuf,
    /// Our own, which ends with this value.
    _own: Option<(Child, TempDir)>,
}

impl Agent {
    /// Opens what `--ssh ID[=SOCKET|KEY[,KEY...]]` names; without a path the agent of this terminal.
    pub(crate) async fn open(text: &str) -> Result<(String, Self)> {
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        let id = if id.is_empty() { DEFAULT } else { id }.to_owned();
        let paths: Vec<PathBuf> = paths.split(',').filter(|path| !path.is_empty()).map(Into::into).collect();
        if paths.is_empty() {
            let Some(socket) = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()) else {
                bail!(
                    "--ssh {text:?}: no agent runs here (SSH_AUTH_SOCK is not set): name a socket or a key, --ssh {id}=FILE"
                );
            };
            return Ok((id, Self { socket: socket.into(), _own: None }));
        }
        let mut keys = Vec::new();
        for path in paths {
            let metadata =
                std::fs::metadata(&path).with_context(|| format!("--ssh {text:?}: {}", path.display()))?;
            if metadata.file_type().is_socket() {
                return Ok((id, Self { socket: path, _own: None }));
            }
            keys.push(path);
        }
        let agent = own(&keys).await.with_context(|| format!("--ssh {text:?}"))?;
        Ok((id, agent))
    }
}

/// An agent with these keys.
async fn own(keys: &[PathBuf]) -> Result<Agent> {
    let dir = tempfile::Builder::new().prefix("buildctl-").tempdir().context("make a temporary folder")?;
    let socket = dir.path().join("agent.sock");
    let child = Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start ssh-agent, which holds keys that are given as files")?;
    let began = Instant::now();
    while UnixStream::connect(&socket).await.is_err() {
        if began.elapsed() > START {
            bail!("ssh-agent does not open its socket");
        }
        sleep(POLL).await;
    }
    for key in keys {
        add(&socket, key).await?;
    }
    Ok(Agent { socket, _own: Some((child, dir)) })
}

async fn add(socket: &Path, key: &Path) -> Result<()> {
    let added = Command::new("ssh-add")
        .arg("-q")
        .arg(key)
        .env("SSH_AUTH_SOCK", socket)
        .env("SSH_ASKPASS_REQUIRE", "never")
        .stdin(Stdio::null())
        .output()
        .await
        .context("start ssh-add")?;
    if !added.status.success() {
        let said = String::from_utf8_lossy(&added.stderr);
        bail!("{}: {} (a key with a passphrase goes to your agent: ssh-add)", key.display(), said.trim());
    }
    Ok(())
}

/// Answers the daemon.
#[derive(Debug)]
pub(super) struct SshService {
    agents: BTreeMap<String, Agent>,
}

impl SshService {
    pub(super) fn new(agents: BTreeMap<String, Agent>) -> Self {
        Self { agents }
    }

    fn find(&self, id: &str) -> Result<&Agent, Status> {
        let id = if id.is_empty() { DEFAULT } else { id };
        let missing = || Status::not_found(format!("ssh agent {id} was not given: add --ssh {id}"));
        self.agents.get(id).ok_or_else(missing)
    }
}

#[tonic::async_trait]
impl Ssh for SshService {
    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.find(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id =
            request.metadata().get("buildkit.ssh.id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let socket = &self.find(id)?.socket;
        let failed = |e| Status::unavailable(format!("connect to the ssh agent {}: {e}", socket.display()));
        let (read, mut write) = UnixStream::connect(socket).await.map_err(failed)?.into_split();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                if write.write_all(&message.data).await.is_err() {
                    return;
                }
            }
            let _ = write.shutdown().await;
        });
        let answers = ReaderStream::new(read).map(|piece| match piece {
            Ok(bytes) => Ok(BytesMessage { data: bytes.into() }),
            Err(e) => Err(Status::unavailable(format!("read from the ssh agent: {e}"))),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
