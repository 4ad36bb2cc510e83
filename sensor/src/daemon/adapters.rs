//! The real neighbours behind the traits of [`super::seams`], and the only place that names them.

use std::{collections::HashMap, path::Path, sync::Arc, time::Instant};

use anyhow::Context as _;
use treeline_event::{
    AttachMode, Body, EntryBody, Event, Meta, Notice, Origin, ProcessKey, RuleHit, SessionId, Verdict,
};
use treeline_policy::{Period, Policy, policy::Rule};

use super::{
    seams::{Enrich, Record, RecordError},
    status::{Board, LogStatus, PolicyStatus, SessionStatus, Status},
};
use crate::{
    backend::{Backend, BackendError, Observation, linux},
    config::ModeChoice,
    enrich::{self, Enricher},
    log::{Extent, LockedLog, LogError, LogReader, LogWriter, ReadError, SoftwareKey, SystemClock},
};

/// Starts the kernel backend in the mode that was asked for, or the best one that works.
///
/// # Errors
/// [`BackendError::Unsupported`] names what is missing.
pub fn kernel_backend(
    mode: Option<ModeChoice>,
    pins: Option<std::path::PathBuf>,
) -> Result<Box<dyn Backend>, BackendError> {
    linux::start(&linux::Options { mode: mode.map(AttachMode::from), pins })
}

/// The enricher of a daemon whose state is in this directory.
///
/// # Errors
/// It cannot start its threads.
pub fn enricher(state_dir: &Path) -> anyhow::Result<Box<dyn Enrich>> {
    let config = enrich::Config { hashes: Some(state_dir.join("hashes")), ..enrich::Config::default() };
    let enricher =
        Enricher::new(&config, Box::new(enrich::SystemClock)).context("cannot start the enrichment")?;
    Ok(Box::new(Enrichment { enricher }))
}

/// Opens the evidence log. Says what recovery had to mend.
///
/// # Errors
/// The log's words.
pub fn log(dir: &Path) -> anyhow::Result<(Box<dyn Record>, Option<String>)> {
    // The key is made by who has the log, and nobody else.
    let locked = LockedLog::lock(dir)?;
    let key = SoftwareKey::load_or_generate(dir)?;
    let origin = origin(key.public().name());
    let (writer, recovery) = LogWriter::open_locked(locked, Box::new(key), Box::new(SystemClock::new()))?;
    let words = (!recovery.is_clean()).then(|| {
        format!(
            "{} entries were not signed yet, {} files were mended, moved aside: {}",
            recovery.unsigned_entries,
            recovery.files_mended,
            if recovery.moved_aside.is_empty() {
                "nothing".to_owned()
            } else {
                recovery.moved_aside.join(", ")
            }
        )
    });
    Ok((Box::new(FileLog { writer, origin, generation: 0 }), words))
}

/// The log on disk.
struct FileLog {
    writer: LogWriter,
    origin: Origin,
    generation: u64,
}

impl Record for FileLog {
    fn encode(&mut self, event: &Event, index: u64, entry: &mut Vec<u8>) {
        if let Body::Notice(Notice::PolicyApplied { generation, .. }) = &event.body {
            self.generation = *generation;
        }
        treeline_event::encode(
            event,
            &Meta { origin: &self.origin, index, generation: self.generation },
            entry,
        );
    }

    fn append(&mut self, entry: &[u8]) -> Result<u64, RecordError> {
        self.writer.append(entry).map_err(record_error)
    }

    fn checkpoint_if_due(&mut self) -> Result<(), RecordError> {
        self.writer.checkpoint_if_due(Instant::now()).map(drop).map_err(record_error)
    }

    fn checkpoint_now(&mut self) -> Result<(), RecordError> {
        self.writer.checkpoint_now().map(drop).map_err(record_error)
    }

    fn sizes(&self) -> (u64, u64) {
        (self.writer.size(), self.writer.signed_size())
    }
}

fn record_error(error: LogError) -> RecordError {
    let words = super::sensor::chain(&error);
    match error {
        LogError::DiskFull { .. } | LogError::Io { .. } => RecordError::Refused(words),
        LogError::EntryTooLong(_) => RecordError::Unfit(words),
        LogError::Unconfirmed(_) | LogError::Sign(_) => RecordError::Broken(words),
    }
}

/// What the log says of the latest start: mode, hooks, policy, sizes, and what was lost and refused since.
///
/// # Errors
/// The log cannot be read.
pub fn status_of_log(dir: &Path) -> Result<Option<Status>, ReadError> {
    let reader = LogReader::open(dir);
    let mut cursor = reader.entries(0, Extent::WithUnsigned);
    let mut board = None;
    while let Some((_, entry)) = cursor.next_entry()? {
        match body_of(entry) {
            Some(EntryBody::Notice(Notice::Started { version, mode, kernel, hooks, .. })) => {
                let log = LogStatus { dir: dir.display().to_string(), ..LogStatus::default() };
                board = Some(Board::new(Status {
                    version,
                    pid: 0,
                    mode,
                    kernel,
                    hooks,
                    policy: None,
                    policy_refused: None,
                    sessions: Vec::new(),
                    log,
                    denied: 0,
                    loss: Vec::new(),
                    queued: 0,
                    records: Vec::new(),
                    programs: Vec::new(),
                }));
            }
            Some(EntryBody::Notice(notice)) => {
                if let Some(board) = &board {
                    apply(board, notice);
                }
            }
            Some(EntryBody::Act { verdict: Verdict::Deny, .. }) => {
                if let Some(board) = &board {
                    board.update(|status| status.denied += 1);
                }
            }
            Some(EntryBody::Act { .. }) | None => {}
        }
    }
    let (size, signed_size) = (cursor.index(), reader.signed_size()?);
    Ok(board.map(|board| {
        board.update(|status| (status.log.size, status.log.signed_size) = (size, signed_size));
        board.snapshot()
    }))
}

