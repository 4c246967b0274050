//! Command line: the list of commands. The flags of all are in `global`, each command's own in its file.

use clap::{Parser, Subcommand};

use crate::{commands, global::Global};

/// Build images from Dockerfiles, move them, and run containers from them.
#[derive(Debug, Parser)]
#[command(name = "buildctl", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile, or whatever an LLB definition on standard input says.
    #[command(visible_alias = "b")]
    Build(Box<commands::build::BuildArgs>),
    /// Look at a Dockerfile without a daemon: fmt, lint, ast, llb, graph.
    #[command(subcommand)]
    Dockerfile(commands::dockerfile::DockerfileCommand),
    /// Run a container from an image.
    Run(Box<commands::run::RunArgs>),
    /// List, remove, tag, look into, import, export and mount images.
    #[command(subcommand)]
    Image(commands::image::ImageCommand),
    /// Look into the store's blobs.
    #[command(subcommand)]
    Content(commands::content::ContentCommand),
    /// Look into the unpacked layers.
    #[command(subcommand)]
    Snapshot(commands::snapshot::SnapshotCommand),
    /// Look into leases.
    #[command(subcommand)]
    Lease(commands::lease::LeaseCommand),
    /// List, make and remove namespaces.
    #[command(subcommand)]
    Namespace(commands::namespace::NamespaceCommand),
    /// Look into the settings of registries.
    #[command(subcommand)]
    Registry(commands::registry::RegistryCommand),
    /// Log in to a registry.
    Login(commands::login::LoginArgs),
    /// Forget a login.
    Logout(commands::login::LogoutArgs),
    /// Show what the build cache holds.
    Du(commands::du::DuArgs),
    /// Remove what the build cache does not need.
    Prune(commands::prune::PruneArgs),
    /// Look into the daemon.
    #[command(subcommand)]
    Debug(commands::debug::DebugCommand),
    /// Show the versions of client and daemon.
    Version(commands::version::VersionArgs),
    /// Print a completion script.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Connect standard input and output to the daemon's socket.
    DialStdio,
}
