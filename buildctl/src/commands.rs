//! Commands: one file each; this one dispatches and holds what several share.

pub(crate) mod build;
pub(crate) mod completion;
pub(crate) mod content;
pub(crate) mod debug;
pub(crate) mod dial_stdio;
pub(crate) mod dockerfile;
pub(crate) mod du;
pub(crate) mod image;
pub(crate) mod lease;
pub(crate) mod login;
pub(crate) mod namespace;
pub(crate) mod prune;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod snapshot;
pub(crate) mod version;

use std::{
    collections::{BTreeMap, HashMap},
    process::ExitCode,
};

use anyhow::Result;
use rand::Rng as _;

use crate::cli::{Cli, Command};

/// Runs the command; the exit code of a success is the child's for `run`.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode> {
    let global = cli.global;
    let done = match cli.command {
        Command::Build(args) => return build::run(&global, *args).await,
        Command::Dockerfile(command) => return dockerfile::run(command).await,
        Command::Run(args) => return run::run(&global, *args).await,
        Command::Image(command) => image::run(&global, command).await,
        Command::Content(command) => content::run(&global, command).await,
        Command::Snapshot(command) => snapshot::run(&global, command).await,
        Command::Lease(command) => lease::run(&global, command).await,
        Command::Namespace(command) => namespace::run(&global, command).await,
        Command::Registry(command) => registry::run(&global, command).await,
        Command::Login(args) => login::login(args).await,
        Command::Logout(args) => login::logout(args).await,
        Command::Du(args) => du::run(&global, args).await,
        Command::Prune(args) => prune::run(&global, args).await,
        Command::Debug(command) => debug::run(&global, command).await,
        Command::Version(args) => version::run(&global, args).await,
        Command::Completion { shell } => completion::run(shell),
        Command::DialStdio => dial_stdio::run(&global).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// A new id in the form of BuildKit's: 25 characters of base 36, some 128 random bits.
pub(crate) fn new_id() -> String {
    const LENGTH: usize = 25;
    let mut rng = rand::rng();
    let digit = |n: u32| char::from_digit(n, 36).expect("below 36");
    (0..LENGTH).map(|_| digit(rng.random_range(0..36))).collect()
}

/// A timestamp in whole seconds.
pub(crate) fn seconds(timestamp: Option<prost_types::Timestamp>) -> i64 {
    timestamp.map_or(0, |timestamp| timestamp.seconds)
}

/// Labels in one cell, in order.
fn labels(labels: &HashMap<String, String>) -> String {
    let sorted: BTreeMap<_, _> = labels.iter().collect();
    let pairs: Vec<String> = sorted.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}
