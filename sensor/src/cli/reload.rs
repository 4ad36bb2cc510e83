//! `treeline reload`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::{Globals, run::explain};
use crate::{config::Config, control::client::Client};

/// Arguments of `treeline reload`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's socket [default: as configured]
    #[arg(long, value_name = "PATH", env = "TREELINE_SOCKET")]
    socket: Option<PathBuf>,
}

/// Has the daemon read its policy again.
///
/// # Errors
/// The policy is bad, and the one before stays; or the daemon is not there.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let config = Config::load_as_user(globals.config.as_deref())?;
    let socket = args.socket.as_deref().unwrap_or(&config.socket);
    Client::connect(socket).and_then(|mut client| client.reload_policy()).map_err(explain)?;
    Ok(ExitCode::SUCCESS)
}
