//! The sensor of one command, in a session of its own.
//!
//! Its standard input is a line to the launcher. It says [`READY`]; the launcher says which process is the command; it
//! says the session, and the launcher lets the command go; the launcher says that the command ended, and the sensor
//! records what is left and ends. When the launcher is gone, the sensor stays until the command has ended. When the
//! launcher is about to stop with the command, it says so: a stopped process cannot see that the command goes on.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, Signal, getppid, kill_process},
};
use tokio::signal::unix::{SignalKind, signal};
use treeline_event::SessionId;

use super::super::{Globals, claims, exec, output, output::Hinted};
use super::launcher::is_stopped;
use crate::{
    config::{ModeChoice, Unenforceable},
    control::{line::Line, peer},
    daemon::{
        adapters,
        itself::OwnFiles,
        lock::LockError,
        policy::{set::PolicyFiles, signature::Trust},
        sensor::Registration,
        start::{Running, Settings},
    },
    log::{Extent, LogReader},
    view::Denials,
};

/// Name of the verb.
pub const VERB: &str = "__standalone-sensor";

/// What the sensor says when it sees and enforces.
pub(super) const READY: &str = "ready";

/// What the launcher says when the command has stopped and it will stop, too.
pub(super) const STOPPED: &str = "stopped";

/// Different denials that are shown at the end.
const SHOWN_MAX: usize = 5;

/// How often a stopped command is looked at.
const STOPPED_INTERVAL: Duration = Duration::from_millis(100);

/// Arguments of the sensor.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    policy: PathBuf,
    #[arg(long)]
    team: Vec<PathBuf>,
    #[arg(long)]
    local: Vec<PathBuf>,
    #[arg(long)]
    policy_required: bool,
    #[arg(long)]
    log: PathBuf,
    #[arg(long)]
    state: PathBuf,
    #[arg(long)]
    unenforceable: Unenforceable,
    #[arg(long)]
    mode: Option<ModeChoice>,
    #[arg(long)]
    quiet: bool,
    #[arg(long)]
    origin: String,
    /// What the command is, for the log
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Runs until the command has ended.
///
/// # Errors
/// The sensor did not start or did not last.
pub fn run(args: Args, globals: &Globals) -> Result<ExitCode> {
    // Fails only for the leader of a group, which nobody's job is.
    let _ = rustix::process::setsid();
    output::start_notes(["off", "info", "debug"][usize::from(globals.verbose.min(2))]);
    survive_signals()?;
    let mut line = Line::of_standard_input().context("there is no line to the launcher")?;
    let words = exec::words(&args.command)?;
    let settings = Settings {
        policy_required: args.policy_required,
        // Who starts it chooses the policy.
        trust: Trust::default(),
        policies: PolicyFiles { organisation: args.policy, team: args.team, local: args.local },
        log_dir: args.log,
        state_dir: args.state,
        unenforceable: args.unenforceable,
        own: OwnFiles { files: std::env::current_exe().into_iter().collect(), ..OwnFiles::default() },
    };
    let mode = args.mode;
    let running = Running::start(settings, || adapters::kernel_backend(mode, None)).map_err(explain)?;
    let origin = if args.origin == "claude" { "claude" } else { "run" };
    let from = running.sensor.status().log.size;
    let outcome = observe(&running, &mut line, origin, words);
    let reason = match &outcome {
        Ok(Some((_, ended))) => format!("the command ended: {ended}"),
        Ok(None) => "the command was not run: its launcher ended".to_owned(),
        Err(error) => format!("the command was not run: {error}"),
    };
    if let Ok(Some((session, _))) = &outcome {
        sum_up(&running, *session, from, args.quiet);
    }
    running.sensor.stop(&reason)?;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// It ends with the command, also when everybody is told to end.
fn survive_signals() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot catch signals")?;
    let _guard = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate(), SignalKind::hangup()] {
        // Never read: the handler, which tokio leaves in place, keeps the default away.
        drop(signal(kind).context("cannot catch signals")?);
    }
    Ok(())
}

