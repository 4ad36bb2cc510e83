//! Which entries are asked for.

use treeline_event::{
    Action, Destination, Entry, EntryBody, Image, Notice, PathBytes, Process, ProcessKey, Verdict,
};
use treeline_policy::glob::{Glob, GlobError};

use super::SessionPrefix;

/// Every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of the session whose id begins so.
    pub session: Option<SessionPrefix>,
    /// Of one of these kinds, when there are any.
    pub kinds: Vec<String>,
    /// With this verdict.
    pub verdict: Option<Verdict>,
    /// Decided by this rule.
    pub rule: Option<String>,
    /// About a file, socket or executable with such a path.
    pub path: Option<PathFilter>,
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

/// Paths that are asked for: a glob as in policies.
#[derive(Clone, Debug)]
pub struct PathFilter {
    glob: Glob,
    /// What `~/` stands for.
    homes: Vec<Vec<u8>>,
}

impl PathFilter {
    /// Reads a glob; `homes` are the directories that `~/` stands for.
    ///
    /// # Errors
    /// As in a policy.
    pub fn parse(text: &str, homes: Vec<Vec<u8>>) -> Result<Self, GlobError> {
        Ok(Self { glob: Glob::parse(text)?, homes })
    }

    fn matches(&self, path: &PathBytes) -> bool {
        self.glob.matches(self.homes.iter().map(Vec::as_slice), path.as_bytes())
    }
}

impl Filter {
    /// Whether the entry is asked for.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        let time_ms = entry.time.wall_ms;
        self.session.is_none_or(|wanted| entry.session.is_some_and(|id| wanted.matches(id)))
            && self.since_ms.is_none_or(|since| time_ms >= since)
            && self.until_ms.is_none_or(|until| time_ms < until)
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == entry.body.kind()))
            && self.path.as_ref().is_none_or(|wanted| paths(entry).any(|path| wanted.matches(path)))
            && self.matches_act(entry)
    }

    fn matches_act(&self, entry: &Entry) -> bool {
        let EntryBody::Act { process, verdict, rule, .. } = &entry.body else {
            let Self { verdict, rule, pid, key, uid, .. } = self;
            return verdict.is_none() && rule.is_none() && pid.or(*uid).is_none() && key.is_none();
        };
        self.verdict.is_none_or(|wanted| *verdict == wanted)
            && self.rule.as_ref().is_none_or(|wanted| rule.as_ref().is_some_and(|hit| hit.rule == *wanted))
            && self.pid.is_none_or(|pid| process.key.pid == pid)
            && self.key.is_none_or(|key| process.key == key)
            && self.uid.is_none_or(|uid| process.uid == uid)
    }
}

/// What an entry is about, by path.
fn paths(entry: &Entry) -> impl Iterator<Item = &PathBytes> {
    let paths = match &entry.body {
        EntryBody::Act { process, action, .. } => of_action(process, action),
        EntryBody::Notice(Notice::ImageHashed { image }) => [Some(&image.path), None],
        EntryBody::Notice(_) => [None, None],
    };
    paths.into_iter().flatten()
}

