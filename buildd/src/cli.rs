//! Flags: what the command line says, laid over the configuration.
//!
//! Flags of buildkitd that scripts pass are accepted. Those that mean nothing here are named once each in the log ([`Serve::ignored`]).

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::{Amount, Config, ConfigError};

/// The file that is read without `--config`, if it is there.
const DEFAULT_FILE: &str = "/etc/buildd/buildd.toml";

/// The BuildKit and containerd compatible build daemon.
#[derive(Debug, Parser)]
#[command(name = "buildd", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// Everything but serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print a configuration file
    Config {
        /// Which.
        #[command(subcommand)]
        which: ConfigCommand,
    },
    /// Say what this machine offers and lacks
    Doctor,
    /// Verify everything below a root that no daemon uses
    Fsck(Check),
}

/// What to verify, and what to do about it.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The root
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Configuration file, for its root
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Drop what is damaged and what stands on it
    #[arg(long)]
    pub(crate) repair: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines for people
    Table,
    /// One JSON document
    Json,
}

impl Check {
    /// The root that the flags or the configuration name.
    pub(crate) fn root(&self) -> Result<PathBuf, ConfigError> {
        match &self.root {
            Some(root) => Ok(root.clone()),
            None => Ok(load(self.config.as_deref())?.root),
        }
    }
}

/// The configuration of a file: the one that is named, else the default one if it is there.
fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
    match path {
        Some(path) => Config::load(path),
        None if Path::new(DEFAULT_FILE).exists() => Config::load(DEFAULT_FILE.as_ref()),
        None => Ok(Config::default()),
    }
}

/// Which configuration to print.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// The defaults
    Default,
    /// What the file and the flags make of them
    Dump(Box<Serve>),
}

/// The flags of the daemon.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to listen on, unix:///path (repeatable)
    #[arg(long = "addr", value_name = "ADDRESS")]
    addr: Vec<String>,
    /// Folder of what must survive a reboot
    #[arg(long, value_name = "DIR", overrides_with = "root")]
    root: Option<PathBuf>,
    /// Folder of sockets and tasks
    #[arg(long, value_name = "DIR", overrides_with = "state")]
    state: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder with a folder of hosts.toml for each registry (repeatable)
    #[arg(long = "hosts-dir", value_name = "DIR")]
    hosts_dirs: Vec<PathBuf>,
    /// Log more
    #[arg(long)]
    debug: bool,
    /// Leave after this many seconds without a request or a task
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_timeout: Option<u64>,
    /// Grant builds this entitlement when they ask: network.host, security.insecure (repeatable)
    #[arg(long = "allow-insecure-entitlement", value_name = "NAME", value_delimiter = ',')]
    entitlements: Vec<String>,
    /// Steps that may run at once
    #[arg(long = "oci-max-parallelism", value_name = "N")]
    max_parallelism: Option<usize>,
    /// Label of the worker, key=value (repeatable)
    #[arg(long = "oci-worker-labels", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// overlayfs, native or auto
    #[arg(long = "oci-worker-snapshotter", value_name = "NAME")]
    snapshotter: Option<String>,
    /// Cut the build cache back now and then: true or false
    #[arg(long = "oci-worker-gc", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    gc: Option<bool>,
    /// How much of it stays: bytes, 5GB, or 10%
    #[arg(long = "oci-worker-gc-keepstorage", value_name = "SIZE")]
    keep_storage: Option<String>,
    #[command(flatten)]
    buildkitd: Buildkitd,
}

/// Flags of buildkitd without a meaning here.
#[derive(Debug, Args)]
#[command(next_help_heading = "Accepted for buildkitd's sake, without effect")]
struct Buildkitd {
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    oci_worker: Option<Option<String>>,
    #[arg(long, hide = true)]
    oci_worker_platform: Vec<String>,
    #[arg(long, hide = true)]
    oci_worker_net: Option<String>,
    #[arg(long, hide = true)]
    oci_worker_binary: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    oci_worker_no_process_sandbox: Option<Option<String>>,
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    oci_worker_rootless: Option<Option<String>>,
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    containerd_worker: Option<Option<String>>,
    #[arg(long, hide = true)]
    containerd_worker_addr: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_labels: Vec<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    containerd_worker_gc: Option<Option<String>>,
    #[arg(long, hide = true)]
    containerd_worker_snapshotter: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_net: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_namespace: Option<String>,
}

impl Serve {
    /// Defaults, file, flags: the later wins.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let mut config = load(self.config.as_deref())?;
        if !self.addr.is_empty() {
            config.grpc.address.clone_from(&self.addr);
        }
        if let Some(root) = &self.root {
            config.root.clone_from(root);
        }
        if let Some(state) = &self.state {
            config.state = Some(state.clone());
        }
        config.hosts_dirs.clone_from(&self.hosts_dirs);
        config.debug |= self.debug;
        config.insecure_entitlements.extend(self.entitlements.iter().cloned());
        let worker = &mut config.worker.oci;
        worker.max_parallelism = self.max_parallelism.or(worker.max_parallelism);
        worker.gc = self.gc.or(worker.gc);
        worker.keep_storage =
            self.keep_storage.clone().map(Amount::Text).or_else(|| worker.keep_storage.take());
        worker.snapshotter = self.snapshotter.clone().or_else(|| worker.snapshotter.take());
        for label in self.labels.iter().flat_map(|list| list.split(',')) {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            worker.labels.insert(key.to_owned(), value.to_owned());
        }
        config.check()?;
        Ok(config)
    }

    /// The flags that were given and mean nothing here.
    pub(crate) fn ignored(&self) -> Vec<&'static str> {
        let flags = &self.buildkitd;
        [
            ("--oci-worker", flags.oci_worker.is_some()),
            ("--oci-worker-platform", !flags.oci_worker_platform.is_empty()),
            ("--oci-worker-net", flags.oci_worker_net.is_some()),
            ("--oci-worker-binary", flags.oci_worker_binary.is_some()),
            ("--oci-worker-no-process-sandbox", flags.oci_worker_no_process_sandbox.is_some()),
            ("--oci-worker-rootless", flags.oci_worker_rootless.is_some()),
            ("--containerd-worker", flags.containerd_worker.is_some()),
            ("--containerd-worker-addr", flags.containerd_worker_addr.is_some()),
            ("--containerd-worker-labels", !flags.containerd_worker_labels.is_empty()),
            ("--containerd-worker-gc", flags.containerd_worker_gc.is_some()),
            ("--containerd-worker-snapshotter", flags.containerd_worker_snapshotter.is_some()),
            ("--containerd-worker-net", flags.containerd_worker_net.is_some()),
            ("--containerd-worker-namespace", flags.containerd_worker_namespace.is_some()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }
}
