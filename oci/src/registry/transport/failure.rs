//! Failure: what kind of trouble a request met, read from the chain of causes that the HTTP client gives.

use std::error::Error as Cause;

use crate::registry::error::Error;

/// A chain of causes is as long as somebody made it, and no longer than this.
const MAX_CAUSES: usize = 32;

/// What a failure means for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It may pass: a broken connection, a time-out.
    Passing,
    /// No connection came about: name, address or port may be wrong.
    Unreachable,
    /// It stays as it is: a certificate, an address that may not be reached, an answer against the rules.
    Lasting,
    /// The other side does not speak TLS.
    NoTls,
}

/// The class of a failed request.
pub(crate) fn class(error: &Error) -> Class {
    let Error::Request { source, .. } = error else { return Class::Lasting };
    let mut class = Class::Passing;
    let mut cause: Option<&(dyn Cause + 'static)> = Some(source.as_ref());
    for _ in 0..MAX_CAUSES {
        let Some(error) = cause else { break };
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        if error.is::<super::address::Refused>() {
            return Class::Lasting;
        }
        if let Some(error) = error.downcast_ref::<reqwest::Error>() {
            if error.is_builder() {
                return Class::Lasting;
            }
            if error.is_connect() {
                class = Class::Unreachable;
            }
        }
        cause = inner(error);
    }
    class
}

/// What a user can do about a failed handshake.
pub(crate) fn hint(error: &Error) -> Option<String> {
    let Error::Request { source, .. } = error else { return None };
    let mut cause: Option<&(dyn Cause + 'static)> = Some(source.as_ref());
    for _ in 0..MAX_CAUSES {
        let error = cause?;
        let text = match error.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(_)) => {
                "if it is the right host, trust its authority: ca = \"<file>\" under it in hosts.toml"
            }
            Some(tls) if of_tls(tls) == Class::NoTls => {
                "it speaks plain HTTP: write http:// before it in hosts.toml, or use --plain-http"
            }
            _ => {
                cause = inner(error);
                continue;
            }
        };
        return Some(text.to_owned());
    }
    None
}

/// The next cause; an `io::Error` says that its cause is the cause of what it holds, and so hides that.
fn inner<'a>(error: &'a (dyn Cause + 'static)) -> Option<&'a (dyn Cause + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}

fn of_tls(error: &rustls::Error) -> Class {
    use rustls::{AlertDescription::InternalError, Error as Tls, InvalidMessage};
    match error {
        // What a server answers that reads our greeting as a request: "HTTP/1.1 400 Bad Request".
        Tls::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => Class::NoTls,
        Tls::AlertReceived(InternalError) => Class::Passing,
        _ => Class::Lasting,
    }
}
