//! The process that the shell knows.

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    os::{
        fd::AsRawFd as _,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, ExitStatus},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid},
};

use super::{
    super::gate,
    sensor::{READY, STOPPED},
    signals::{Happened, Signals},
};
use crate::{backend::linux::pass_on_broken_pipes, control::line::Line};

/// How it ended.
pub(super) enum Ended {
    /// The command did, and the sensor has recorded it.
    Command(ExitStatus),
    /// The sensor could not do its work, and said why.
    Sensor,
}

/// Between the shell, the command and the sensor.
pub(super) struct Launcher {
    line: Line,
    sensor: Child,
}

impl Launcher {
    pub(super) fn new(line: Line, sensor: Child) -> Self {
        Self { line, sensor }
    }

    /// Starts the command behind its gate, has it labelled, opens the gate, and waits for its end.
    ///
    /// Until the sensor is ready, signals end this process as they do any other; the sensor sees the closed line.
    pub(super) fn run(mut self, command: &[OsString]) -> Result<Ended> {
        if self.line.hear().as_deref() != Some(READY) {
            return self.sensor_ended();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot wait for signals")?;
        let mut signals = {
            let _guard = runtime.enter();
            Signals::catch()?
        };
        let (pipe, gate) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
        let mut child = Command::new("/proc/self/exe");
        child.arg0("treeline").arg(gate::VERB).arg(std::process::id().to_string());
        child.arg(pipe.as_raw_fd().to_string()).arg("--").args(command);
        pass_on_broken_pipes(&mut child);
        let child = Pid::from_child(&child.spawn().context("cannot start the command")?);
        {
            // Not before: the command has to inherit what became of this signal.
            let _guard = runtime.enter();
            signals.catch_children()?;
        }
        self.line.say(&format!("command {}", child.as_raw_nonzero()));
        let Some(session) = self.line.hear() else {
            // The gate sees the closed pipe and ends without having executed anything.
            drop(gate);
            let ended = waitpid(Some(child), WaitOptions::empty()).context("cannot wait for the command")?;
            let status = ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw()));
            let interrupted = status.filter(|status| status.signal().is_some());
            let sensor = self.sensor_ended()?;
            return Ok(interrupted.map_or(sensor, Ended::Command));
        };
        fs::File::from(gate).write_all(session.as_bytes()).context("cannot open the gate")?;
        let status = runtime.block_on(self.attend(child, &mut signals))?;
        self.line.say(&format!("ended {status}"));
        let sensor = self.sensor.wait().context("cannot wait for the sensor")?;
        Ok(if sensor.success() { Ended::Command(status) } else { self.sensor_ended()? })
    }

    /// Does as the command does until its end.
    async fn attend(&mut self, child: Pid, signals: &mut Signals) -> Result<ExitStatus> {
        let mut warned = false;
        loop {
            // Before the first signal, too: the child may have ended before its end could be caught.
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
            if let Some((_, status)) = waitpid(Some(child), options).context("cannot wait for the command")? {
                if !status.stopped() {
                    return Ok(ExitStatus::from_raw(status.as_raw()));
                }
                self.line.say(STOPPED);
                stop_with(child);
                continue;
            }
            if !warned && !matches!(self.sensor.try_wait(), Ok(None)) {
                warned = true;
                eprintln!("treeline: warning: the sensor ended; the command goes on unobserved");
            }
            if let Happened::Sent(signal) = signals.next().await {
                // It is not reaped, so its pid means it.
                let _ = kill_process(child, signal);
            }
        }
    }

    /// The sensor says by its status whether it has printed why it ended.
    fn sensor_ended(&mut self) -> Result<Ended> {
        let status = self.sensor.wait().context("cannot wait for the sensor")?;
        if status.code() == Some(2) {
            return Ok(Ended::Sensor);
        }
        bail!("the sensor ended before the command did: {status}")
    }
}

/// Stops this process, so that the shell sees a stopped job, until somebody continues it; then the command goes on, too.
/// When somebody continues the command alone, the sensor continues this process.
fn stop_with(child: Pid) {
    let _ = kill_process(getpid(), Signal::STOP);
    // Shells continue the whole group, and one signal is enough.
    if is_stopped(child) {
        let _ = kill_process(child, Signal::CONT);
    }
}

/// Whether a process is stopped by a signal.
pub(super) fn is_stopped(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}
