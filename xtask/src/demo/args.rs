//! The command line.

use std::path::PathBuf;

/// Run the real Claude Code under Treeline, offline, and check that what policy denies is refused, recorded and provable
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Keep the scratch directory (home, project, log) and print where it is
    #[arg(long)]
    pub(crate) keep: bool,
    /// The treeline binary; `target/release/treeline` when absent
    #[arg(long, value_name = "FILE")]
    pub(crate) treeline: Option<PathBuf>,
    /// Second stage, in namespaces of its own, with this scratch directory
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) stage: Option<PathBuf>,
}
