//! Bridge: all that a frontend may ask of the daemon.
//!
//! buildd implements it over the solver and the worker; tests implement it over maps.
//!
//! # Errors
//! A frontend branches on [`BridgeError::kind`] only: `NotFound` of [`Bridge::read_file`] means that the file is not there.

use std::{any::Any, error::Error, sync::Arc};

use async_trait::async_trait;
use buildd_api::buildkit::pb;
use buildd_oci::{ErrorKind, platform::Platform};

use crate::request::{FrontendRequest, FrontendResult};

/// What the daemon does for a frontend.
#[async_trait]
pub trait Bridge: Send + Sync {
    /// Finds the image behind a name and reads its config; shown as a vertex named `request.log_name`.
    async fn resolve_image_config(&self, request: ImageRequest) -> Result<ResolvedImage, BridgeError>;

    /// Builds a definition, now.
    async fn solve(&self, definition: pb::Definition) -> Result<BridgeRef, BridgeError>;

    /// Reads a file of a built definition, `path` relative to its root; a file larger than `limit` bytes is `ResourceExhausted`.
    async fn read_file(&self, built: &BridgeRef, path: &str, limit: usize) -> Result<Vec<u8>, BridgeError>;

    /// The time of the newest file or link of a built definition, in seconds since 1970; none if there is none.
    async fn newest(&self, built: &BridgeRef) -> Result<Option<i64>, BridgeError>;

    /// Runs an image as a frontend; the option `source` names it.
    async fn frontend_image(&self, request: FrontendRequest) -> Result<FrontendResult, BridgeError>;

    /// Shows a warning to the user. `vertex` is the digest it belongs to.
    async fn warn(&self, vertex: &str, warning: Warning);

    /// The platform that this daemon runs steps on.
    fn build_platform(&self) -> Platform;
}

/// An image whose config is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    /// Its canonical name with tag or digest.
    pub reference: String,
    /// For this platform.
    pub platform: Platform,
    /// `default`, `pull` or `local`.
    pub resolve_mode: String,
    /// `[internal] load metadata for …`.
    pub log_name: String,
    /// The client's name for the OCI layout that has it; none for one of a registry or of the daemon.
    pub layout: Option<String>,
}

/// An image that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// Its name, as it is to stand in the LLB (a source policy may have changed it).
    pub reference: String,
    /// The digest of the index or manifest that the name points to; none for an image that has none.
    pub digest: Option<String>,
    /// The bytes of its config.
    pub config: Vec<u8>,
}

/// A built definition; what is inside is the daemon's business.
#[derive(Clone)]
pub struct BridgeRef(pub Arc<dyn Any + Send + Sync>);

impl std::fmt::Debug for BridgeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BridgeRef")
    }
}

/// A warning about the text being built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warning {
    /// One line.
    pub short: String,
    /// More lines.
    pub detail: Vec<String>,
    /// Where it is explained.
    pub url: String,
    /// The text and the place in it.
    pub source: Option<buildd_api::error_detail::Source>,
}

/// The daemon could not do what was asked.
#[derive(Clone, Debug)]
pub struct BridgeError {
    /// What the frontend branches on.
    pub kind: ErrorKind,
    /// The failure; this error shows as it.
    pub cause: Arc<dyn Error + Send + Sync>,
}

impl std::fmt::Display for BridgeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.cause.fmt(f)
    }
}

impl Error for BridgeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}
