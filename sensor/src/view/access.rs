//! Who may see which entries.

use std::collections::HashSet;

use treeline_event::{Entry, EntryBody, Notice, SessionId};

/// Lets through the entries that one user may see: those of the user's own sessions, and statements about the sensor
/// as a whole that hold nothing private. Must be given the entries in order, from the first.
#[derive(Debug, Default)]
pub struct Access {
    only_uid: Option<u32>,
    own: HashSet<SessionId>,
}

impl Access {
    /// For `only_uid`, or for everything.
    #[must_use]
    pub fn new(only_uid: Option<u32>) -> Self {
        Self { only_uid, own: HashSet::new() }
    }

    /// Whether the entry may be seen.
    pub fn allows(&mut self, entry: &Entry) -> bool {
        let Some(only_uid) = self.only_uid else { return true };
        let notice = match &entry.body {
            EntryBody::Act { .. } => return entry.session.is_some_and(|id| self.own.contains(&id)),
            EntryBody::Notice(notice) => notice,
        };
        match notice {
            Notice::SessionStarted { session, uid, .. } => {
                if *uid == only_uid {
                    self.own.insert(*session);
                }
                *uid == only_uid
            }
            Notice::SessionEnded { session } => self.own.contains(session),
            Notice::Started { .. }
            | Notice::Stopped { .. }
            | Notice::PolicyApplied { .. }
            | Notice::PolicyRejected { .. }
            | Notice::Lost { .. } => true,
            // An image's path tells what others run, and so may the text of what was malformed.
            Notice::ImageHashed { .. } | Notice::Malformed { .. } => {
                entry.session.is_some_and(|id| self.own.contains(&id))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use treeline_event::{Action, ProcessKey, Verdict};

    use super::*;
    use crate::view::fixture::{act, notice};

    #[test]
    fn only_the_own_sessions_are_seen() {
        let (own, other) = (SessionId(1), SessionId(2));
        let root = ProcessKey::default();
        let started = |session, uid| {
            notice(Notice::SessionStarted { session, root, uid, origin: "run".into(), command: vec![] })
        };
        let exec = |session| act(session, 5, None, Action::Exec, Verdict::Allow);
        let hashed = notice(Notice::ImageHashed { image: treeline_event::Image::default() });
        let lost =
            Notice::Lost { kind: "open".into(), site: "ring".into(), count: 1, first_ns: 0, last_ns: 0 };
        let cases = [
            (exec(own), false),
            (started(own, 1000), true),
            (started(other, 1001), false),
            (exec(own), true),
            (exec(other), false),
            (hashed, false),
            (notice(lost), true),
            (notice(Notice::SessionEnded { session: other }), false),
            (notice(Notice::SessionEnded { session: own }), true),
        ];
        let (mut access, mut root) = (Access::new(Some(1000)), Access::new(None));
        for (at, (entry, expect)) in cases.iter().enumerate() {
            assert_eq!(access.allows(entry), *expect, "case {at}");
            assert!(root.allows(entry), "case {at}");
        }
    }
}
