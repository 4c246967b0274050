//! Error: what building could not do, to what, and why.

use std::path::PathBuf;

use buildd_fs::{overlay::OverlayError, space};
use buildd_oci::{ErrorKind, reference::Reference};
use buildd_solver::op::OpError;

/// A failed operation of the worker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is kept could not be read or written.
    #[error(transparent)]
    Store(#[from] buildd_store::Error),
    /// What is run could not be.
    #[error(transparent)]
    Runtime(#[from] buildd_runtime::Error),
    /// A file or folder could not be handled.
    #[error("{operation} {}", path.display())]
    File {
        /// "create", "read", …
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
        /// "path", "mount source", …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The named thing exists already.
    #[error("{what} {name:?} already exists")]
    AlreadyExists {
        /// "path", …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The request contradicts a rule.
    #[error("{what} {name:?}: {reason}")]
    Invalid {
        /// "file op", "secret", …
        what: &'static str,
        /// Its name.
        name: String,
        /// The rule.
        reason: String,
    },
    /// The state does not allow it now.
    #[error("{what} {name:?} {reason}")]
    Precondition {
        /// "export", …
        what: &'static str,
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A mount, or the end of one, failed.
    #[error(transparent)]
    Mount(#[from] OverlayError),
    /// A file is larger than the reader allows.
    #[error("{path:?} is larger than {limit} bytes")]
    TooLarge {
        /// Which.
        path: String,
        /// How large it may be.
        limit: usize,
    },
    /// A COPY names something that is not there.
    #[error("{path:?}: not found")]
    MissingSource {
        /// What it names.
        path: String,
        /// What it may have meant.
        nearest: Option<String>,
    },
    /// A remote source is not the one that was named by its digest or commit.
    #[error("{what}: it is {actual}, not {expected}")]
    WrongContent {
        /// Its URL.
        what: String,
        /// What was promised.
        expected: String,
        /// What came.
        actual: String,
    },
    /// A base is not in our store, and its registry did not help.
    #[error("image {name}: not found here, and its registry does not serve it")]
    NoBase {
        /// The base.
        name: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A document or name of an image is wrong.
    #[error(transparent)]
    Image(#[from] buildd_oci::Error),
    /// A registry could not serve, or its settings cannot be used.
    #[error(transparent)]
    Registry(#[from] buildd_oci::registry::Error),
}

/// The result of an operation of the worker.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
            Self::Precondition { .. } => ErrorKind::FailedPrecondition,
            Self::NotFound { .. } | Self::MissingSource { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::TooLarge { .. } => ErrorKind::ResourceExhausted,
            Self::WrongContent { .. } => ErrorKind::DataLoss,
            Self::NoBase { source, .. } => source.kind(),
            Self::Mount(error) => ErrorKind::of_mount(error),
            Self::Image(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::File { source, .. } => ErrorKind::of_io(source),
        }
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Runtime(error) => error.hint(),
            Self::NoBase { name, source } => source.hint().or_else(|| {
                let short = Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
                Some(format!("import it with `buildctl image import`, or build it with `-t {short}`"))
            }),
            Self::Image(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::WrongContent { actual, .. } => {
                Some(format!("if it was meant to change, name what it is now: --checksum={actual}"))
            }
            Self::MissingSource { nearest: Some(nearest), .. } => Some(format!("did you mean {nearest:?}?")),
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

/// Something that this worker does not offer.
#[derive(Debug, thiserror::Error)]
#[error("{what} is not supported yet")]
pub(crate) struct Unsupported {
    /// What.
    pub(crate) what: String,
}

/// A failure of the worker as the solver knows it.
pub(crate) fn op_error(error: impl Into<Error>) -> OpError {
    let error = error.into();
    let (kind, hint) = (error.kind(), error.hint());
    OpError::new(kind, error).with_hint(hint)
}
