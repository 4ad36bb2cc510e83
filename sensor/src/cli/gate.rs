//! Two verbs that `treeline run --standalone` starts itself with.
//!
//! The child of a process with threads may do next to nothing between fork and exec. So the standalone launcher
//! starts this binary again, which waits until it carries its label, and only then becomes the command.

use std::{ffi::OsString, fs::File, io::Read as _, process::ExitCode};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use treeline_event::SessionId;

use super::{exec, inherited};

/// Name of the verb that waits.
pub const VERB: &str = "__start-gate";

/// Name of the verb that ends by a signal.
pub const END_VERB: &str = "__end-by-signal";

/// What the launcher writes when the label is set: the session, so that a closed pipe cannot be taken for it.
pub const TICKET_LEN: usize = 16;

/// Arguments of the gate.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The launcher's process
    launcher: u32,
    /// Its descriptor to wait on
    descriptor: u32,
    /// What to execute
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Waits for the launcher's word, then becomes the command. Without it (the launcher ended) nothing is executed.
///
/// # Errors
/// The launcher is gone, or the command would have a descriptor of what the policy protects.
pub fn run(args: &Args) -> Result<ExitCode> {
    // Opened by name and not inherited: an inherited descriptor would have to stay open across one exec and not the next.
    let path = format!("/proc/{}/fd/{}", args.launcher, args.descriptor);
    let mut pipe = File::open(path).context("cannot open the start gate")?;
    let mut ticket = [0; TICKET_LEN];
    pipe.read_exact(&mut ticket).context("the launcher ended before the command could be started")?;
    let session = std::str::from_utf8(&ticket).ok().and_then(|text| text.parse::<SessionId>().ok());
    let session = session.context("the start gate was opened by somebody else")?;
    inherited::check()?;
    Ok(ExitCode::from(exec::exec(&args.command, Some(session))))
}

/// Arguments of the end.
#[derive(Debug, clap::Args)]
pub struct EndArgs {
    /// Number of the signal
    signal: i32,
}

/// Ends by a signal that this process, unlike the launcher, does not catch, so that the launcher's parent sees how the
/// command ended. No core is dumped: the command has dumped its own.
///
/// # Errors
/// The signal cannot be sent.
pub fn end(args: &EndArgs) -> Result<ExitCode> {
    if let Some(signal) = Signal::from_named_raw(args.signal) {
        let maximum = getrlimit(Resource::Core).maximum;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })
            .context("cannot switch core dumps off")?;
        kill_process(getpid(), signal).context("cannot end by the signal")?;
    }
    // Ignored or unknown here: the code that shells use for it.
    Ok(ExitCode::from(u8::try_from(128 + args.signal).unwrap_or(255)))
}
