//! The real neighbours behind the traits of [`super::seams`], and the only place that names them.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Instant,
};

use treeline_event::{Body, Event, Notice, ProcessKey, SessionId, Timestamp};
use treeline_policy::Policy;

use super::seams::{Enrich, Record, RecordError};
use crate::{
    backend::{Backend, BackendError, Observation, Seen},
    config::ModeChoice,
    log::{LogError, LogWriter, SoftwareKey, SystemClock},
};

/// Starts the kernel backend in the mode that was asked for, or the best one that works.
///
/// # Errors
/// [`BackendError::Unsupported`] names what is missing.
pub fn kernel_backend(_mode: Option<ModeChoice>) -> Result<Box<dyn Backend>, BackendError> {
    Err(BackendError::Unsupported("this build has no kernel programs; build them with `cargo xtask build`".to_owned()))
}

/// The enricher of a daemon whose state is in this directory.
///
/// # Errors
/// It cannot start its threads.
pub fn enricher(_state_dir: &Path) -> anyhow::Result<Box<dyn Enrich>> {
    Ok(Box::<PlainEnricher>::default())
}

/// Opens the evidence log. Says what recovery had to mend.
///
/// # Errors
/// The log's words.
pub fn log(dir: &Path) -> anyhow::Result<(Box<dyn Record>, Option<String>)> {
    // The key is in the log's directory, which has to be there first.
    std::fs::create_dir_all(dir)?;
    let key = SoftwareKey::load_or_generate(dir)?;
    let (writer, recovery) = LogWriter::open(dir, Box::new(key), Box::new(SystemClock::new()))?;
    let words = (!recovery.is_clean()).then(|| {
        format!(
            "{} entries were not signed yet, {} files were mended, moved aside: {}",
            recovery.unsigned_entries,
            recovery.files_mended,
            if recovery.moved_aside.is_empty() { "nothing".to_owned() } else { recovery.moved_aside.join(", ") }
        )
    });
    Ok((Box::new(FileLog { writer }), words))
}

/// The log on disk.
struct FileLog {
    writer: LogWriter,
}

impl Record for FileLog {
    fn encode(&mut self, event: &Event, _index: u64, entry: &mut Vec<u8>) {
        let value = match &event.body {
            Body::Notice(notice) => serde_json::json!({ "session": event.session, "notice": notice }),
            Body::Act { subject, action, verdict, .. } => serde_json::json!({
                "session": event.session, "process": *subject.process, "action": action, "verdict": verdict,
            }),
        };
        entry.extend(value.to_string().bytes());
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
        LogError::DiskFull { .. } => RecordError::Full(words),
        LogError::EntryTooLong(_) => RecordError::Unfit(words),
        LogError::Io { .. } | LogError::Unconfirmed(_) | LogError::Sign(_) => RecordError::Broken(words),
    }
}

/// What the control server needs to know of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its session; none for what concerns the whole sensor.
    pub session: Option<SessionId>,
    /// The session that it begins, and for whom.
    pub started: Option<(SessionId, u32)>,
}

/// Reads an entry that the log holds. One that cannot be read belongs to nobody.
#[must_use]
pub fn facts(entry: &[u8]) -> Option<Facts> {
    #[derive(serde::Deserialize)]
    struct Probe {
        session: Option<SessionId>,
        notice: Option<Notice>,
    }
    let probe: Probe = serde_json::from_slice(entry).ok()?;
    let started = match probe.notice {
        Some(Notice::SessionStarted { session, uid, .. }) => Some((session, uid)),
        _ => None,
    };
    Some(Facts { session: probe.session.or(started.map(|(session, _)| session)), started })
}

#[derive(Default)]
struct PlainEnricher {
    live: HashMap<SessionId, HashSet<ProcessKey>>,
}

impl Enrich for PlainEnricher {
    fn observe(&mut self, observation: Observation, _events: &mut Vec<Event>) {
        let live = self.live.entry(observation.session).or_default();
        match observation.seen {
            Seen::Fork { child, .. } => drop(live.insert(child)),
            Seen::Exit { .. } => drop(live.remove(&observation.subject)),
            _ => {}
        }
    }

    fn notice(&mut self, notice: Notice) -> Event {
        let session = match &notice {
            Notice::SessionStarted { session, root, .. } => {
                self.live.entry(*session).or_default().insert(*root);
                Some(*session)
            }
            Notice::SessionEnded { session } => Some(*session),
            _ => None,
        };
        Event { time: Timestamp::default(), session, body: Body::Notice(notice) }
    }

    fn tick(&mut self, _events: &mut Vec<Event>) {}

    fn policy_known(&mut self, _generation: u64, _policy: &Policy) {}

    fn live_processes(&self, session: SessionId) -> usize {
        self.live.get(&session).map_or(0, HashSet::len)
    }
}
