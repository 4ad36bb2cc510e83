//! The list of sessions.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use treeline_event::{Entry, EntryBody, Notice, ProcessKey, SessionId, Verdict};

/// One session in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionView {
    /// Its id.
    pub session: SessionId,
    /// Its root.
    pub root: ProcessKey,
    /// The root's command.
    pub command: Vec<String>,
    /// User id of who asked for it.
    pub uid: u32,
    /// Start, milliseconds since the epoch.
    pub started_ms: u64,
    /// End, milliseconds since the epoch.
    pub ended_ms: Option<u64>,
    /// Processes that acted.
    pub processes: u64,
    /// Entries of its processes.
    pub events: u64,
    /// Refused actions.
    pub denials: u64,
    #[serde(skip)]
    keys: HashSet<ProcessKey>,
}

/// Collects sessions from entries in order, oldest first.
#[must_use]
pub fn sessions<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<SessionView> {
    let mut order = Vec::new();
    let mut all: BTreeMap<SessionId, SessionView> = BTreeMap::new();
    for entry in entries {
        match &entry.body {
            EntryBody::Notice(Notice::SessionStarted { session, root, uid, command, .. }) => {
                order.push(*session);
                all.insert(
                    *session,
                    SessionView {
                        session: *session,
                        root: *root,
                        command: command.clone(),
                        uid: *uid,
                        started_ms: entry.time.wall_ms,
                        ended_ms: None,
                        processes: 0,
                        events: 0,
                        denials: 0,
                        keys: HashSet::new(),
                    },
                );
            }
            EntryBody::Notice(Notice::SessionEnded { session }) => {
                if let Some(view) = all.get_mut(session) {
                    view.ended_ms = Some(entry.time.wall_ms);
                }
            }
            EntryBody::Notice(_) => {}
            EntryBody::Act { process, verdict, .. } => {
                if let Some(view) = entry.session.and_then(|id| all.get_mut(&id)) {
                    view.events += 1;
                    view.denials += u64::from(*verdict == Verdict::Deny);
                    view.processes += u64::from(view.keys.insert(process.key));
                }
            }
        }
    }
    order.iter().filter_map(|id| all.remove(id)).collect()
}

#[cfg(test)]
mod tests {
    use treeline_event::Action;

    use super::*;
    use crate::view::fixture::{act, key, notice};

    #[test]
    fn counts_processes_events_and_denials() {
        let session = SessionId(1);
        let entries = [
            notice(Notice::SessionStarted {
                session,
                root: key(5),
                uid: 7,
                origin: "run".into(),
                command: vec![],
            }),
            act(session, 5, None, Action::Exec, Verdict::Allow),
            act(session, 6, Some(5), Action::Exec, Verdict::Deny),
            act(session, 6, Some(5), Action::Exec, Verdict::Deny),
            act(SessionId(2), 9, None, Action::Exec, Verdict::Deny),
            notice(Notice::SessionEnded { session }),
        ];
        let all = sessions(&entries);
        let [view] = all.as_slice() else { panic!("one session: {all:?}") };
        assert_eq!((view.processes, view.events, view.denials), (2, 3, 2));
        assert_eq!(view.ended_ms, Some(0));
    }
}
