//! buildctl: the command line of buildd. Parses flags, connects, shows; it holds no state.
//!
//! The road of a command: [`cli`] parses, [`dispatch`] picks a file of [`commands`], which calls the two public APIs over a [`client`]
//! (a daemon is started if none answers), [`output`] and [`progress`] show, [`error`] turns a failure into words and an exit code.

mod cli;
mod client;
mod commands;
mod connection;
mod credentials;
mod dispatch;
mod error;
mod global;
mod id;
mod mounts;
mod output;
mod private_daemon;
mod progress;
mod session;
mod terminal;
mod timestamp;
mod transfer;

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;

/// How long what was interrupted may take to clear up.
const LINGER: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return error::report(&anyhow::Error::new(e).context("start the runtime")),
    };
    let (code, linger) = match runtime.block_on(dispatch::run(cli)) {
        Ok(code) => (code, Duration::ZERO),
        Err(e) => (error::report(&e), LINGER),
    };
    // A thread may still be reading standard input: nobody waits for it. What a failure interrupts takes its temporary files away.
    runtime.shutdown_timeout(linger);
    code
}
