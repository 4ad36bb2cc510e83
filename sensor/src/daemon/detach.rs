//! Taking away everything that daemons left in the kernel, on the record.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use treeline_event::{
    Action, Body, Event, Notice, ProcessKey, SessionId, Tampering, Verdict, process::NANOS_PER_TICK,
};

use super::{adapters, lock::Lock, seams::Record};
use crate::{
    backend::{Observation, Seen, linux::pins},
    enrich::{
        clock::{Clock as _, SystemClock, WallClock},
        procfs::ProcFs,
    },
};

/// What `/proc/PID/loginuid` says of a process that nobody's login has led to.
const NOBODY: &str = "4294967295";

/// Whoever asked is watched by what was to be removed.
#[derive(Debug, thiserror::Error)]
#[error("a session cannot take away what it is guarded by{}", session_words(*.session))]
pub struct FromSession {
    /// The session, if it could be known: the kernel programs keep its label from the session itself.
    pub session: Option<SessionId>,
}

fn session_words(session: Option<SessionId>) -> String {
    session.map_or_else(String::new, |session| format!(": this process is in session {session}"))
}

/// Removes every set of pins and returns how many there were. What is not recorded is not done.
///
/// # Errors
/// It is asked for from inside of a session ([`FromSession`]), a daemon runs with this state directory
/// ([`super::lock::LockError`]), the log cannot be written, or a pin cannot be removed.
pub fn detach_all(state_dir: &Path, log_dir: &Path, root: &Path) -> anyhow::Result<usize> {
    // First, because a session is refused already here by whatever is in force, and that is recorded with who it was.
    let lock = Lock::of_state_dir(state_dir);
    if let Some(from) = session_of_caller(root) {
        if let (Some(session), Ok(_)) = (from.session, &lock) {
            record_refusal(state_dir, log_dir, session).context(FromSession { session: Some(session) })?;
        }
        return Err(from.into());
    }
    let _lock = lock?;
    let count = pins::sets(root).len();
    if count == 0 {
        return Ok(0);
    }
    let (root_words, asker) = (root.display(), asker());
    let reason =
        format!("--detach-all: removing {count} sets of kernel programs from `{root_words}`, {asker}");
    record_removal(log_dir, Notice::Stopped { reason }).with_context(|| {
        format!(
            "cannot record it in `{}`, so nothing was removed; `--log` names another log",
            log_dir.display()
        )
    })?;
    pins::detach_all(root).context("sessions cannot do this; otherwise try again")?;
    Ok(count)
}

fn session_of_caller(root: &Path) -> Option<FromSession> {
    match pins::session_of_caller(root) {
        Ok(session) => session.map(|session| FromSession { session: Some(session) }),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(FromSession { session: None }),
        Err(error) => {
            // Labels that cannot be read must not keep root from removing them.
            tracing::warn!(%error, "it is not known whether this process is in a session");
            None
        }
    }
}

/// Who asks, for the log: `sudo` leaves the user that logged in as it was.
fn asker() -> String {
    let (proc, pid) = (ProcFs::new("/proc"), std::process::id());
    let login = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    let login = Some(login.trim()).filter(|login| !login.is_empty() && *login != NOBODY);
    let login = login.map_or_else(String::new, |uid| format!(", logged in as user {uid}"));
    let user = rustix::process::getuid().as_raw();
    let parent = proc.stat(pid).map_or(0, |stat| stat.ppid);
    let argv = proc.argv(parent).map(|(argv, _)| argv).unwrap_or_default();
    let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
    format!("asked for by process {pid} of user {user}{login}, child of {parent} `{}`", argv.join(" "))
}

fn record_removal(log_dir: &Path, notice: Notice) -> anyhow::Result<()> {
    let (mut log, _) = adapters::log(log_dir)?;
    let wall = WallClock::new(Box::new(SystemClock));
    let event = Event { time: wall.timestamp(wall.now_ns()), session: None, body: Body::Notice(notice) };
    append(log.as_mut(), &[event])
}

/// For where nothing is in force that would refuse it and record that: no daemon runs, in mode `fallback`.
fn record_refusal(state_dir: &Path, log_dir: &Path, session: SessionId) -> anyhow::Result<()> {
    let stat = ProcFs::new("/proc").stat(std::process::id()).context("cannot find out who asks")?;
    let mut enricher = adapters::enricher(state_dir)?;
    enricher.tracked(session, stat.key, &[stat.key]);
    let mut events = Vec::new();
    enricher.observe(refusal(session, stat.key), &mut events);
    let (mut log, _) = adapters::log(log_dir)?;
    append(log.as_mut(), &events)
}

/// What the log says of a process of a session that wanted to take the kernel programs away.
fn refusal(session: SessionId, subject: ProcessKey) -> Observation {
    let action = Action::Tamper { what: Tampering::Link, target: None, number: 0 };
    Observation {
        time_ns: SystemClock.boot_ns(),
        session,
        subject,
        subject_start_ns: subject.start_ticks.saturating_mul(NANOS_PER_TICK),
        tid: subject.pid,
        verdict: Verdict::Deny,
        rule: None,
        approved: false,
        generation: 0,
        seen: Seen::Act(Box::new(action)),
    }
}

fn append(log: &mut dyn Record, events: &[Event]) -> anyhow::Result<()> {
    let mut entry = Vec::new();
    for event in events {
        entry.clear();
        log.encode(event, log.sizes().0, &mut entry);
        log.append(&entry)?;
    }
    Ok(log.checkpoint_now()?)
}
