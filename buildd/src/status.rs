//! Status: an error of ours as a gRPC status, and only here.
//!
//! Every service ends in [`Answer::or_status`]. Clients branch on the code and never on the text; the text is the whole chain of causes,
//! and the remedy where one is known. BuildKit's clients also read typed details (`api::error_detail`).

use std::error::Error;

use buildd_api::error_detail::{self, Detail};
use buildd_oci::ErrorKind;
use tonic::{Code, Status};

/// An error that knows its class and perhaps its remedy.
pub(crate) trait Classified: Error {
    /// Its class.
    fn class(&self) -> ErrorKind;
    /// What the user can do.
    fn remedy(&self) -> Option<String>;
}

macro_rules! classified {
    ($($error:ty),* $(,)?) => {$(
        impl Classified for $error {
            fn class(&self) -> ErrorKind {
                self.kind()
            }
            fn remedy(&self) -> Option<String> {
                self.hint()
            }
        }
    )*};
}

classified!(buildd_oci::Error, buildd_store::Error, buildd_runtime::Error, buildd_worker::Error);

/// The last step of a service: the result as its client gets it.
pub(crate) trait Answer<T> {
    /// The value, or the error as a status.
    fn or_status(self) -> Result<T, Status>;
}

impl<T, E: Classified> Answer<T> for Result<T, E> {
    fn or_status(self) -> Result<T, Status> {
        self.map_err(|error| of(&error))
    }
}

/// The status of an error.
pub(crate) fn of<E: Classified>(error: &E) -> Status {
    Status::new(code(error.class()), text(error, error.remedy()))
}

/// A status with typed details.
pub(crate) fn detailed(kind: ErrorKind, message: &str, details: &[Detail]) -> Status {
    let code = code(kind);
    let encoded = error_detail::encode(i32::from(code), message, details);
    Status::with_details(code, message, encoded.into())
}

/// The chain of causes on one line, and the remedy on the next.
pub(crate) fn text(error: &dyn Error, remedy: Option<String>) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    if let Some(remedy) = remedy {
        text.push_str("\nhint: ");
        text.push_str(&remedy);
    }
    text
}

/// The gRPC code of a class.
pub(crate) fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Unknown => Code::Unknown,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Aborted => Code::Aborted,
        ErrorKind::OutOfRange => Code::OutOfRange,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Canceled => Code::Cancelled,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
    }
}

/// The class of a status that a client's half of a session answered.
pub(crate) fn kind(code: Code) -> ErrorKind {
    match code {
        Code::Ok | Code::Unknown => ErrorKind::Unknown,
        Code::Cancelled => ErrorKind::Canceled,
        Code::InvalidArgument => ErrorKind::InvalidArgument,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        Code::Aborted => ErrorKind::Aborted,
        Code::OutOfRange => ErrorKind::OutOfRange,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::Internal => ErrorKind::Internal,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DataLoss => ErrorKind::DataLoss,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
    }
}
