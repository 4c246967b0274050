//! Error: what can go wrong with images, and the classes that callers branch on.
//!
//! `ErrorKind` is shared by every crate of the workspace: one file of the daemon maps it to gRPC codes, one file of the
//! client maps it back.
//!
//! # Sources
//! containerd `errdefs`; gRPC status codes.

use std::fmt;

use crate::{compress::Outgrown, digest::Digest};

/// The class of an error: what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Nobody classified it.
    Unknown,
    /// The request itself is wrong.
    InvalidArgument,
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists already.
    AlreadyExists,
    /// The caller may not do this.
    PermissionDenied,
    /// A limit, a quota or a disk is used up.
    ResourceExhausted,
    /// The state of the system does not allow it now.
    FailedPrecondition,
    /// A concurrent change got in the way.
    Aborted,
    /// An offset or index lies outside of the thing.
    OutOfRange,
    /// Not offered by this daemon.
    Unimplemented,
    /// A promise of ours was broken.
    Internal,
    /// Not reachable now; trying again may help.
    Unavailable,
    /// Stored or received data is damaged.
    DataLoss,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// The caller went away.
    Canceled,
    /// It took longer than allowed.
    DeadlineExceeded,
}

impl ErrorKind {
    /// The class of a failed file operation.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => Self::ResourceExhausted,
            Io::PermissionDenied => Self::PermissionDenied,
            Io::NotFound => Self::NotFound,
            _ => Self::Internal,
        }
    }

    /// The class of a mount that failed.
    pub fn of_mount(error: &buildd_fs::overlay::OverlayError) -> Self {
        error.cause().map_or(Self::InvalidArgument, Self::of_io)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// An image, a name or an archive that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A digest is not `algorithm:hex`.
    #[error("parse digest {text:?}: {reason}")]
    ParseDigest {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A platform is not `os/architecture[/variant]`.
    #[error("parse platform {text:?}: {reason}")]
    ParsePlatform {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An image name does not follow the reference grammar.
    #[error("parse image name {text:?}: {reason}")]
    ParseReference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
        /// How it should be written.
        remedy: Option<String>,
    },
    /// A manifest, index or config is not the JSON it should be.
    #[error("parse {what} {digest}")]
    ParseDocument {
        /// "manifest", "index" or "image config".
        what: &'static str,
        /// The document.
        digest: Digest,
        /// Where it broke.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest, index or config contradicts itself or a limit.
    #[error("invalid {what} {digest}: {reason}")]
    InvalidDocument {
        /// "manifest", "index" or "image config".
        what: &'static str,
        /// The document.
        digest: Digest,
        /// The rule it breaks.
        reason: String,
    },
    /// An index has no manifest for what was asked.
    #[error("index {digest}: no manifest found for platform {wanted}")]
    NoPlatform {
        /// The index.
        digest: Digest,
        /// What was asked for.
        wanted: String,
    },
    /// A platform that was asked for is not wholly here.
    #[error("index {index}: blob {blob} of {platform} not found")]
    PlatformAbsent {
        /// The index.
        index: Digest,
        /// The platform.
        platform: String,
        /// The first of its blobs that is missing.
        blob: Digest,
    },
    /// Documents point at documents more deeply, or at more of them, than any image does.
    #[error("walk image {digest}: more than {limit}")]
    WalkLimit {
        /// Where the walk stopped.
        digest: Digest,
        /// The limit it met.
        limit: String,
    },
    /// The bytes are not those the digest names.
    #[error("read blob {expected}: content hashes to {actual} after {size} bytes")]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest found; boxed to keep the error small.
        actual: Box<Digest>,
        /// How many bytes were hashed.
        size: u64,
    },
    /// The blob is longer or shorter than its descriptor says.
    #[error("read blob {digest}: {actual} bytes, its descriptor says {expected}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The size in the descriptor.
        expected: u64,
        /// The size found.
        actual: u64,
    },
    /// The blob is not there.
    #[error("blob {digest} not found")]
    BlobNotFound {
        /// The blob.
        digest: Digest,
    },
    /// Reading or writing a blob failed.
    #[error("{operation} blob {digest}")]
    Blob {
        /// "read", "write", …
        operation: &'static str,
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A store that the caller gave failed.
    #[error("{operation} {digest}")]
    Store {
        /// What was asked of it.
        operation: &'static str,
        /// The blob.
        digest: Digest,
        /// The class of the failure.
        kind: ErrorKind,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The archive cannot be read to its end.
    #[error("read archive: {operation}")]
    ReadArchive {
        /// Which part of it.
        operation: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The archive is not an image archive, or a broken one.
    #[error("invalid image archive: {reason}")]
    InvalidArchive {
        /// The rule it breaks.
        reason: String,
    },
    /// The archive cannot be written.
    #[error("write archive entry {entry}")]
    WriteArchive {
        /// The entry.
        entry: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadArchive { source, .. } if Outgrown::is(source) => ErrorKind::ResourceExhausted,
            Self::ParseDigest { .. }
            | Self::ParsePlatform { .. }
            | Self::ParseReference { .. }
            | Self::ParseDocument { .. }
            | Self::InvalidDocument { .. }
            | Self::WalkLimit { .. }
            | Self::ReadArchive { .. }
            | Self::InvalidArchive { .. } => ErrorKind::InvalidArgument,
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => ErrorKind::DataLoss,
            Self::BlobNotFound { .. } | Self::NoPlatform { .. } | Self::PlatformAbsent { .. } => {
                ErrorKind::NotFound
            }
            Self::Blob { .. } | Self::WriteArchive { .. } => ErrorKind::Unavailable,
            Self::Store { kind, .. } => *kind,
        }
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::ParseReference { remedy, .. } => remedy.clone(),
            Self::ParsePlatform { .. } => {
                Some("write it as os/architecture, for example linux/amd64".to_owned())
            }
            Self::InvalidArchive { .. } => {
                Some("an archive of `docker save` or an OCI image layout is expected".to_owned())
            }
            Self::NoPlatform { .. } => Some("ask for one of its platforms, or for all".to_owned()),
            Self::PlatformAbsent { platform, .. } => Some(format!(
                "pull the image with --platform {platform}, or ask for the platforms that are here"
            )),
            Self::BlobNotFound { .. } => Some("import or build the image again".to_owned()),
            _ => None,
        }
    }
}
