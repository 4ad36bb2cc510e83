//! `treeline run --standalone`: the sensor and the command under one roof.
//!
//! The terminal's signals reach the command by themselves, since it is in this process's group; this process
//! survives them to see the command end. Those that are sent to this process only are passed on. When the terminal
//! stops the group, the sensor stops with it: what the kernel's rings cannot hold meanwhile is counted as lost.

use std::{
    ffi::OsString,
    io::Write as _,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, ExitCode, ExitStatus},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::signal::unix::{SignalKind, signal};
use treeline_event::SessionId;

use super::{exec, gate, output, output::Hinted, run::LaunchArgs};
use crate::{
    config::Config,
    control::peer,
    daemon::{
        adapters,
        sensor::Registration,
        start::{Running, Settings},
    },
};

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
    output::start_notes(["off", "info", "debug"][usize::from(verbose.min(2))]);
    let settings = Settings {
        policy_required: args.policy.is_some(),
        policy: args.policy.unwrap_or(config.policy),
        log_dir: args.log.unwrap_or(config.log_dir),
        state_dir: args.state.unwrap_or(config.state_dir),
        unenforceable: args.unenforceable.unwrap_or(config.unenforceable),
    };
    let mode = args.mode.or(config.mode);
    let running = Running::start(settings, || adapters::kernel_backend(mode)).map_err(explain)?;
    let outcome = observe(&running, command, origin);
    let (reason, status) = match &outcome {
        Ok((_, status)) => (format!("the command ended: {status}"), Some(*status)),
        Err(error) => (format!("the command was not run: {error}"), None),
    };
    if let Ok((session, _)) = &outcome {
        sum_up(&running, *session, args.quiet);
    }
    running.sensor.stop(&reason)?;
    outcome?;
    Ok(status.map_or(ExitCode::from(2), end_as))
}

fn explain(error: anyhow::Error) -> anyhow::Error {
    let taken = error.downcast_ref::<crate::daemon::lock::LockError>();
    if matches!(taken, Some(crate::daemon::lock::LockError::Taken { .. })) {
        return error.context(Hinted::new(
            "the sensor cannot start",
            "leave `--standalone` out to use the daemon, or name another directory with `--state` and `--log`",
        ));
    }
    error
}

/// Starts the command behind its gate, has it labelled, opens the gate, and waits for its end.
fn observe(running: &Running, command: &[OsString], origin: &'static str) -> Result<(SessionId, ExitStatus)> {
    let words = exec::words(command)?;
    let (pipe, gate) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
    // Before the child: a signal that comes in between is not lost.
    let (passer, signals) = mpsc::sync_channel(1);
    pass_signals_on(signals)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("treeline")
        .arg(gate::VERB)
        .arg(std::process::id().to_string())
        .arg(pipe.as_raw_fd().to_string())
        .arg("--")
        .args(command)
        .spawn()
        .context("cannot start the command")?;
    match label(running, &child, origin, words) {
        Ok(session) => {
            passer.send(child_descriptor(&child)?).context("the signal thread ended")?;
            std::fs::File::from(gate)
                .write_all(session.to_string().as_bytes())
                .context("cannot open the gate")?;
            let status = child.wait().context("cannot wait for the command")?;
            // What happened before its end is in the log before we say how it went.
            running.sensor.drain().map_err(|error| anyhow!(error))?;
            Ok((session, status))
        }
        Err(error) => {
            // The gate sees the closed pipe and ends without having executed anything.
            drop(gate);
            drop(child.wait());
            Err(error)
        }
    }
}

/// The child cannot be reaped by anybody else, so its pid means it.
fn child_descriptor(child: &Child) -> Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("the child has no pid")?;
    pidfd_open(pid, PidfdFlags::empty()).context("cannot open the child")
}

fn label(running: &Running, child: &Child, origin: &'static str, command: Vec<String>) -> Result<SessionId> {
    let registration = Registration {
        pidfd: child_descriptor(child)?,
        root: peer::process_key(child.id()).context("cannot read the child's start time")?,
        uid: rustix::process::getuid().as_raw(),
        origin,
        command,
        adopt: false,
    };
    running.sensor.register(registration).context("the command cannot be observed")
}

/// Survives the terminal's signals, and passes on those that are meant for the command.
fn pass_signals_on(child: mpsc::Receiver<OwnedFd>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot wait for signals")?;
    let passed = [Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2];
    let mut streams = Vec::new();
    {
        let _guard = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::quit()] {
            // Never read: the handler, which tokio leaves in place, keeps the default away. The command does not have it.
            drop(signal(kind).context("cannot catch signals")?);
        }
        for number in passed {
            streams.push((
                number,
                signal(SignalKind::from_raw(number.as_raw())).context("cannot catch signals")?,
            ));
        }
    }
    let serve = move || {
        let Ok(child) = child.recv() else { return };
        runtime.block_on(async move {
            let [mut first, mut second, mut third, mut fourth] =
                <[_; 4]>::try_from(streams).unwrap_or_else(|_| unreachable!("there are four of them"));
            loop {
                let number = tokio::select! {
                    _ = first.1.recv() => first.0,
                    _ = second.1.recv() => second.0,
                    _ = third.1.recv() => third.0,
                    _ = fourth.1.recv() => fourth.0,
                };
                // The command may have ended just now.
                let _ = pidfd_send_signal(&child, number);
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(serve).context("cannot start a thread")?;
    Ok(())
}

/// What the user should know when the command has ended. Standard error only.
fn sum_up(running: &Running, session: SessionId, quiet: bool) {
    let status = running.sensor.status();
    let live = status.sessions.iter().find(|s| s.session == session).map_or(0, |s| s.live);
    if live > 0 {
        eprintln!("treeline: note: {live} processes of the session go on, unobserved from here on");
    }
    if let Some(trouble) = &status.log.trouble {
        eprintln!("treeline: warning: the log took no more entries: {trouble}");
    }
    let lost: u64 = status.loss.iter().map(|loss| loss.count).sum();
    if lost > 0 {
        eprintln!("treeline: warning: {lost} events were lost; the log says which kinds and when");
    }
    if status.denied > 0 && !quiet {
        let log = &status.log.dir;
        eprintln!(
            "treeline: {} actions were refused; `treeline events --log {log} --denied` shows them",
            status.denied
        );
    }
}

/// Ends this process as the command ended.
fn end_as(status: ExitStatus) -> ExitCode {
    let Some(signal) = status.signal() else {
        return ExitCode::from(u8::try_from(status.code().unwrap_or(2)).unwrap_or(2));
    };
    // An exec puts the signals that we catch back to their defaults.
    let error =
        Command::new("/proc/self/exe").arg0("treeline").args([gate::END_VERB, &signal.to_string()]).exec();
    tracing::warn!("cannot end by the command's signal: {error}");
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(255))
}
