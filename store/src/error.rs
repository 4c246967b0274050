//! Error: what the store could not do, to what, and why.

use std::path::PathBuf;

use buildd_fs::{overlay::OverlayError, space};
use buildd_oci::{ErrorKind, compress::Outgrown, digest::Digest};

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon owns the root.
    #[error("another buildd{} uses the root {}", holder.map(|id| format!(" (process {id})")).unwrap_or_default(), root.display())]
    RootInUse {
        /// The root.
        root: PathBuf,
        /// The process that has it, if the kernel tells.
        holder: Option<u32>,
    },
    /// A file or folder could not be handled.
    #[error("{operation} {}", path.display())]
    File {
        /// "create", "sync", …
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database failed.
    #[error("{operation} in the database")]
    Database {
        /// What was asked of it.
        operation: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The named thing does not exist.
    #[error("{what} {name:?} not found")]
    NotFound {
        /// "image", "snapshot", …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The named thing exists already.
    #[error("{what} {name:?} already exists")]
    AlreadyExists {
        /// "image", "snapshot", …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The request contradicts a rule.
    #[error("{what} {name:?}: {reason}")]
    Invalid {
        /// "snapshot", "label", …
        what: &'static str,
        /// Its name.
        name: String,
        /// The rule.
        reason: String,
    },
    /// The state does not allow it now.
    #[error("{what} {name:?} {reason}")]
    Precondition {
        /// "snapshot", "task", …
        what: &'static str,
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Somebody else writes to the same ingest.
    #[error("ingest {name:?} is being written")]
    IngestBusy {
        /// Its ref.
        name: String,
    },
    /// A write does not begin where the ingest ends.
    #[error("write to ingest {name:?} at {offset}, it has {size} bytes")]
    IngestOffset {
        /// Its ref.
        name: String,
        /// Where the write would begin.
        offset: u64,
        /// Where the ingest ends.
        size: u64,
    },
    /// The bytes are not those that were promised.
    #[error("commit blob {expected}: content hashes to {actual} after {size} bytes")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
        /// How many bytes.
        size: u64,
    },
    /// There are more or fewer bytes than promised.
    #[error("commit ingest {name:?}: {actual} bytes, {expected} were announced")]
    SizeMismatch {
        /// Its ref.
        name: String,
        /// What was announced.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// A mount, or the end of one, failed.
    #[error(transparent)]
    Mount(#[from] OverlayError),
    /// A layer's tar is broken or hostile.
    #[error("apply layer entry {entry:?}: {reason}")]
    LayerEntry {
        /// The entry.
        entry: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer's entry could not be made.
    #[error("apply layer entry {entry:?}")]
    Apply {
        /// The entry.
        entry: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A layer's stream cannot be read.
    #[error("read layer")]
    ReadLayer {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A layer's stream cannot be written.
    #[error("write layer entry {entry:?}")]
    WriteLayer {
        /// The entry.
        entry: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A platform of an image is not here, or not whole.
    #[error("platform {platform}: blob {digest} is not here")]
    Incomplete {
        /// The platform.
        platform: String,
        /// What it lacks.
        digest: buildd_oci::digest::Digest,
    },
    /// A document or name of an image is wrong.
    #[error(transparent)]
    Image(#[from] buildd_oci::Error),
    /// A registry could not serve, or its settings cannot be used.
    #[error(transparent)]
    Registry(#[from] buildd_oci::registry::Error),
}

/// The result of an operation of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadLayer { source } if Outgrown::is(source) => ErrorKind::ResourceExhausted,
            Self::RootInUse { .. } | Self::Precondition { .. } => ErrorKind::FailedPrecondition,
            Self::NotFound { .. } | Self::Incomplete { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Invalid { .. } | Self::LayerEntry { .. } | Self::ReadLayer { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::IngestBusy { .. } => ErrorKind::Unavailable,
            Self::IngestOffset { .. } => ErrorKind::OutOfRange,
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => ErrorKind::FailedPrecondition,
            Self::Mount(error) => ErrorKind::of_mount(error),
            Self::Image(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::File { source, .. } | Self::Apply { source, .. } | Self::WriteLayer { source, .. } => {
                ErrorKind::of_io(source)
            }
            Self::Database { source, .. } => database_kind(source),
        }
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::RootInUse { .. } => {
                Some("use the running daemon, or start this one with another --root".to_owned())
            }
            Self::Image(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Incomplete { platform, .. } => Some(format!(
                "pull the image again with --platform {platform}, or name a platform that is here with --platform"
            )),
            Self::Mount(_) if self.kind() == ErrorKind::PermissionDenied => {
                Some("buildd needs root (CAP_SYS_ADMIN) to mount".to_owned())
            }
            Self::Database { .. } if self.kind() == ErrorKind::DataLoss => Some(
                "stop the daemon and look at the whole store: `buildd fsck`, then with --repair".to_owned(),
            ),
            Self::ReadLayer { source } | Self::Apply { source, .. } | Self::WriteLayer { source, .. }
                if Outgrown::is(source) =>
            {
                Some(
                    "if you trust it, let layers unpack to more: `[worker] layer-growth` in buildd.toml"
                        .to_owned(),
                )
            }
            _ if self.kind() == ErrorKind::ResourceExhausted => {
                let path = match self {
                    Self::File { path, .. } => Some(path.as_path()),
                    _ => None,
                };
                Some(space::remedy(path))
            }
            _ => None,
        }
    }

    /// A file operation that failed.
    pub fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// A database operation that failed.
    pub fn database(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { operation, source }
    }
}

fn database_kind(error: &rusqlite::Error) -> ErrorKind {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => ErrorKind::ResourceExhausted,
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => ErrorKind::DataLoss,
        _ => ErrorKind::Internal,
    }
}
