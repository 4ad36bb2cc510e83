//! The list of sessions.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::Serialize;
use treeline_event::{Entry, EntryBody, Notice, Process, ProcessKey, SessionAttributes, SessionId, Verdict};

use super::text::safe;

/// How it stands with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It has live processes, as far as the log says.
    Running,
    /// Its last process ended, or the sensor ended in order.
    Ended,
    /// The sensor ended before it, without a word: what came then was not seen.
    Interrupted,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Ended => "ended",
            Self::Interrupted => "interrupted",
        })
    }
}

/// One session in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionView {
    /// Its id.
    pub session: SessionId,
    /// How it stands.
    pub state: SessionState,
    /// `run`, `claude` or `adopt`.
    pub origin: String,
    /// The command that the root was about to run, or ran when it was adopted.
    pub command: Vec<String>,
    /// User id of who asked for it.
    pub uid: u32,
    /// What else is known of it.
    #[serde(skip_serializing_if = "SessionAttributes::is_empty")]
    pub attributes: SessionAttributes,
    /// That user's name, when an entry has it.
    pub user: Option<String>,
    /// Its root.
    pub root: ProcessKey,
    /// Start, milliseconds since the epoch.
    pub started_ms: u64,
    /// End, milliseconds since the epoch.
    pub ended_ms: Option<u64>,
    /// Processes that acted.
    pub processes: u64,
    /// Entries of its processes.
    pub events: u64,
    /// Entries that a rule in `monitor` matched, or one that could not refuse.
    pub audits: u64,
    /// Refused actions.
    pub denials: u64,
    /// Emptied at the end.
    #[serde(skip)]
    keys: HashSet<ProcessKey>,
}

impl SessionView {
    fn started(notice: &Notice, started_ms: u64) -> Option<Self> {
        let Notice::SessionStarted { session, root, uid, origin, command, attributes } = notice else {
            return None;
        };
        Some(Self {
            session: *session,
            state: SessionState::Running,
            origin: origin.clone(),
            command: command.clone(),
            uid: *uid,
            attributes: attributes.clone(),
            user: attributes.user.clone().filter(|_| attributes.uid == Some(*uid)),
            root: *root,
            started_ms,
            ended_ms: None,
            processes: 0,
            events: 0,
            audits: 0,
            denials: 0,
            keys: HashSet::new(),
        })
    }

    fn act(&mut self, process: &Process, verdict: Verdict) {
        self.events += 1;
        self.audits += u64::from(verdict == Verdict::Audit);
        self.denials += u64::from(verdict == Verdict::Deny);
        self.processes += u64::from(self.keys.insert(process.key));
        if self.user.is_none() && process.uid == self.uid {
            self.user.clone_from(&process.user);
        }
    }

    fn end(&mut self, state: SessionState, ended_ms: Option<u64>) {
        if self.state == SessionState::Running {
            self.state = state;
            self.ended_ms = ended_ms;
        }
        self.keys = HashSet::new();
    }

    /// The user by name, else by number.
    #[must_use]
    pub fn user_text(&self) -> String {
        match &self.user {
            Some(user) => safe(user),
            None => self.uid.to_string(),
        }
    }
}

/// Collects sessions from entries that are given in order, oldest first.
#[derive(Debug, Default)]
pub struct Sessions {
    all: Vec<SessionView>,
    places: HashMap<SessionId, usize>,
}

impl Sessions {
    /// Takes the next entry.
    pub fn add(&mut self, entry: &Entry) {
        let wall_ms = entry.time.wall_ms;
        match &entry.body {
            EntryBody::Act { process, verdict, .. } => {
                if let Some(view) = entry.session.and_then(|id| self.of(id)) {
                    view.act(process, *verdict);
                }
            }
            EntryBody::Notice(Notice::SessionEnded { session }) => {
                if let Some(view) = self.of(*session) {
                    view.end(SessionState::Ended, Some(wall_ms));
                }
            }
            // Labels live in the kernel programs of one start.
            EntryBody::Notice(Notice::Started { .. }) => {
                self.all.iter_mut().for_each(|view| view.end(SessionState::Interrupted, None));
            }
            EntryBody::Notice(notice) => {
                if let Some(view) = SessionView::started(notice, wall_ms) {
                    self.places.insert(view.session, self.all.len());
                    self.all.push(view);
                }
            }
        }
    }

    fn of(&mut self, id: SessionId) -> Option<&mut SessionView> {
        self.places.get(&id).and_then(|place| self.all.get_mut(*place))
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn finish(self) -> Vec<SessionView> {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use treeline_event::Action;

    use super::*;
    use crate::view::fixture::{act, notice, session_started, started};

    #[test]
    fn counts_processes_events_and_denials() {
        let session = SessionId(1);
        let mut named = act(session, 6, Some(5), Action::Exec, Verdict::Deny);
        if let EntryBody::Act { process, .. } = &mut named.body {
            std::sync::Arc::make_mut(process).user = Some("u".to_owned());
        }
        let entries = [
            session_started(session, 5),
            act(session, 5, None, Action::Exec, Verdict::Allow),
            named,
            act(session, 6, Some(5), Action::Exec, Verdict::Deny),
            act(session, 6, Some(5), Action::Exec, Verdict::Audit),
            act(SessionId(2), 9, None, Action::Exec, Verdict::Deny),
            notice(Notice::SessionEnded { session }),
        ];
        let mut sessions = Sessions::default();
        entries.iter().for_each(|entry| sessions.add(entry));
        let all = sessions.finish();
        let [view] = all.as_slice() else { panic!("one session: {all:?}") };
        assert_eq!((view.processes, view.events, view.audits, view.denials), (2, 4, 1, 2));
        assert_eq!((view.state, view.ended_ms), (SessionState::Ended, Some(0)));
        assert_eq!((view.user_text().as_str(), view.origin.as_str()), ("u", "run"));
    }

    #[test]
    fn a_sensor_that_starts_again_has_lost_what_ran() {
        let (lost, ended, live) = (SessionId(1), SessionId(2), SessionId(3));
        let entries = [
            session_started(lost, 5),
            session_started(ended, 6),
            notice(Notice::SessionEnded { session: ended }),
            started(),
            session_started(live, 7),
        ];
        let mut sessions = Sessions::default();
        entries.iter().for_each(|entry| sessions.add(entry));
        let states: Vec<_> = sessions.finish().iter().map(|view| view.state).collect();
        assert_eq!(states, [SessionState::Interrupted, SessionState::Ended, SessionState::Running]);
    }
}
