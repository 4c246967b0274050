//! Session: what the worker needs of the client whose build it works for.
//!
//! The daemon implements it over the client's connection; tests over folders.

use std::{collections::BTreeMap, fs::File, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use buildd_oci::{ErrorKind, blob::Provider, registry::auth::Authorizer};
use bytes::Bytes;
use tokio::sync::mpsc;

mod agent;
mod tree;

pub use agent::{AgentSocket, AgentStream};
pub(crate) use tree::Known;
pub use tree::{Beside, SyncedTree, TreeSink};

/// Paths that are listed for a message: a nearest name among more is not worth the time.
pub const MAX_LISTED: usize = 10_000;

/// An archive as it is made; one that breaks off ends with why.
pub type ArchivePieces = mpsc::Receiver<io::Result<Bytes>>;

/// Something the client could not or would not do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SessionError {
    /// The class.
    pub kind: ErrorKind,
    /// What happened, with the client's own words.
    pub message: String,
}

/// Finds clients.
#[async_trait]
pub trait Sessions: Send + Sync + std::fmt::Debug {
    /// The first of these clients that is there, waiting a little for one to come.
    async fn any(&self, ids: &[String]) -> Result<Arc<dyn Session>, SessionError>;
}

/// Files that are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SyncRequest {
    /// Name of the client's folder: `context`, `dockerfile`, …
    pub name: String,
    /// Only what matches.
    pub include: Vec<String>,
    /// Not what matches.
    pub exclude: Vec<String>,
    /// Only these paths, and what their links point at.
    pub follow: Vec<String>,
}

/// One client.
#[async_trait]
pub trait Session: Send + Sync + std::fmt::Debug {
    /// Under which name the client's files may be kept for its next build; empty if it named none.
    fn shared_key(&self) -> &str;
    /// Proves to registries who the client is; one as long as the session, so that its builds share their tokens.
    fn authorizer(&self) -> Authorizer;
    /// Sends files into the sink and gives it back.
    async fn sync_files(&self, request: SyncRequest, sink: TreeSink) -> Result<TreeSink, SessionError>;
    /// The paths that a sync would bring, for messages: at most `MAX_LISTED` of them, and no bytes.
    async fn list_files(&self, request: SyncRequest) -> Result<Vec<String>, SessionError>;
    /// Streams what the client offers once under `path` into a file.
    async fn pull(&self, path: &str, into: File) -> Result<(), SessionError>;
    /// The blobs of an OCI layout that the client has under this name; reading them blocks, and verifies nothing.
    fn layout(&self, name: &str) -> Result<Box<dyn Provider>, SessionError>;
    /// A secret; None if the client has none of that id.
    async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, SessionError>;
    /// Whether the client offers its ssh agent under this id.
    async fn has_agent(&self, id: &str) -> Result<bool, SessionError>;
    /// A connection to it.
    async fn agent(&self, id: &str) -> Result<Box<dyn AgentStream>, SessionError>;
    /// Streams an archive to exporter number `exporter` of the request.
    async fn send_tar(
        &self,
        exporter: usize,
        metadata: BTreeMap<String, String>,
        pieces: ArchivePieces,
    ) -> Result<(), SessionError>;
    /// Sends a tree to exporter number `exporter` of the request; no time in it is later than `epoch`, in seconds since 1970.
    async fn send_tree(&self, exporter: usize, root: PathBuf, epoch: Option<i64>)
    -> Result<(), SessionError>;
}
