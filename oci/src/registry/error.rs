//! Error: what can go wrong between us and a registry; no message holds a secret.
//!
//! # Errors
//! `NotFound` lets the next host be asked; `Unauthenticated` and `PermissionDenied` too, but are what is told in the end.

use std::{path::PathBuf, sync::Arc};

use super::host::Capability;
use crate::ErrorKind;

/// One entry of a registry's error document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// `MANIFEST_UNKNOWN` and its like.
    pub code: String,
    /// In the server's words, cut to a sane length.
    pub message: String,
}

/// A registry's settings that cannot be used, or a request that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A file of settings is wrong.
    #[error("{}{}: {reason}", path.display(), place(*line, *column))]
    Settings {
        /// The file.
        path: PathBuf,
        /// Line, from 1, where known.
        line: Option<usize>,
        /// Column, from 1, where known.
        column: Option<usize>,
        /// The rule it breaks.
        reason: String,
        /// How to write it.
        remedy: Option<String>,
    },
    /// A file of settings cannot be read.
    #[error("read {}", path.display())]
    ReadSettings {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A file of settings cannot be written.
    #[error("write {}", path.display())]
    WriteSettings {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// What should be a host's name and port is not.
    #[error("host {text:?}: {reason}")]
    Address {
        /// What was given.
        text: String,
        /// The rule it breaks.
        reason: String,
    },
    /// No host of the list may be asked for this.
    #[error("{reference}: no {capability} hosts")]
    NoHosts {
        /// The image.
        reference: String,
        /// What was wanted.
        capability: Capability,
    },
    /// Connecting, sending or receiving failed.
    #[error("{method} {url}")]
    Request {
        /// GET, HEAD, ...
        method: String,
        /// Without secrets.
        url: String,
        /// Why.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The host answered with a failure.
    #[error("{method} {url}: {status}{}", told(errors))]
    Status {
        /// GET, HEAD, ...
        method: String,
        /// Without secrets.
        url: String,
        /// 404 and its like.
        status: u16,
        /// What its body says.
        errors: Vec<ServerError>,
    },
    /// The host's answer breaks the protocol.
    #[error("{method} {url}: {reason}")]
    Protocol {
        /// GET, HEAD, ...
        method: String,
        /// Without secrets.
        url: String,
        /// The rule it breaks.
        reason: String,
    },
    /// Credentials cannot be had, or are refused.
    #[error("credentials for {host}: {reason}")]
    Credentials {
        /// The host they are for.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// Every host failed; the error of the one that came furthest is the source.
    #[error("{reference}: none of {} hosts served it: {}", tried.len(), tried.join("; "))]
    Exhausted {
        /// The image.
        reference: String,
        /// Each host and what it answered, in order.
        tried: Vec<String>,
        /// The error of the host that came furthest.
        #[source]
        source: Arc<Error>,
    },
    /// What was to be pushed cannot be read.
    #[error("read what is to be pushed")]
    Source {
        /// The class of the failure.
        kind: ErrorKind,
        /// Why.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// What came is not what was asked for.
    #[error("{url}")]
    Content {
        /// Without secrets.
        url: String,
        /// What is wrong with it.
        #[source]
        source: Arc<crate::Error>,
    },
}

fn place(line: Option<usize>, column: Option<usize>) -> String {
    [line, column].into_iter().flatten().map(|number| format!(":{number}")).collect()
}

/// What a server said, behind what it said it of.
pub(super) fn told(errors: &[ServerError]) -> String {
    errors.iter().map(|error| format!(": {} {}", error.code, error.message)).collect()
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Settings { .. } | Self::ReadSettings { .. } | Self::Address { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::WriteSettings { .. } => ErrorKind::FailedPrecondition,
            Self::NoHosts { .. } => ErrorKind::NotFound,
            Self::Request { .. } => ErrorKind::Unavailable,
            Self::Status { status, .. } => match status {
                401 => ErrorKind::Unauthenticated,
                403 => ErrorKind::PermissionDenied,
                404 => ErrorKind::NotFound,
                429 => ErrorKind::ResourceExhausted,
                500.. => ErrorKind::Unavailable,
                _ => ErrorKind::Unknown,
            },
            Self::Protocol { .. } => ErrorKind::DataLoss,
            Self::Credentials { .. } => ErrorKind::Unauthenticated,
            Self::Exhausted { source, .. } => source.kind(),
            Self::Source { kind, .. } => *kind,
            Self::Content { source, .. } => source.kind(),
        }
    }

    /// Whether the host said `code` (`BLOB_UNKNOWN` and its like).
    pub fn says(&self, code: &str) -> bool {
        matches!(self, Self::Status { errors, .. } if errors.iter().any(|error| error.code == code))
    }

    /// How far a host came with a request (rule 55): of several failures the furthest one is told.
    pub(crate) fn progress(&self) -> u8 {
        match self {
            Self::Request { .. } => 1,
            Self::Status { status: 404, .. } => 2,
            Self::Protocol { .. } | Self::Content { .. } => 4,
            _ => 3,
        }
    }

    /// This error and its causes in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Settings { remedy, .. } => remedy.clone(),
            Self::Credentials { host, .. } => Some(format!("log in: buildctl login {host}")),
            Self::NoHosts { reference, .. } => {
                Some(format!("see the chain: buildctl registry explain {reference}"))
            }
            Self::Exhausted { reference, source, .. } => source
                .hint()
                .or_else(|| Some(format!("see the chain: buildctl registry explain {reference}"))),
            Self::Content { source, .. } => source.hint(),
            Self::Request { .. } => super::transport::hint(self),
            _ => None,
        }
    }
}
