//! `completion`: the shell's completion script on standard output.

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, output};

/// Prints the script.
pub(crate) fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "buildctl", &mut script);
    output::write(&script)
}
