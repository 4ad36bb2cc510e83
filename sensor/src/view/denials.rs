//! What was refused, why, and what to do next.

use std::{collections::VecDeque, fmt::Write as _};

use serde::Serialize;
use treeline_event::{Action, Entry, EntryBody, PathBytes, ProcessKey, RuleHit, SessionId, Verdict};
use treeline_policy::{
    Period,
    approvable::{Approvable, approvable},
};

use super::{line, text::safe, time::utc};

/// One refused action.
#[derive(Clone, Debug, Serialize)]
pub struct Denial {
    /// Index of its entry.
    pub index: u64,
    /// When, milliseconds since the epoch.
    pub time_ms: u64,
    /// In which session.
    pub session: Option<SessionId>,
    /// Who.
    pub process: ProcessKey,
    /// What it ran.
    pub executable: PathBytes,
    /// What it tried.
    pub action: Action,
    /// The rule, its reason, and what it says to do instead.
    pub rule: Option<RuleHit>,
    /// The command by which somebody can approve of it, for as long as the policy lets them.
    pub approve: Option<String>,
    /// Why nobody can, where the rule could be approved of.
    pub not_approvable: Option<String>,
    #[serde(skip)]
    what: String,
}

impl Denial {
    /// What an entry says was refused, if it says so.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<Self> {
        let EntryBody::Act { process, action, verdict: Verdict::Deny, rule, .. } = &entry.body else {
            return None;
        };
        let could_be = approvable(process, action);
        let longest = rule.as_ref().and_then(|hit| Period::of_seconds(hit.approvable_s?));
        let approve = longest.filter(|_| could_be.is_ok() && entry.cut.is_none());
        let what = match &could_be {
            Ok(Approvable { objects, .. }) => {
                let objects: Vec<String> = objects.iter().map(ToString::to_string).collect();
                objects.join(" and ")
            }
            Err(_) => format!("{} {}", entry.body.kind(), line::object(process, action)),
        };
        Some(Self {
            index: entry.index,
            time_ms: entry.time.wall_ms,
            session: entry.session,
            process: process.key,
            executable: process.program.image.path.clone(),
            action: action.clone(),
            rule: rule.as_deref().cloned(),
            approve: approve.map(|longest| format!("treeline approve {} --for {longest}", entry.index)),
            not_approvable: longest.and_then(|_| could_be.err()).map(|error| error.to_string()),
            what,
        })
    }

    /// The same where nobody can approve any more: its session has ended.
    #[must_use]
    pub fn of_the_past(self) -> Self {
        Self { approve: None, not_approvable: None, ..self }
    }

    /// Whether it is the same as another one but for the time and the process: agents try again.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let of = |one: &Self| (one.session, one.what.clone(), one.executable.clone());
        let rule = |one: &Self| one.rule.as_ref().map(|hit| hit.rule.clone());
        of(self) == of(other) && rule(self) == rule(other)
    }

    /// For people; texts are escaped.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { index, time_ms, session, executable, what, rule, approve, not_approvable, .. } = self;
        let session = session.map_or_else(String::new, |session| format!("  session {session}"));
        let mut out = format!("{index:>8}  {}{session}  {executable}: {}\n", utc(*time_ms), safe(what));
        if let Some(RuleHit { rule, reason, remedy, link, .. }) = rule {
            let _ = writeln!(out, "          refused by `{}`: {}", safe(rule), safe(reason.trim_end()));
            if let Some(remedy) = remedy {
                let _ = writeln!(out, "          instead: {}", safe(remedy.trim_end()));
            }
            if let Some(link) = link {
                let _ = writeln!(out, "          more: {}", safe(link));
            }
        }
        if let Some(command) = approve {
            let _ = writeln!(out, "          who may, can approve of it: {command}");
        }
        if let Some(why) = not_approvable {
            let _ = writeln!(out, "          it cannot be approved of: {}", safe(why));
        }
        out
    }
}

/// The last denials of many entries, those that are alike once.
#[derive(Debug)]
pub struct Denials {
    max: usize,
    kept: VecDeque<(Denial, u64)>,
    count: u64,
}

impl Denials {
    /// At most so many, the last ones.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), kept: VecDeque::new(), count: 0 }
    }

    /// Takes the next entry.
    pub fn add(&mut self, entry: &Entry) {
        let Some(denial) = Denial::of(entry) else { return };
        self.count += 1;
        let before = self.kept.iter().position(|(kept, _)| kept.is_like(&denial));
        // The latest can be approved of for longest: its object is there.
        let times = before.and_then(|at| self.kept.remove(at)).map_or(0, |(_, times)| times);
        self.kept.push_back((denial, times + 1));
        if self.kept.len() > self.max {
            self.kept.pop_front();
        }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Those that are kept, each with how often it was tried, the oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &(Denial, u64)> {
        self.kept.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use treeline_event::{FileId, FileRef, OpenFlags, Outcome};

    use super::*;
    use crate::view::fixture::{act, hit};

    const SESSION: SessionId = SessionId(0x5b42_809d_3306_317a);

    fn denial(index: u64, path: &str, approvable_s: Option<u32>) -> Entry {
        let id = Some(FileId { inode: 7, ..FileId::default() });
        let file = FileRef { path: path.into(), id, ..FileRef::default() };
        let action = Action::Open { file, flags: OpenFlags(0), outcome: Outcome::Errno(1), count: 1 };
        let mut entry = act(SESSION, 6, Some(5), action, Verdict::Deny);
        entry.index = index;
        if let EntryBody::Act { process, rule, .. } = &mut entry.body {
            Arc::make_mut(&mut Arc::make_mut(process).program).image.file.inode = 9;
            *rule = Some(Arc::new(RuleHit {
                approvable_s,
                remedy: Some("Ask\u{1b}.".to_owned()),
                link: Some("https://x".to_owned()),
                ..RuleHit::clone(&hit("keys"))
            }));
        }
        entry
    }

    #[test]
    fn a_denial_says_why_and_what_to_do_next() {
        let text = |entry: &Entry| Denial::of(entry).expect("a denial").text();
        let with = text(&denial(4, "/k", Some(1800)));
        for words in [
            "       4  ",
            "session 5b42809d3306317a",
            ": read /k\n",
            "refused by `keys`: Because.",
            "instead: Ask\\u{1b}.",
            "more: https://x",
            "treeline approve 4 --for 30m",
        ] {
            assert!(with.contains(words), "{words}: {with}");
        }
        assert!(!text(&denial(4, "/k", None)).contains("approve"));
        let unresolved = text(&denial(4, "memfd:k", Some(60)));
        assert!(unresolved.contains("cannot be approved of: the file's own path"), "{unresolved}");
        let allowed = act(SESSION, 6, None, Action::Exec, Verdict::Audit);
        assert!(Denial::of(&allowed).is_none());
    }

    #[test]
    fn what_is_alike_is_shown_once_by_its_latest() {
        let mut denials = Denials::new(2);
        for (index, path) in [(1, "/a"), (2, "/b"), (3, "/a"), (4, "/c")] {
            denials.add(&denial(index, path, None));
        }
        let kept: Vec<_> = denials.kept().map(|(denial, times)| (denial.index, *times)).collect();
        assert_eq!((denials.count(), kept), (4, vec![(3, 2), (4, 1)]));
    }
}
