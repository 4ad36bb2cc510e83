//! `treeline run --standalone`: a sensor for one command.
//!
//! Two processes. The launcher is the one that the shell knows: the command is its child and in its process group, so
//! the terminal's signals reach the command by themselves, and the launcher stops and ends as the command does. The
//! [`sensor`] is in a session of its own, where no terminal's signal reaches it: a stopped sensor would answer no
//! permission event, and everybody on the machine who opens a protected file would wait for it.

mod launcher;
pub mod sensor;
mod signals;

use std::{
    ffi::OsString,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use self::launcher::{Ended, Launcher};
use super::{exec, gate, output::Hinted, run::LaunchArgs};
use crate::{config::Config, control::line::Line, daemon::policy::set::PolicyFiles};

/// Runs the sensor and the command, and ends as the command does.
///
/// # Errors
/// The sensor did not start or did not last.
pub fn run(
    args: LaunchArgs,
    command: &[OsString],
    origin: &'static str,
    config: Config,
    verbose: u8,
) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        return Err(Hinted::new(
            "a sensor of one's own needs root",
            "use sudo, or leave `--standalone` out where the daemon runs",
        )
        .into());
    }
    exec::words(command)?;
    let (ours, theirs) = Line::pair().context("cannot make a pair of sockets")?;
    let sensor = start_sensor(args, command, origin, config, verbose, theirs)?;
    match Launcher::new(ours, sensor).run(command)? {
        Ended::Command(status) => Ok(end_as(status)),
        // It has printed why.
        Ended::Sensor => Ok(ExitCode::from(2)),
    }
}

/// Starts the sensor, with its end of the line as standard input.
fn start_sensor(
    args: LaunchArgs,
    command: &[OsString],
    origin: &str,
    config: Config,
    verbose: u8,
    line: OwnedFd,
) -> Result<Child> {
    let word = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map(|value| value.get_name().to_owned())
    };
    let mut sensor = Command::new("/proc/self/exe");
    sensor.arg0("treeline").args((0..verbose).map(|_| "-v")).arg(sensor::VERB);
    if args.policy.is_some() {
        sensor.arg("--policy-required");
    }
    let PolicyFiles { organisation, team, local } =
        args.policy.map_or_else(|| config.policies(), PolicyFiles::alone);
    sensor.arg("--policy").arg(organisation);
    for (option, files) in [("--team", team), ("--local", local)] {
        files.into_iter().for_each(|file| _ = sensor.arg(option).arg(file));
    }
    sensor.arg("--log").arg(args.log.unwrap_or(config.log_dir));
    sensor.arg("--state").arg(args.state.unwrap_or(config.state_dir));
    let unenforceable = args.unenforceable.unwrap_or(config.unenforceable);
    if let Some(word) = word(&|| unenforceable.to_possible_value()) {
        sensor.args(["--unenforceable", &word]);
    }
    if let Some(word) = word(&|| args.mode.or(config.mode)?.to_possible_value()) {
        sensor.args(["--mode", &word]);
    }
    if args.quiet {
        sensor.arg("--quiet");
    }
    sensor.args(["--origin", origin, "--"]).args(command);
    sensor.stdin(line).stdout(Stdio::null());
    sensor.spawn().context("cannot start the sensor")
}

/// Ends this process as the command ended.
fn end_as(status: ExitStatus) -> ExitCode {
    let Some(signal) = status.signal() else {
        return ExitCode::from(u8::try_from(status.code().unwrap_or(2)).unwrap_or(2));
    };
    // An exec puts the signals that we catch back to their defaults.
    let error =
        Command::new("/proc/self/exe").arg0("treeline").args([gate::END_VERB, &signal.to_string()]).exec();
    eprintln!("treeline: warning: cannot end by the command's signal: {error}");
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(255))
}