fn of_action<'a>(process: &'a Process, action: &'a Action) -> [Option<&'a PathBytes>; 2] {
    match action {
        Action::Fork { .. } | Action::Exit { .. } | Action::Tamper { .. } | Action::Trace { .. } => {
            [None, None]
        }
        Action::Exec => {
            let script: Option<&Image> = process.program.script.as_ref();
            [Some(&process.program.image.path), script.map(|script| &script.path)]
        }
        Action::Adopt { file, .. } => [file.as_ref().map(|file| &file.path), None],
        Action::ExecDenied { file }
        | Action::Map { file, .. }
        | Action::Open { file, .. }
        | Action::Create { file, .. }
        | Action::Delete { file, .. }
        | Action::Modify { file, .. }
        | Action::Receive { file, .. } => [Some(&file.path), None],
        Action::Mount { at, source, .. } => [Some(&at.path), Some(source)],
        Action::Rename { from, to, .. } | Action::Link { from, to, .. } => [Some(&from.path), Some(&to.path)],
        Action::Connect { to: Destination::Unix(path), .. } => [Some(path), None],
        Action::Connect { .. } => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use treeline_event::{FileRef, OpenFlags, Outcome, SessionId};

    use super::*;
    use crate::view::fixture::{act, hit, key, notice};

    fn path(glob: &str) -> Option<PathFilter> {
        Some(PathFilter::parse(glob, vec![b"/home/u".to_vec()]).expect("a glob"))
    }

    #[test]
    fn every_condition_must_hold() {
        let file = FileRef { path: "/home/u/.ssh/id".into(), ..FileRef::default() };
        let mut denied =
            act(SessionId(1), 5, None, Action::Delete { file, outcome: Outcome::Ok }, Verdict::Deny);
        if let EntryBody::Act { rule, .. } = &mut denied.body {
            *rule = Some(hit("keys"));
        }
        denied.time.wall_ms = 10;
        let deny = Some(Verdict::Deny);
        let session = |text: &str| Some(text.parse().expect("a prefix"));
        let cases = [
            (Filter::default(), true),
            (Filter { verdict: deny, path: path("/home/u/**"), ..Filter::default() }, true),
            (Filter { verdict: deny, path: path("/etc/**"), ..Filter::default() }, false),
            (Filter { verdict: Some(Verdict::Allow), ..Filter::default() }, false),
            (Filter { pid: Some(5), key: Some(key(5)), uid: Some(1000), ..Filter::default() }, true),
            (Filter { pid: Some(6), ..Filter::default() }, false),
            (Filter { key: Some(key(6)), ..Filter::default() }, false),
            (Filter { uid: Some(1), ..Filter::default() }, false),
            (Filter { session: session("0000000000000001"), ..Filter::default() }, true),
            (Filter { session: session("00"), ..Filter::default() }, true),
            (Filter { session: session("2"), ..Filter::default() }, false),
            (Filter { kinds: vec!["open".into(), "delete".into()], ..Filter::default() }, true),
            (Filter { kinds: vec!["open".into()], ..Filter::default() }, false),
            (Filter { rule: Some("keys".into()), ..Filter::default() }, true),
            (Filter { rule: Some("key".into()), ..Filter::default() }, false),
            (Filter { since_ms: Some(10), until_ms: Some(11), ..Filter::default() }, true),
            (Filter { since_ms: Some(11), ..Filter::default() }, false),
            (Filter { until_ms: Some(10), ..Filter::default() }, false),
        ];
        for (filter, expect) in cases {
            assert_eq!(filter.matches(&denied), expect, "{filter:?}");
        }
        let stopped = notice(Notice::Stopped { reason: String::new() });
        assert!(Filter::default().matches(&stopped));
        for filter in [
            Filter { pid: Some(1), ..Filter::default() },
            Filter { verdict: deny, ..Filter::default() },
            Filter { rule: Some("keys".into()), ..Filter::default() },
            Filter { path: path("/**"), ..Filter::default() },
            Filter { session: session("0"), ..Filter::default() },
        ] {
            assert!(!filter.matches(&stopped), "{filter:?}");
        }
    }

    #[track_caller]
    fn check_path(action: Action, glob: &str, expect: bool) {
        let entry = act(SessionId(1), 5, None, action, Verdict::Allow);
        let filter = Filter { path: path(glob), ..Filter::default() };
        assert_eq!(filter.matches(&entry), expect, "{glob}");
    }

    #[test]
    fn paths_are_globs_as_in_policies() {
        let file = |path: &str| FileRef { path: path.into(), ..FileRef::default() };
        let open = |path: &str| Action::Open {
            file: file(path),
            flags: OpenFlags(0),
            outcome: Outcome::Ok,
            count: 1,
        };
        check_path(open("/home/u/.ssh/id"), "~/.ssh/*", true);
        check_path(open("/home/u/.ssh/id"), "/home/u/.ssh", false);
        check_path(open("/srv/a/.env"), "**/.env", true);
        check_path(open("/srv/a/.env"), "/srv/*/.e*", true);
        let renamed = || Action::Rename { from: file("/a"), to: file("/b"), outcome: Outcome::Ok };
        check_path(renamed(), "/a", true);
        check_path(renamed(), "/b", true);
        check_path(renamed(), "/c", false);
        check_path(Action::Exec, "/usr/bin/cat", true);
        check_path(Action::Exit { code: Some(0), signal: None }, "/**", false);
        let to = Destination::Unix("/run/docker.sock".into());
        check_path(Action::Connect { to, outcome: Outcome::Ok }, "/run/*.sock", true);
        let image = Image { path: "/usr/bin/cat".into(), ..Image::default() };
        let filter = Filter { path: path("/usr/bin/*"), ..Filter::default() };
        assert!(filter.matches(&notice(Notice::ImageHashed { image })));
        assert!(PathFilter::parse("relative", vec![]).is_err());
    }
}
