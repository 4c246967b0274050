//! Errors: what a user reads and which exit code a script sees.
//!
//! Commands return anyhow errors; a gRPC status inside the chain speaks with the daemon's words only, without tonic's.

use std::{fmt, io::Write as _, process::ExitCode};

use buildd_api::error_detail::{self, Detail};

use buildd_frontend::excerpt;

/// An error with an exit code of its own; without one it is 1.
#[derive(Debug)]
pub(crate) struct Coded {
    /// The exit code.
    pub(crate) code: u8,
    /// What went wrong.
    pub(crate) error: anyhow::Error,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&self.error))
    }
}

impl std::error::Error for Coded {}

/// Writes the error to standard error; the exit code to end with.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let code = error.downcast_ref::<Coded>().map_or(1, |coded| coded.code);
    let broken_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe);
    // A connection can break in the same way, and what was asked for has not been done then.
    let remote =
        error.chain().any(|cause| cause.is::<tonic::Status>() || cause.is::<tonic::transport::Error>());
    if broken_pipe && !remote {
        // Whoever read our output had enough of it.
        return ExitCode::SUCCESS;
    }
    let mut out = std::io::stderr().lock();
    for detail in details(error) {
        if let Detail::Source(source) = detail {
            let _ = out.write_all(excerpt::render(&source).as_bytes());
        }
    }
    let local = error.chain().find_map(|cause| cause.downcast_ref::<buildd_frontend::Error>());
    if let Some(source) = local.and_then(buildd_frontend::Error::location) {
        let _ = out.write_all(excerpt::render(source).as_bytes());
    }
    let _ = writeln!(out, "error: {}", chain(error));
    if let Some(hint) = local.and_then(buildd_frontend::Error::hint) {
        let _ = writeln!(out, "hint: {hint}");
    }
    ExitCode::from(code)
}

/// The daemon's typed details of an error.
pub(crate) fn details(error: &anyhow::Error) -> Vec<Detail> {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<tonic::Status>())
        .flat_map(|status| error_detail::decode(status.details()))
        .collect()
}

/// The causes joined with colons, each said once.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let status = cause.downcast_ref::<tonic::Status>();
        let text = status.map_or_else(|| cause.to_string(), status_text);
        if !parts.last().is_some_and(|last| last.contains(&text)) {
            parts.push(text);
        }
        if status.is_some() {
            break;
        }
    }
    parts.join(": ")
}

fn status_text(status: &tonic::Status) -> String {
    match status.message() {
        "" => format!("the daemon answered {:?}", status.code()),
        message => message.to_owned(),
    }
}