fn apply(board: &Board, notice: Notice) {
    match notice {
        Notice::PolicyApplied { generation, name, sha256, revision, signed_by, parts, rules } => {
            board.update(|status| {
                status.policy =
                    Some(PolicyStatus { generation, name, sha256, revision, signed_by, parts, rules });
                status.policy_refused = None;
            });
        }
        Notice::PolicyRejected { error, .. } => board.update(|status| status.policy_refused = Some(error)),
        Notice::Lost { kind, site, count, .. } => board.count_loss(&site, &kind, count),
        Notice::SessionStarted { session, root, uid, origin, command, attributes: _ } => {
            board.update(|status| {
                status.sessions.push(SessionStatus { session, uid, origin, command, root, live: 0 });
            });
        }
        Notice::SessionEnded { session } => {
            board.update(|status| status.sessions.retain(|known| known.session != session));
        }
        _ => {}
    }
}

fn body_of(entry: &[u8]) -> Option<EntryBody> {
    treeline_event::decode(entry).ok().map(|entry| entry.body)
}

/// Where the entries of this start come from. `log_name` is the log's origin, `treeline.local/log/UUID/EPOCH`.
fn origin(log_name: &str) -> Origin {
    let mut parts = log_name.rsplit('/');
    let epoch = parts.next().and_then(|epoch| epoch.parse().ok()).unwrap_or(1);
    let device = parts.next().unwrap_or(log_name).to_owned();
    let system = rustix::system::uname();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    Origin {
        device,
        epoch,
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        hostname: cut(&system.nodename().to_string_lossy()),
        os_name: os_release(&release, "NAME").unwrap_or_else(|| "Linux".to_owned()),
        os_version: os_release(&release, "VERSION_ID").unwrap_or_default(),
        kernel: cut(&system.release().to_string_lossy()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// A value of /etc/os-release.
fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(cut(value.trim().trim_matches(['"', '\''])))
}

/// The origin's texts are in every entry and never cut there.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(255)].to_owned()
}

/// The enrichment, with the rules that verdicts refer to.
struct Enrichment {
    enricher: Enricher,
}

impl Enrich for Enrichment {
    fn observe(&mut self, observation: Observation, events: &mut Vec<Event>) {
        self.enricher.observe(observation, events);
    }

    fn notice(&mut self, notice: Notice) -> Event {
        self.enricher.notice(notice)
    }

    fn tick(&mut self, events: &mut Vec<Event>) {
        self.enricher.tick(events);
    }

    fn policy_known(&mut self, generation: u64, policy: &Policy) {
        let hit = |rule: &Rule| {
            Arc::new(RuleHit {
                rule: rule.id.clone(),
                reason: rule.reason.clone(),
                mode: rule.mode,
                policy: rule.policy.to_string(),
                generation,
                remedy: rule.about.remedy.clone(),
                link: rule.about.link.clone(),
                approvable_s: policy.approvable(rule).map(Period::seconds),
                approved: false,
            })
        };
        self.enricher.policy_applied(generation, policy.rules.iter().map(hit).collect());
    }

    fn tracked(&mut self, session: SessionId, root: ProcessKey, members: &[ProcessKey]) {
        self.enricher.session_started(session, root, members);
    }

    fn live(&self) -> HashMap<SessionId, usize> {
        let mut live = HashMap::new();
        for session in self.enricher.members().filter_map(|key| self.enricher.session_of(key)) {
            *live.entry(session).or_default() += 1;
        }
        live
    }

    fn finish(&mut self, events: &mut Vec<Event>) {
        self.enricher.finish(events);
    }
}

#[cfg(test)]
mod tests {
    use treeline_event::{Action, Process, Subject, Timestamp};

    use super::*;

    fn event(body: Body) -> Event {
        Event { time: Timestamp::default(), session: Some(SessionId(1)), body }
    }

    fn acted(verdict: Verdict) -> Event {
        let subject = Subject { process: Arc::new(gap()), ancestry: Vec::new() };
        event(Body::Act { subject, action: Action::Exec, verdict, rule: None })
    }

    fn gap() -> Process {
        enrich::table::unknown(ProcessKey { pid: 5, start_ticks: 1 })
    }

    fn started() -> Event {
        event(Body::Notice(Notice::Started {
            version: "1".to_owned(),
            mode: AttachMode::Replay,
            kernel: String::new(),
            hooks: Vec::new(),
            recovery: None,
        }))
    }

    #[test]
    fn a_new_log_is_for_its_owner_only() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("state/log");
        log(&path).expect("a new log");
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().expect("there").permissions());
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_log_says_what_was_refused_since_the_latest_start() {
        let dir = tempfile::tempdir().expect("directory");
        let (mut log, _) = log(dir.path()).expect("a new log");
        let earlier = [started(), acted(Verdict::Deny)];
        let latest = [started(), acted(Verdict::Deny), acted(Verdict::Allow), acted(Verdict::Deny)];
        for (index, event) in (0u64..).zip(earlier.iter().chain(&latest)) {
            let mut entry = Vec::new();
            log.encode(event, index, &mut entry);
            log.append(&entry).expect("room");
        }
        log.checkpoint_now().expect("signed");
        let status = status_of_log(dir.path()).expect("readable").expect("it started");
        assert_eq!((status.denied, status.log.size), (2, 6));
    }
}
