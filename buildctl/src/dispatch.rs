//! Dispatch: from the parsed command line to the file of its command.

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory as _;

use crate::{
    cli::{Cli, Command},
    commands::{
        build, completion, content, debug, dial_stdio, dockerfile, du, image, lease, login, namespace, prune,
        registry, run, snapshot, version,
    },
};

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
        Command::Completion { shell } => completion::run(shell, Cli::command()),
        Command::DialStdio => dial_stdio::run(&global).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}
