//! The command line.

use std::path::PathBuf;

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Keep the scratch directory (home, project, log) and print where it is
    #[arg(long)]
    pub(crate) keep: bool,
    /// Another treeline binary than the one that `cargo xtask build` makes
    #[arg(long, value_name = "FILE")]
    pub(crate) treeline: Option<PathBuf>,
    /// Second stage, in namespaces of its own, with this scratch directory
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) stage: Option<PathBuf>,
}
