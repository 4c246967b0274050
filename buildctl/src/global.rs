//! Global flags: those of every command.

/// Flags of every command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// Address of the daemon: unix://PATH or tcp://HOST:PORT. Without it a private daemon is started on demand.
    #[arg(long, global = true, env = "BUILDKIT_HOST", value_name = "ADDRESS", hide_env_values = true)]
    pub(crate) addr: Option<String>,
    /// Namespace of images and containers.
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub(crate) namespace: String,
    /// Show the whole chain of causes of an error, one a line.
    #[arg(long, global = true)]
    pub(crate) debug: bool,
}
