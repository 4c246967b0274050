//! The client as the worker calls it: `runtime::session` over the client's gRPC services.

use std::{collections::BTreeMap, fs::File, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use buildd_api::buildkit::moby::buildkit::secrets::v1::{GetSecretRequest, secrets_client::SecretsClient};
use buildd_oci::{ErrorKind, blob::Provider, registry::auth::Authorizer};
use buildd_worker::session::{
    AgentStream, ArchivePieces, Session, SessionError, Sessions as Clients, SyncRequest, TreeSink,
};
use tonic::{Code, Status};

use super::{ClientSession, Sessions, filesend, filesync, layout::Layout, ssh, upload};
use crate::status;

/// A client's refusal, with its words.
pub(super) fn refused(what: &str, status: &Status) -> SessionError {
    SessionError { kind: status::kind(status.code()), message: format!("{what}: {}", status.message()) }
}

/// A failure on our side of a call.
pub(super) fn failed(kind: ErrorKind, what: &str, error: &dyn std::error::Error) -> SessionError {
    SessionError { kind, message: format!("{what}: {}", status::text(error, None)) }
}

#[async_trait]
impl Clients for Sessions {
    async fn any(&self, ids: &[String]) -> Result<Arc<dyn Session>, SessionError> {
        for id in ids {
            if let Some(session) = self.live(id) {
                return Ok(session);
            }
        }
        if let Some(first) = ids.first()
            && let Some(session) = self.find(first).await
        {
            return Ok(session);
        }
        Err(SessionError {
            kind: ErrorKind::Unavailable,
            message: format!("no active session for {}", ids.join(", ")),
        })
    }
}

impl ClientSession {
    /// Ends a call when the session does.
    async fn while_there<T>(
        &self,
        call: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        tokio::select! {
            done = call => done,
            () = self.gone.cancelled() => Err(SessionError {
                kind: ErrorKind::Canceled,
                message: "the client's session has ended".to_owned(),
            }),
        }
    }

    fn needs(&self, method: &str, what: &str) -> Result<(), SessionError> {
        if self.supports(method) {
            return Ok(());
        }
        Err(SessionError {
            kind: ErrorKind::Unimplemented,
            message: format!("the client does not offer {what}"),
        })
    }
}

#[async_trait]
impl Session for ClientSession {
    fn shared_key(&self) -> &str {
        &self.shared_key
    }

    fn authorizer(&self) -> Authorizer {
        self.authorizer.clone()
    }

    async fn sync_files(&self, request: SyncRequest, sink: TreeSink) -> Result<TreeSink, SessionError> {
        self.needs("/moby.filesync.v1.FileSync/DiffCopy", "files")?;
        self.while_there(filesync::receive(self.channel.clone(), request, sink)).await
    }

    async fn list_files(&self, request: SyncRequest) -> Result<Vec<String>, SessionError> {
        self.needs("/moby.filesync.v1.FileSync/DiffCopy", "files")?;
        self.while_there(filesync::list(self.channel.clone(), &request)).await
    }

    async fn pull(&self, path: &str, into: File) -> Result<(), SessionError> {
        self.needs("/moby.upload.v1.Upload/Pull", "an upload")?;
        self.while_there(upload::pull(self.channel.clone(), path, into)).await
    }

    fn layout(&self, name: &str) -> Result<Box<dyn Provider>, SessionError> {
        self.needs("/containerd.services.content.v1.Content/Read", "OCI layouts")?;
        Ok(Box::new(Layout::new(self.channel.clone(), name, self.gone.clone())?))
    }

    async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, SessionError> {
        if !self.supports("/moby.buildkit.secrets.v1.Secrets/GetSecret") {
            return Ok(None);
        }
        let mut client = SecretsClient::new(self.channel.clone());
        let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
        self.while_there(async {
            match client.get_secret(request).await {
                Ok(answer) => Ok(Some(answer.into_inner().data)),
                Err(status) if status.code() == Code::NotFound => Ok(None),
                Err(status) => Err(refused(&format!("secret {id}"), &status)),
            }
        })
        .await
    }

    async fn has_agent(&self, id: &str) -> Result<bool, SessionError> {
        if !self.supports("/moby.sshforward.v1.SSH/CheckAgent") {
            return Ok(false);
        }
        self.while_there(ssh::check(self.channel.clone(), id)).await
    }

    async fn agent(&self, id: &str) -> Result<Box<dyn AgentStream>, SessionError> {
        self.needs("/moby.sshforward.v1.SSH/ForwardAgent", "an ssh agent")?;
        Ok(Box::new(ssh::connect(self.channel.clone(), id)?))
    }

    async fn send_tar(
        &self,
        exporter: usize,
        metadata: BTreeMap<String, String>,
        pieces: ArchivePieces,
    ) -> Result<(), SessionError> {
        self.needs(filesend::DIFF_COPY, "a place for results")?;
        self.while_there(filesend::archive(self.channel.clone(), exporter, &metadata, pieces)).await
    }

    async fn send_tree(
        &self,
        exporter: usize,
        root: PathBuf,
        epoch: Option<i64>,
    ) -> Result<(), SessionError> {
        self.needs(filesend::DIFF_COPY, "a place for results")?;
        self.while_there(filesend::tree(self.channel.clone(), exporter, root, epoch)).await
    }
}