fn explain(error: anyhow::Error) -> anyhow::Error {
    if matches!(error.downcast_ref::<LockError>(), Some(LockError::Taken { .. })) {
        return error.context(Hinted::new(
            "the sensor cannot start",
            "leave `--standalone` out to use the daemon, or name another directory with `--state` and `--log`",
        ));
    }
    error
}

/// Labels the command and waits for its end. Returns how it ended, or nothing when the launcher did not get that far.
fn observe(
    running: &Running,
    line: &mut Line,
    origin: &'static str,
    command: Vec<String>,
) -> Result<Option<(SessionId, String)>> {
    line.say(READY);
    let Some(word) = line.hear() else { return Ok(None) };
    let pid = word.strip_prefix("command ").and_then(|pid| pid.parse().ok());
    // The launcher's child, which it has not reaped: the pid cannot mean another process.
    let opened = peer::open_pid(pid.context("the launcher said something else")?)?;
    let pidfd = opened.pidfd.try_clone().context("cannot duplicate a descriptor")?;
    let uid = rustix::process::getuid().as_raw();
    // Its working directory is the launcher's.
    let words: Vec<OsString> = command.iter().map(OsString::from).collect();
    let claims = claims::of(origin, &words);
    let registration = Registration { pidfd, root: opened.key, uid, origin, command, adopt: false, claims };
    let session = running.sensor.register(registration).context("the command cannot be observed")?;
    line.say(&session.to_string());
    let launcher = getppid();
    let ended = loop {
        match line.hear() {
            Some(word) if word == STOPPED => follow_continuing(launcher, opened.key.pid),
            word => break word.and_then(|word| word.strip_prefix("ended ").map(str::to_owned)),
        }
    };
    let ended = ended.unwrap_or_else(|| "its launcher had ended before".to_owned());
    // Readable once its process has ended, which it has unless the launcher was killed.
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&opened.pidfd, PollFlags::IN)], None))
        .context("cannot wait for the command")?;
    // What happened before its end is in the log before we say how it went.
    running.sensor.drain().map_err(|error| anyhow!(error))?;
    Ok(Some((session, ended)))
}

/// Waits until the command is no longer stopped, and then continues the launcher, unless the shell has done it.
fn follow_continuing(launcher: Option<Pid>, command: u32) {
    let (Some(launcher), Some(command)) = (launcher, i32::try_from(command).ok().and_then(Pid::from_raw))
    else {
        return;
    };
    // Twice: the launcher says what it is about to do.
    let mut running = 0;
    // A launcher that has ended has another process take its place as our parent.
    while running < 2 && getppid() == Some(launcher) {
        thread::sleep(STOPPED_INTERVAL);
        running = if is_stopped(command) { 0 } else { running + 1 };
        if running > 0 && is_stopped(launcher) {
            let _ = kill_process(launcher, Signal::CONT);
        }
    }
}

/// What the user should know when the command has ended. Standard error only.
fn sum_up(running: &Running, session: SessionId, from: u64, quiet: bool) {
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
            "treeline: {} actions were refused; `treeline denials --log {log} --session {session}` shows them",
            status.denied
        );
        show_denials(Path::new(log), session, from);
    }
}

/// The last things that were refused in a session, with the reason and what to do instead.
fn show_denials(log: &Path, session: SessionId, from: u64) {
    let reader = LogReader::open(log);
    let mut cursor = reader.entries(from, Extent::WithUnsigned);
    let mut denials = Denials::new(SHOWN_MAX);
    // Who cannot be told here finds it in the log.
    while let Ok(Some((_, bytes))) = cursor.next_entry() {
        if let Ok(entry) = treeline_event::decode(bytes)
            && entry.session == Some(session)
        {
            denials.add(&entry);
        }
    }
    for (denial, _) in denials.kept() {
        // Nobody can: the session has ended.
        eprint!("{}", denial.clone().of_the_past().text());
    }
}
