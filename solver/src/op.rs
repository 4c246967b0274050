//! Op: what a vertex does, as the solver sees it.
//!
//! The runtime implements it; tests implement fakes. The solver asks for keys, compares, and runs what nothing answers.
//!
//! # Errors
//! An `OpError` is shared by all who wait for the vertex, so it is cheap to clone.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use buildd_oci::{ErrorKind, digest::Digest};

use crate::{graph::Vertex, progress::VertexProgress, result::OpResult};

/// What a vertex is and reads, for its key.
#[derive(Clone, Debug)]
pub struct CacheMap {
    /// `op(v)`, the normalised digest; of a source, its pin.
    pub digest: Digest,
    /// Other keys of a source that mean the same result.
    pub aliases: Vec<Digest>,
    /// One for each input of the vertex.
    pub inputs: Vec<InputKey>,
}

/// What a key is made of, by the words that people have for it (`variable PATH`, `file src/main.c`), each with a fingerprint of what it is.
pub type Parts = BTreeMap<String, u64>;

/// The fingerprint of a part: enough to tell that it changed, and not what it is.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let digest = Digest::of(bytes);
    digest.as_bytes().iter().take(8).fold(0, |print, byte| print << 8 | u64::from(*byte))
}

/// How an input enters the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKey {
    /// By its own key.
    Definition,
    /// By the content of the selected paths; the text names them canonically.
    Content {
        /// The paths.
        selector: String,
    },
}

/// Work on a vertex.
#[async_trait]
pub trait Op: Send + Sync + fmt::Debug {
    /// Key material; a source pins itself here (tag to digest, context to synced tree).
    async fn cache_map(&self, cx: &OpContext) -> Result<CacheMap, OpError>;
    /// Digest of what input number `input` selects of `result`. By itself the vertex stands for it: an op that has no content input, whose
    /// `CacheMap` names none, is never asked.
    async fn content_digest(
        &self,
        cx: &OpContext,
        _input: usize,
        _result: &OpResult,
    ) -> Result<Digest, OpError> {
        Ok(cx.vertex)
    }
    /// What its key is made of, for the explanation of a miss; nothing hangs on it.
    async fn parts(&self, _inputs: &[OpResult]) -> Parts {
        Parts::new()
    }
    /// Does the work; one result for each output. Dropping the future cancels it.
    async fn exec(&self, cx: &OpContext, inputs: &[OpResult]) -> Result<Vec<OpResult>, OpError>;
    /// Whether it needs a place among the steps that run at once.
    fn is_heavy(&self) -> bool {
        true
    }
}

/// Finds the work behind a vertex.
pub trait OpResolver: Send + Sync + fmt::Debug {
    /// The op; an unknown one is refused by name.
    fn resolve(&self, vertex: &Vertex) -> Result<Arc<dyn Op>, OpError>;
}

/// The clients that wait for a vertex; it grows when another build joins.
#[derive(Debug, Default)]
pub struct SessionGroup {
    ids: Mutex<Vec<String>>,
}

impl SessionGroup {
    /// A group of one.
    pub fn new(id: &str) -> Arc<Self> {
        let group = Self::default();
        group.join(id);
        Arc::new(group)
    }

    /// The session ids, in the order of joining.
    pub fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a client.
    pub fn join(&self, id: &str) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if !id.is_empty() && !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
}

/// What an op may use of its surroundings.
#[derive(Clone, Debug)]
pub struct OpContext {
    /// The clients it works for.
    pub sessions: Arc<SessionGroup>,
    /// Where its output and progress go.
    pub progress: VertexProgress,
    /// The vertex.
    pub vertex: Digest,
    /// Whether this build forbids cached results for it: cache mounts begin empty.
    pub freshness: Freshness,
    /// Whether the client may want to look into what a failed op leaves.
    pub keeps_failed: bool,
}

/// Whether results of before may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Freshness {
    /// They may.
    Any,
    /// They may not (`--no-cache`).
    Forced,
}

/// A failed op.
#[derive(Clone, Debug)]
pub struct OpError {
    /// Its class.
    pub kind: ErrorKind,
    /// What went wrong.
    pub source: Arc<dyn Error + Send + Sync>,
    /// The exit code, if a process failed.
    pub exit_code: Option<u32>,
    /// What a user can do.
    pub hint: Option<String>,
    /// What it had mounted, if its job keeps that.
    pub remains: Option<Arc<Remains>>,
}

/// The trees of a step that failed, as it left them.
#[derive(Debug)]
pub struct Remains {
    /// Its inputs, untouched.
    pub inputs: Vec<OpResult>,
    /// What each of its mounts showed; None is the empty tree.
    pub mounts: Vec<Option<OpResult>>,
}

impl OpError {
    /// An error of a class.
    pub fn new(kind: ErrorKind, source: impl Error + Send + Sync + 'static) -> Self {
        Self { kind, source: Arc::new(source), exit_code: None, hint: None, remains: None }
    }

    /// The same, with a remedy.
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for OpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}
