//! `completion`: the shell's completion script on standard output.

use anyhow::Result;
use clap_complete::Shell;

use crate::output;

/// Prints the script for a command line.
pub(crate) fn run(shell: Shell, mut command_line: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command_line, "buildctl", &mut script);
    output::write(&script)
}
