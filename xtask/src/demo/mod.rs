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
mod outer;
mod report;
mod scenario;
mod scene;
mod stage;
mod verbs;

use std::process::ExitCode;

pub(crate) use args::Args;

/// Runs the demo. Success means that every check held; 1 that one did not.
///
/// # Errors
/// When the demo could not be run at all.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.stage {
        None => outer::run(args),
        Some(dir) => stage::run(args, dir),
    }
}
