//! buildd: the daemon. Flags, configuration, and the hidden subcommands that it runs itself by.
//!
//! `step-helper` and `shim` change namespaces and credentials: they are handed to the runtime before any thread is started.

mod activity;
mod app;
mod buildkit;
mod cli;
mod collect;
mod config;
mod containerd;
mod filter;
mod fsck;
mod listen;
mod session;
mod shutdown;
mod solve;
mod status;
mod telemetry;
mod worker;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use cli::{Cli, Command, ConfigCommand};
use config::Config;

/// Threads for sockets and scheduling; files and hashing have their own.
const ASYNC_THREADS: usize = 2;
/// Threads for short blocking work, which everybody shares; what waits for somebody outside has its own (`buildd_fs::pipeline`).
const BLOCKING_THREADS: usize = 64;
/// How long a thread stays that has nothing to do.
const IDLE_THREAD: Duration = Duration::from_secs(3);
/// How long work that blocks, and then steps that were cancelled, may take to end once the daemon leaves.
const LEAVE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    if let Some(code) = worker::helper() {
        return code;
    }
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "buildd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        None => {
            let config = cli.serve.config()?;
            telemetry::start(config.debug);
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(ASYNC_THREADS)
                .max_blocking_threads(BLOCKING_THREADS)
                .thread_keep_alive(IDLE_THREAD)
                .enable_all()
                .build()
                .context("start the async threads")?;
            let served = runtime.block_on(app::serve(&cli.serve, config));
            runtime.shutdown_timeout(LEAVE);
            if !served?.wait_for_steps(LEAVE) {
                tracing::warn!(
                    "steps that were cancelled have not ended: the next start removes what they leave"
                );
            }
        }
        Some(Command::Config { which }) => {
            let config = match which {
                ConfigCommand::Default => Config::default(),
                ConfigCommand::Dump(flags) => flags.config()?,
            };
            let config = Config { state: Some(config.state()), ..config };
            let text = config.to_toml().context("write the configuration")?;
            io::stdout().write_all(text.as_bytes()).context("print the configuration")?;
        }
        Some(Command::Doctor) => worker::doctor()?,
        Some(Command::Fsck(flags)) => return Ok(fsck::run(flags)),
    }
    Ok(ExitCode::SUCCESS)
}
