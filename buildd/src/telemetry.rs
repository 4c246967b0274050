//! Telemetry: one line a fact on standard error.
//!
//! `RUST_LOG` decides if it is set, else `--debug`.

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Starts logging; once per process.
pub(crate) fn start(debug: bool) {
    let default = if debug { "info,buildd=debug,buildd_runtime=debug,buildd_solver=debug" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::registry()
        .with(filter)
        .with(fmt::layer().with_writer(std::io::stderr).with_ansi(false))
        .init();
}
