//! Access: who we are to a repository's host: a token or header of the client, or its ssh agent.
//!
//! It holds the empty folder that is git's home, with the known hosts and the agent's socket, and goes with the source's work.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use buildd_oci::digest::Digest;
use buildd_solver::op::{OpContext, OpError};

use super::wanted::GitRequest;
use crate::{
    error::{Error, op_error},
    session::AgentSocket,
    worker::Worker,
};

/// Hosts that this machine knows.
const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";

/// The means of one source.
pub(super) struct Access {
    home: PathBuf,
    /// The value of `Authorization`.
    header: Option<String>,
    agent: Option<AgentSocket>,
}

impl Drop for Access {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.home) {
            tracing::warn!(path = %self.home.display(), %error, "remove git's home");
        }
    }
}

impl Access {
    /// Asks the client for what the source may use.
    pub(super) async fn open(
        worker: &Arc<Worker>,
        cx: &OpContext,
        wanted: &GitRequest,
    ) -> Result<Self, OpError> {
        let home = worker.store.root().join("tmp").join(format!("git-{:032x}", rand::random::<u128>()));
        std::fs::create_dir(&home).map_err(|error| op_error(Error::file("create folder", &home)(error)))?;
        let mut access = Self { home, header: None, agent: None };
        if wanted.is_http() {
            access.header = match &wanted.user {
                Some(user) => Some(user.0.clone()),
                None => header(worker, cx, wanted).await?,
            };
        }
        if wanted.is_ssh() {
            let path = access.home.join("known_hosts");
            std::fs::write(&path, &wanted.known_hosts)
                .map_err(|error| op_error(Error::file("write", &path)(error)))?;
            access.agent = agent(worker, cx, wanted, &access.home).await?;
        }
        Ok(access)
    }

    /// An empty folder, but for what is needed here.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Names those who may read what was fetched with these means; empty for everybody.
    pub(super) fn identity(&self) -> String {
        match (&self.header, &self.agent) {
            (None, None) => String::new(),
            (Some(header), _) => Digest::of(header.as_bytes()).to_string(),
            (None, Some(_)) => format!("{:032x}", rand::random::<u128>()),
        }
    }

    /// Whether what was fetched is of use to nobody later: which key an agent offers is not known.
    pub(super) fn is_once(&self) -> bool {
        self.agent.is_some()
    }

    /// Variables for git.
    pub(super) fn env(&self) -> Vec<(OsString, OsString)> {
        let known = self.home.join("known_hosts");
        // No settings, no keys and no questions of the user that the daemon runs as.
        let ssh = format!(
            "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile='{}' \
             -o GlobalKnownHostsFile={KNOWN_HOSTS} -o IdentityFile=/dev/null -o ForwardAgent=no \
             -o PermitLocalCommand=no -o ConnectTimeout=30",
            known.display()
        );
        let mut env = vec![("GIT_SSH_COMMAND".into(), ssh.into()), ("GIT_SSH_VARIANT".into(), "ssh".into())];
        env.extend(self.agent.iter().map(|agent| ("SSH_AUTH_SOCK".into(), agent.path().into())));
        env
    }

    /// Settings for git: the header for its host alone, which then may not send us elsewhere (GIT-05).
    pub(super) fn config(&self, wanted: &GitRequest) -> Vec<(String, String)> {
        let redirects = if self.header.is_some() { "false" } else { "initial" };
        let mut config = vec![("http.followRedirects".to_owned(), redirects.to_owned())];
        if let Some(header) = &self.header {
            config
                .push((format!("http.{}/.extraHeader", wanted.origin()), format!("Authorization: {header}")));
        }
        config
    }
}

/// A header or a token among the client's secrets; one for this host comes first.
async fn header(worker: &Worker, cx: &OpContext, wanted: &GitRequest) -> Result<Option<String>, OpError> {
    if cx.sessions.ids().is_empty() {
        return Ok(None);
    }
    let host = wanted.host();
    let (header, token) = (wanted.header_secret.as_str(), wanted.token_secret.as_str());
    let candidates = [
        (header, format!("{header}.{host}"), false),
        (token, format!("{token}.{host}"), true),
        (header, header.to_owned(), false),
        (token, token.to_owned(), true),
    ];
    for (name, id, is_token) in candidates {
        if name.is_empty() {
            continue;
        }
        if let Some(text) = super::super::secret_text(worker, cx, &id).await? {
            let basic = || format!("basic {}", STANDARD.encode(format!("x-access-token:{text}")));
            return Ok(Some(if is_token { basic() } else { text }));
        }
    }
    Ok(None)
}

/// The client's agent, if it offers one.
async fn agent(
    worker: &Worker,
    cx: &OpContext,
    wanted: &GitRequest,
    home: &Path,
) -> Result<Option<AgentSocket>, OpError> {
    let fail = |error: crate::session::SessionError| OpError::new(error.kind, error);
    if wanted.agent.is_empty() || cx.sessions.ids().is_empty() {
        return Ok(None);
    }
    let session = worker.sessions.any(&cx.sessions.ids()).await.map_err(fail)?;
    if !session.has_agent(&wanted.agent).await.map_err(fail)? {
        return Ok(None);
    }
    let socket = AgentSocket::open(session, &wanted.agent, &home.join("agent.sock"));
    socket.map(Some).map_err(|error| op_error(Error::file("open", home.join("agent.sock"))(error)))
}
