//! `treeline completions`.

use std::{io, process::ExitCode};

use anyhow::Result;
use clap_complete::Shell;

/// Arguments of `treeline completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the completions.
///
/// # Errors
/// None: standard output that goes away ends the process.
pub fn run(args: &Args) -> Result<ExitCode> {
    clap_complete::generate(args.shell, &mut super::command(), "treeline", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}
