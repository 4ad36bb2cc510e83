//! `cargo xtask demo`: the real Claude Code under Treeline, and whether what was promised came true.
//!
//! The first stage installs Claude Code, makes a scratch directory, and starts the second stage in private mount and network
//! namespaces. The second stage runs a scripted model API and Claude Code under `treeline run`, then checks what every tool gave back, what the
//! log says, and whether the log is whole.
//!
//! Invariant: nothing outside the scratch directory and the ignored installation is written, and only processes that the demo started are ended.

mod args;
mod checks;
mod entries;
mod install;
mod listener;
mod measure;
mod outer;
mod report;
mod scenario;
mod scene;
mod stage;
mod verbs;

use std::path::Path;

pub(crate) use args::Args;

/// Runs the demo in the checkout at `root` with the binary `treeline`, unless the arguments name another. Returns whether every check held.
///
/// # Errors
/// When the demo could not be run at all.
pub(crate) fn run(root: &Path, treeline: &Path, args: &Args) -> anyhow::Result<bool> {
    let treeline = args.treeline.as_deref().unwrap_or(treeline);
    match &args.stage {
        None => outer::run(root, treeline, args.keep),
        Some(scratch) => stage::run(root, treeline, scratch),
    }
}
