//! `treeline approve`: lets what was refused through for a while.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use treeline_event::Approval;
use treeline_policy::Period;

use super::{Globals, run::explain};
use crate::{
    config::Config,
    control::{
        client::{Client, ClientError},
        proto::ErrorKind,
    },
    view::text::safe,
};

/// Arguments of `treeline approve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The denial, by its index in the log: `treeline denials` shows it
    #[arg(value_name = "DENIAL")]
    denial: u64,
    /// For how long, such as `15m`: seconds, minutes or hours, as far as the policy lets you
    #[arg(long = "for", value_name = "TIME")]
    period: Period,
    /// The daemon's socket [default: as configured]
    #[arg(long, value_name = "PATH", env = "TREELINE_SOCKET")]
    socket: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Approves of a denial. Exit status: 0, 1 when it may or can not be approved, 2 when the daemon does not answer.
///
/// # Errors
/// The daemon is not there.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let config = Config::load_as_user(globals.config.as_deref())?;
    let socket = args.socket.as_deref().unwrap_or(&config.socket);
    let approved = Client::connect(socket).and_then(|mut client| client.approve(args.denial, args.period));
    match approved {
        Ok(approval) if args.json => println!("{}", serde_json::to_string_pretty(&approval)?),
        Ok(approval) => println!("{}", words(&approval, args.period)),
        Err(ClientError::Refused { kind: ErrorKind::Forbidden | ErrorKind::Failed, message }) => {
            eprintln!("treeline: not approved: {}", safe(&message));
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(explain(error)),
    }
    Ok(ExitCode::SUCCESS)
}

/// What somebody has approved of, in words.
fn words(approval: &Approval, period: Period) -> String {
    let Approval { session, executable, operations, object, rules, .. } = approval;
    format!(
        "approved for {period}: `{executable}` in session {session} may {} {}, against {}; it ends by itself",
        operations.join(" and "),
        safe(object),
        rules.iter().map(|rule| format!("`{}`", safe(rule))).collect::<Vec<_>>().join(", ")
    )
}
