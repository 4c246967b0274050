//! Error: what could not be run, what of it, and why.

use std::path::PathBuf;

use buildd_fs::{overlay::OverlayError, space};
use buildd_oci::ErrorKind;

/// A failed operation on processes and what they need.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be handled.
    #[error("{operation} {}", path.display())]
    File {
        /// "create", "start", …
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The named thing does not exist.
    #[error("{what} {name:?} not found")]
    NotFound {
        /// "task", "user", …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A device that a step asks for is not there.
    #[error("device {name:?}: {reason}")]
    NoDevice {
        /// As it was asked for.
        name: String,
        /// What is known of it.
        reason: String,
    },
    /// The named thing exists already.
    #[error("{what} {name:?} already exists")]
    AlreadyExists {
        /// "task", …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The request contradicts a rule.
    #[error("{what} {name:?}: {reason}")]
    Invalid {
        /// "device", "user", …
        what: &'static str,
        /// Its name.
        name: String,
        /// The rule.
        reason: String,
    },
    /// A mount, or the end of one, failed.
    #[error(transparent)]
    Mount(#[from] OverlayError),
    /// A task could not be handled; its shim says why.
    #[error("{operation} task {name:?}: {reason}")]
    Task {
        /// "create", "kill", …
        operation: &'static str,
        /// Its container.
        name: String,
        /// The class of the failure.
        kind: ErrorKind,
        /// What the shim said.
        reason: String,
    },
}

/// The result of an operation on processes.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoDevice { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Mount(error) => ErrorKind::of_mount(error),
            Self::Task { kind, .. } => *kind,
            Self::File { source, .. } => ErrorKind::of_io(source),
        }
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoDevice { .. } => Some(
                "CDI specs lie in /etc/cdi and /var/run/cdi where buildd runs, or where [cdi] specDirs says; \
                 without `required` a step runs without the device"
                    .to_owned(),
            ),
            Self::Mount(_) if self.kind() == ErrorKind::PermissionDenied => {
                Some("buildd needs root (CAP_SYS_ADMIN) to mount".to_owned())
            }
            Self::File { path, .. } if self.kind() == ErrorKind::ResourceExhausted => {
                Some(space::remedy(Some(path)))
            }
            _ if self.kind() == ErrorKind::ResourceExhausted => Some(space::remedy(None)),
            _ => None,
        }
    }

    /// A file operation that failed.
    pub fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}
