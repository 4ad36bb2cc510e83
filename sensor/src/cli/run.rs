//! `treeline run`: register, then become the command.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::{Globals, claims, exec, inherited, output::Hinted, standalone};
use crate::{
    config::{Config, ModeChoice, Unenforceable, WhenUnavailable},
    control::client::{Client, ClientError},
};

/// Arguments of `treeline run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) launch: LaunchArgs,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}

/// How a command is launched.
#[derive(Debug, clap::Args)]
pub struct LaunchArgs {
    /// The daemon's socket [default: as configured]
    #[arg(long, value_name = "PATH", env = "TREELINE_SOCKET")]
    pub(super) socket: Option<PathBuf>,
    /// Run the sensor in this process, without a daemon (root)
    #[arg(long)]
    pub(super) standalone: bool,
    /// The policy
    #[arg(long, value_name = "FILE", requires = "standalone")]
    pub(super) policy: Option<PathBuf>,
    /// Directory of the log
    #[arg(long, value_name = "DIR", requires = "standalone")]
    pub(super) log: Option<PathBuf>,
    /// Directory of everything else that is kept
    #[arg(long, value_name = "DIR", requires = "standalone")]
    pub(super) state: Option<PathBuf>,
    /// The attach mode
    #[arg(long, value_name = "MODE", requires = "standalone")]
    pub(super) mode: Option<ModeChoice>,
    /// What becomes of `enforce` rules that this machine cannot enforce [default: as configured]
    #[arg(long, value_name = "WHAT", requires = "standalone")]
    pub(super) unenforceable: Option<Unenforceable>,
    /// Do not sum up denials at the end
    #[arg(long, requires = "standalone")]
    pub(super) quiet: bool,
}

/// Runs the command. Its exit status is ours.
///
/// # Errors
/// It was not run.
pub fn run(args: Args, globals: &Globals) -> Result<ExitCode> {
    launch(args.launch, &args.command, "run", globals)
}

pub(super) fn launch(
    args: LaunchArgs,
    command: &[OsString],
    origin: &'static str,
    globals: &Globals,
) -> Result<ExitCode> {
    let config = Config::load_as_user(globals.config.as_deref())?;
    if args.standalone {
        return standalone::run(args, command, origin, config, globals.verbose);
    }
    let socket = args.socket.as_deref().unwrap_or(&config.socket);
    let words = exec::words(command)?;
    let claims = claims::of(origin, command);
    // The connection belongs to the process that opened it: from here to the exec nothing may fork.
    let registered = Client::connect(socket).and_then(|mut client| {
        let session = client.register(origin, words, claims)?;
        Ok((client, session))
    });
    let session = match registered {
        // The socket closes at exec.
        Ok((_client, session)) => Some(session),
        Err(error) if error.is_unavailable() && config.when_unavailable == WhenUnavailable::RunUnobserved => {
            eprintln!("treeline: warning: {error}; the command runs unobserved, as configured");
            None
        }
        Err(error) => return Err(explain(error)),
    };
    if session.is_some() {
        inherited::check()?;
    }
    Ok(ExitCode::from(exec::exec(command, session)))
}

/// Says what to do about it.
pub(super) fn explain(error: ClientError) -> anyhow::Error {
    let hint = match &error {
        ClientError::Connect { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            "ask to become a member of the socket's group (`treeline doctor` names it), then log in again"
        }
        error if error.is_unavailable() => {
            "start the daemon (`systemctl start treeline`), or, as root, use `treeline run --standalone`"
        }
        _ => "`treeline status` and `treeline doctor` show the daemon's state",
    };
    anyhow::Error::new(error).context(Hinted::new("the daemon does not help", hint))
}
