//! `treeline adopt`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::{Globals, output::print, run::explain};
use crate::{config::Config, control::client::Client};

/// Arguments of `treeline adopt`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The process
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pid: u32,
    /// The daemon's socket [default: as configured]
    #[arg(long, value_name = "PATH", env = "TREELINE_SOCKET")]
    socket: Option<PathBuf>,
}

/// Prints the session.
///
/// # Errors
/// The daemon is not there or refused.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let config = Config::load_as_user(globals.config.as_deref())?;
    let socket = args.socket.as_deref().unwrap_or(&config.socket);
    let session = Client::connect(socket).and_then(|mut client| client.adopt(args.pid)).map_err(explain)?;
    print(&format!("{session}\n"))?;
    Ok(ExitCode::SUCCESS)
}
