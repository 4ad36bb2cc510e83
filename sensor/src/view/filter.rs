//! Which entries are asked for.

use treeline_event::{Action, Destination, Entry, EntryBody, PathBytes, ProcessKey, SessionId, Verdict};

/// Every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this session.
    pub session: Option<SessionId>,
    /// Of one of these kinds, when there are any.
    pub kinds: Vec<String>,
    /// With this verdict.
    pub verdict: Option<Verdict>,
    /// Decided by this rule.
    pub rule: Option<String>,
    /// About a file or socket whose path begins so.
    pub path: Option<String>,
    /// Of a process with this pid.
    pub pid: Option<u32>,
    /// Of this process.
    pub key: Option<ProcessKey>,
    /// Of a process with this real user id.
    pub uid: Option<u32>,
    /// Not before, milliseconds since the epoch.
    pub since_ms: Option<u64>,
    /// Before, milliseconds since the epoch.
    pub until_ms: Option<u64>,
}

impl Filter {
    /// Whether the entry is asked for.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        let time_ms = entry.time.wall_ms;
        self.session.is_none_or(|id| entry.session == Some(id))
            && self.since_ms.is_none_or(|since| time_ms >= since)
            && self.until_ms.is_none_or(|until| time_ms < until)
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == entry.body.kind()))
            && self.matches_act(entry)
    }

    fn matches_act(&self, entry: &Entry) -> bool {
        let EntryBody::Act { process, action, verdict, rule, .. } = &entry.body else {
            let Self { verdict, rule, path, pid, key, uid, .. } = self;
            return verdict.is_none()
                && rule.is_none()
                && path.is_none()
                && pid.or(*uid).is_none()
                && key.is_none();
        };
        let begins =
            |prefix: &String| paths(action).iter().any(|path| path.as_bytes().starts_with(prefix.as_bytes()));
        self.verdict.is_none_or(|wanted| *verdict == wanted)
            && self.rule.as_ref().is_none_or(|wanted| rule.as_ref().is_some_and(|hit| hit.rule == *wanted))
            && self.path.as_ref().is_none_or(begins)
            && self.pid.is_none_or(|pid| process.key.pid == pid)
            && self.key.is_none_or(|key| process.key == key)
            && self.uid.is_none_or(|uid| process.uid == uid)
    }
}

/// What an action is about, by path.
fn paths(action: &Action) -> Vec<&PathBytes> {
    match action {
        Action::Fork { .. } | Action::Exec | Action::Exit { .. } => vec![],
        Action::ExecDenied { file }
        | Action::Open { file, .. }
        | Action::Create { file, .. }
        | Action::Delete { file, .. }
        | Action::Modify { file, .. } => vec![&file.path],
        Action::Rename { from, to, .. } | Action::Link { from, to, .. } => vec![&from.path, &to.path],
        Action::Connect { to: Destination::Unix(path), .. } => vec![path],
        Action::Connect { .. } => vec![],
    }
}

#[cfg(test)]
mod tests {
    use treeline_event::{FileRef, Notice, Outcome};

    use super::*;
    use crate::view::fixture::{act, key, notice};

    #[test]
    fn every_condition_must_hold() {
        let file = FileRef { path: "/home/u/.ssh/id".into(), ..FileRef::default() };
        let denied = act(SessionId(1), 5, None, Action::Delete { file, outcome: Outcome::Ok }, Verdict::Deny);
        let check = |filter: Filter, expect| assert_eq!(filter.matches(&denied), expect, "{filter:?}");
        check(Filter::default(), true);
        check(
            Filter { verdict: Some(Verdict::Deny), path: Some("/home/u/".into()), ..Filter::default() },
            true,
        );
        check(Filter { verdict: Some(Verdict::Deny), path: Some("/etc".into()), ..Filter::default() }, false);
        check(Filter { pid: Some(5), key: Some(key(5)), uid: Some(1000), ..Filter::default() }, true);
        check(Filter { pid: Some(6), ..Filter::default() }, false);
        check(Filter { session: Some(SessionId(2)), ..Filter::default() }, false);
        check(Filter { kinds: vec!["open".into(), "delete".into()], ..Filter::default() }, true);
        check(Filter { kinds: vec!["open".into()], ..Filter::default() }, false);
        check(Filter { rule: Some("x".into()), ..Filter::default() }, false);
        check(Filter { since_ms: Some(1), ..Filter::default() }, false);
        check(Filter { until_ms: Some(1), ..Filter::default() }, true);
        let stopped = notice(Notice::Stopped { reason: String::new() });
        assert!(Filter::default().matches(&stopped));
        assert!(!Filter { pid: Some(1), ..Filter::default() }.matches(&stopped));
    }
}
