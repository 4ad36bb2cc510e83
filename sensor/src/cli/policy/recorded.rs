//! Which recorded entries a verb is asked about, and what `~/` stands for in them.

use std::{
    io::{self, IsTerminal as _},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use treeline_event::{Entry, SessionId};
use treeline_policy::{Home, Host};

use super::homes;
use crate::{
    cli::events::point_in_time,
    view::{EntrySource, SessionPrefix, read},
};

/// How long nothing is said of progress, and then how often it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Entries between two looks at the clock.
const ENTRIES_PER_LOOK: u64 = 4096;

/// Arguments that say which.
#[derive(Debug, clap::Args)]
pub(super) struct Recorded {
    /// Only this session; the beginning of its id is enough
    #[arg(long, value_name = "ID")]
    session: Option<SessionPrefix>,
    /// Not before this time: UTC (`2026-11-23T05:00:00Z`), a time ago (`15m`, `2h`, `3d`), or milliseconds since the epoch
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    since: Option<u64>,
    /// Before this time, written like `--since`
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    until: Option<u64>,
    /// A home that `~/` stands for; may be repeated [default: those of this machine]
    #[arg(long = "home", value_name = "DIR", value_parser = home)]
    homes: Vec<PathBuf>,
}

fn home(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() && path.parent().is_some() {
        return Ok(path);
    }
    Err(format!("`{}` is no home; write its path from `/` on", text.escape_debug()))
}

impl Recorded {
    /// Whether homes were given.
    pub(super) fn has_homes(&self) -> bool {
        !self.homes.is_empty()
    }

    /// What `~/` stands for.
    pub(super) fn host(&self) -> Host {
        let bytes = |path: &PathBuf| path.clone().into_os_string().into_vec();
        // Whose they are does not matter to a policy.
        let given = self.homes.iter().map(|path| Home { uid: 0, path: bytes(path) });
        Host { homes: if self.has_homes() { given.collect() } else { homes() } }
    }

    /// Reads every entry, and says of each whether it is asked for: the others tell what processes have executed before.
    ///
    /// # Errors
    /// The entries cannot be read, or there is no such session.
    pub(super) fn read(
        &self,
        source: &mut dyn EntrySource,
        mut take: impl FnMut(&Entry, bool),
    ) -> anyhow::Result<()> {
        let mut sessions = Vec::new();
        let mut progress = Progress::new();
        read(source, |entry, _| {
            progress.step();
            self.note_session(entry, &mut sessions);
            take(entry, self.is_asked_for(entry));
            true
        })?;
        if let Some(wanted) = self.session {
            wanted.pick(sessions)?;
        }
        Ok(())
    }

    /// Statements of the sensor, such as of loss, are about every session.
    fn is_asked_for(&self, entry: &Entry) -> bool {
        let time_ms = entry.time.wall_ms;
        self.since.is_none_or(|since| time_ms >= since)
            && self.until.is_none_or(|until| time_ms < until)
            && self.session.is_none_or(|wanted| entry.session.is_none_or(|id| wanted.matches(id)))
    }

    /// Keeps which sessions begin as the one that is asked for: two are enough to know that it is not one.
    fn note_session(&self, entry: &Entry, sessions: &mut Vec<SessionId>) {
        if let (Some(wanted), Some(id)) = (self.session, entry.session)
            && sessions.len() < 2
            && wanted.matches(id)
            && !sessions.contains(&id)
        {
            sessions.push(id);
        }
    }
}

/// Says on a terminal how far it is.
struct Progress {
    entries: u64,
    said: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self { entries: 0, said: io::stderr().is_terminal().then(Instant::now) }
    }

    fn step(&mut self) {
        self.entries += 1;
        if !self.entries.is_multiple_of(ENTRIES_PER_LOOK) {
            return;
        }
        if let Some(said) = &mut self.said
            && said.elapsed() >= PROGRESS_INTERVAL
        {
            *said = Instant::now();
            eprintln!("{} entries read", self.entries);
        }
    }
}
