//! `treeline reload`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use serde_json::json;

use super::{
    Globals,
    output::{print, print_note},
    run::explain,
};
use crate::{
    config::Config,
    control::{
        client::{Client, ClientError},
        proto::ErrorKind,
    },
};

/// Arguments of `treeline reload`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's socket [default: as configured]
    #[arg(long, value_name = "PATH", env = "TREELINE_SOCKET")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Has the daemon read its policy again. Exit code 1 when it is not put in force, and the one before stays.
///
/// # Errors
/// The daemon is not there, or does not do it for this user.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let config = Config::load_as_user(globals.config.as_deref())?;
    let socket = args.socket.as_deref().unwrap_or(&config.socket);
    let rejected = match Client::connect(socket).and_then(|mut client| client.reload_policy()) {
        Ok(()) => None,
        Err(ClientError::Refused { kind: ErrorKind::Rejected, message }) => Some(message),
        Err(error) => return Err(explain(error)),
    };
    if args.json {
        print(&format!("{}\n", json!({ "reloaded": rejected.is_none(), "error": rejected })))?;
    } else if let Some(message) = &rejected {
        print_note(&format!("the policy that was in force stays: {message}\n"));
    }
    Ok(ExitCode::from(u8::from(rejected.is_some())))
}
