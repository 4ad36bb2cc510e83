//! One session in full.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Serialize;
use treeline_event::{
    Action, AttachMode, Claims, Entry, EntryBody, Group, Notice, PathBytes, Process, ProcessKey, RuleHit,
    SessionAttributes, SessionId, Verdict,
};

use super::{
    PickError, SessionPrefix,
    line::line,
    sessions::{SessionState, SessionView, Sessions},
    text::{command_line, safe},
    time::utc,
};
use crate::{daemon::status::LossCount, enrich::table::is_unknown};

/// Refusals that are listed; `events --session ID --denied` has all.
const REFUSALS_MAX: usize = 200;

/// A session, what it was under, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct SessionDetail {
    /// In numbers.
    #[serde(flatten)]
    pub summary: SessionView,
    /// What the root executed first.
    pub executable: Option<PathBytes>,
    /// With these arguments.
    pub argv: Vec<PathBytes>,
    /// In this directory.
    pub cwd: Option<PathBytes>,
    /// How the sensor was attached.
    pub mode: Option<AttachMode>,
    /// The policies that were in force, oldest first.
    pub policies: Vec<PolicyUsed>,
    /// Its entries by kind.
    pub kinds: BTreeMap<String, u64>,
    /// The first refusals.
    pub refusals: Vec<Refusal>,
    /// Refusals that are not listed.
    pub refusals_left_off: u64,
    /// What the sensor lost meanwhile, of this session or another, by site and kind.
    pub loss: Vec<LossCount>,
}

/// A policy that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyUsed {
    /// Its generation.
    pub generation: u64,
    /// Its name.
    pub name: String,
    /// SHA-256 of its text.
    pub sha256: String,
}

/// A refused action.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// Index of its entry.
    pub index: u64,
    /// When, milliseconds since the epoch.
    pub time_ms: u64,
    /// Who.
    pub process: ProcessKey,
    /// What it ran.
    pub executable: PathBytes,
    /// What it tried.
    pub action: Action,
    /// The rule and its reason.
    pub rule: Option<RuleHit>,
    #[serde(skip)]
    line: String,
}

/// Looks for one session in entries that are given in order, oldest first.
#[derive(Debug)]
pub struct SessionSearch {
    wanted: SessionPrefix,
    ids: BTreeSet<SessionId>,
    sessions: Sessions,
    mode: Option<AttachMode>,
    policy: Option<PolicyUsed>,
    found: Option<Found>,
}

/// The first session that begins as wanted.
#[derive(Debug)]
struct Found {
    session: SessionId,
    root: ProcessKey,
    over: bool,
    program: Option<(PathBytes, Vec<PathBytes>, PathBytes)>,
    /// `program` is what it is remembered for: what a launched root executed first, or an adopted one ran.
    settled: bool,
    adopted: bool,
    mode: Option<AttachMode>,
    policies: Vec<PolicyUsed>,
    kinds: BTreeMap<String, u64>,
    refusals: Vec<Refusal>,
    refusals_left_off: u64,
    loss: BTreeMap<(String, String), u64>,
}

impl SessionSearch {
    /// Begins a search.
    #[must_use]
    pub fn new(wanted: SessionPrefix) -> Self {
        let (ids, sessions) = (BTreeSet::new(), Sessions::default());
        Self { wanted, ids, sessions, mode: None, policy: None, found: None }
    }

    /// Takes the next entry.
    pub fn add(&mut self, entry: &Entry) {
        match &entry.body {
            EntryBody::Notice(notice) => self.notice(notice),
            EntryBody::Act { .. } => {
                if let Some(found) = &mut self.found
                    && entry.session == Some(found.session)
                {
                    found.act(entry);
                }
            }
        }
        // Only what is about sessions that may be meant costs memory.
        if entry.session.is_none_or(|id| self.wanted.matches(id)) {
            self.sessions.add(entry);
        }
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Started { mode, .. } => {
                self.mode = Some(*mode);
                self.policy = None;
                self.found.iter_mut().for_each(|found| found.over = true);
            }
            Notice::PolicyApplied { generation, name, sha256, .. } => {
                let policy =
                    PolicyUsed { generation: *generation, name: name.clone(), sha256: sha256.clone() };
                if let Some(found) = self.found.as_mut().filter(|found| !found.over) {
                    found.policies.push(policy.clone());
                }
                self.policy = Some(policy);
            }
            Notice::SessionStarted { session, root, origin, .. } if self.wanted.matches(*session) => {
                self.ids.insert(*session);
                let (mode, policies) = (self.mode, self.policy.iter().cloned().collect());
                self.found.get_or_insert_with(|| Found {
                    session: *session,
                    root: *root,
                    over: false,
                    program: None,
                    settled: false,
                    adopted: origin == "adopt",
                    mode,
                    policies,
                    kinds: BTreeMap::new(),
                    refusals: vec![],
                    refusals_left_off: 0,
                    loss: BTreeMap::new(),
                });
            }
            Notice::SessionEnded { session } => {
                let ended = self.found.iter_mut().filter(|found| found.session == *session);
                ended.for_each(|found| found.over = true);
            }
            Notice::Lost { kind, site, count, .. } => {
                if let Some(found) = self.found.as_mut().filter(|found| !found.over) {
                    *found.loss.entry((site.clone(), kind.clone())).or_default() += count;
                }
            }
            _ => {}
        }
    }

    /// What was found.
    ///
    /// # Errors
    /// No session begins so, or several do.
    pub fn finish(self) -> Result<SessionDetail, PickError> {
        let session = self.wanted.pick(self.ids)?;
        let summary = self.sessions.finish().into_iter().find(|view| view.session == session);
        let (Some(summary), Some(found)) = (summary, self.found) else {
            return Err(PickError::Unknown(self.wanted));
        };
        let (executable, argv, cwd) = match found.program {
            Some((executable, argv, cwd)) => (Some(executable), argv, Some(cwd)),
            None => (None, vec![], None),
        };
        let loss = found.loss.into_iter().map(|((site, kind), count)| LossCount { site, kind, count });
        Ok(SessionDetail {
            summary,
            executable,
            argv,
            cwd,
            mode: found.mode,
            policies: found.policies,
            kinds: found.kinds,
            refusals: found.refusals,
            refusals_left_off: found.refusals_left_off,
            loss: loss.collect(),
        })
    }
}

impl Found {
    fn act(&mut self, entry: &Entry) {
        let EntryBody::Act { process, action, verdict, rule, .. } = &entry.body else { return };
        *self.kinds.entry(entry.body.kind().to_owned()).or_default() += 1;
        if process.key == self.root && !self.settled && !is_unknown(process) {
            self.settled = self.adopted || *action == Action::Exec;
            let program = &process.program;
            self.program = Some((program.image.path.clone(), program.argv.clone(), program.cwd.clone()));
        }
        if *verdict == Verdict::Deny {
            self.refuse(entry, process, action, rule.as_deref());
        }
    }

    fn refuse(&mut self, entry: &Entry, process: &Process, action: &Action, rule: Option<&RuleHit>) {
        if self.refusals.len() >= REFUSALS_MAX {
            self.refusals_left_off += 1;
            return;
        }
        self.refusals.push(Refusal {
            index: entry.index,
            time_ms: entry.time.wall_ms,
            process: process.key,
            executable: process.program.image.path.clone(),
            action: action.clone(),
            rule: rule.cloned(),
            line: line(entry, false),
        });
    }
}

impl SessionDetail {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write_header(&mut out);
        let SessionView { processes, events, audits, denials, .. } = &self.summary;
        let _ = writeln!(out, "events      {events} of {processes} processes");
        for (kind, count) in &self.kinds {
            let _ = writeln!(out, "  {count:>8}  {kind}");
        }
        let _ = writeln!(out, "audited     {audits}");
        let _ = writeln!(out, "refused     {denials}");
        for refusal in &self.refusals {
            let _ = writeln!(out, "  {}", refusal.line.trim_start());
        }
        if self.refusals_left_off > 0 {
            let (left_off, session) = (self.refusals_left_off, self.summary.session);
            let _ = writeln!(out, "  and {left_off} more: `treeline events --session {session} --denied`");
        }
        if self.loss.is_empty() {
            let _ = writeln!(out, "lost        nothing");
        }
        for LossCount { site, kind, count } in &self.loss {
            let _ = writeln!(out, "lost        {count} {} at {}", safe(kind), safe(site));
        }
        out
    }

    fn write_header(&self, out: &mut String) {
        let summary = &self.summary;
        let _ = writeln!(out, "session     {}", summary.session);
        let unseen = if summary.state == SessionState::Interrupted {
            " (the sensor ended before it; what came then was not seen)"
        } else {
            ""
        };
        let _ = writeln!(out, "state       {}{unseen}", summary.state);
        let _ = writeln!(out, "started     {}", utc(summary.started_ms));
        if let Some(ended_ms) = summary.ended_ms {
            let _ = writeln!(out, "ended       {}", utc(ended_ms));
        }
        let user = summary.user.as_ref().map(|user| format!(" ({})", safe(user)));
        let _ = writeln!(out, "user        {}{}", summary.uid, user.unwrap_or_default());
        write_attributes(&summary.attributes, out);
        let _ = writeln!(out, "root        {}, by `{}`", summary.root, safe(&summary.origin));
        let _ = writeln!(out, "command     {}", command_line(&summary.command));
        if let (Some(executable), Some(cwd)) = (&self.executable, &self.cwd) {
            let _ = writeln!(out, "executable  {executable}");
            let _ = writeln!(out, "argv        {}", command_line(&self.argv));
            let _ = writeln!(out, "cwd         {cwd}");
        }
        let mode = self.mode.map_or_else(|| "not known".to_owned(), |mode| mode.to_string());
        let _ = writeln!(out, "mode        {mode}");
        if self.policies.is_empty() {
            let _ = writeln!(out, "policy      none, nothing was refused");
        }
        for PolicyUsed { generation, name, sha256 } in &self.policies {
            let (name, sha256) = (safe(name), safe(sha256));
            let _ = writeln!(out, "policy      {name}, generation {generation}, sha256 {sha256}");
        }
    }
}

/// What is known of a session, and what it says of itself.
fn write_attributes(attributes: &SessionAttributes, out: &mut String) {
    let SessionAttributes { within, uid, user: _, groups, claims } = attributes;
    if let Some(outer) = within {
        let uid = uid.map_or_else(|| "somebody".to_owned(), |uid| uid.to_string());
        let _ = writeln!(out, "within      session {outer}, as which it counts: of user {uid}");
    }
    if let Some(groups) = groups {
        let name = |group: &Group| group.name.as_deref().map_or_else(|| group.gid.to_string(), safe);
        let groups: Vec<String> = groups.iter().map(name).collect();
        let _ = writeln!(out, "groups      {}", groups.join(", "));
    }
    let Claims { agent, entry_point, repositories } = claims;
    let claimed = [("agent", agent.as_ref()), ("entry point", entry_point.as_ref())];
    let claimed = claimed.into_iter().filter_map(|(what, text)| Some((what, safe(text?))));
    let remotes = repositories.iter().flatten().map(|remote| ("repository", safe(remote)));
    let claimed: Vec<String> = claimed.chain(remotes).map(|(what, text)| format!("{what} {text}")).collect();
    if !claimed.is_empty() {
        let _ = writeln!(out, "claims      {}", claimed.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixture::{self, act, hit, notice, session_started};

    fn search(entries: &[Entry], wanted: &str) -> Result<SessionDetail, PickError> {
        let mut search = SessionSearch::new(wanted.parse().expect("a prefix"));
        entries.iter().for_each(|entry| search.add(entry));
        search.finish()
    }

    fn lost(count: u64) -> Entry {
        let (kind, site) = ("open".to_owned(), "ring".to_owned());
        notice(Notice::Lost { kind, site, count, first_ns: 0, last_ns: 0 })
    }

    fn policy(generation: u64) -> Entry {
        let (name, sha256) = ("p".to_owned(), "ab".to_owned());
        notice(Notice::PolicyApplied {
            generation,
            name,
            sha256,
            revision: None,
            signed_by: None,
            parts: vec![],
            rules: vec![],
        })
    }

    fn denied(session: SessionId) -> Entry {
        let mut entry = act(session, 6, Some(5), Action::Exec, Verdict::Deny);
        if let EntryBody::Act { rule, .. } = &mut entry.body {
            *rule = Some(hit("keys"));
        }
        entry
    }

    #[test]
    fn what_it_was_under_and_what_came_of_it() {
        let session = SessionId(0x10aa_0000_0000_0001);
        let entries = [
            fixture::started(),
            policy(1),
            lost(100),
            session_started(session, 5),
            session_started(SessionId(0x10ab_0000_0000_0001), 8),
            act(session, 5, None, Action::Fork { creator: fixture::key(5) }, Verdict::Allow),
            act(session, 5, None, Action::Exec, Verdict::Allow),
            denied(session),
            denied(SessionId(2)),
            policy(2),
            lost(3),
            lost(4),
            notice(Notice::SessionEnded { session }),
            lost(100),
            policy(3),
        ];
        let view = search(&entries, "10aa").expect("the one");
        let generations: Vec<_> = view.policies.iter().map(|policy| policy.generation).collect();
        assert_eq!(generations, [1, 2]);
        assert_eq!((view.kinds["exec"], view.kinds["fork"], view.refusals.len()), (2, 1, 1));
        let text = view.text();
        for part in [
            "state       ended",
            "mode        fallback",
            "executable  /usr/bin/cat\nargv        cat x",
            "policy      p, generation 2, sha256 ab",
            "events      3 of 2 processes",
            "       2  exec",
            "[keys: Because.]",
            "lost        7 open at ring",
        ] {
            assert!(text.contains(part), "`{part}` is not in:\n{text}");
        }
        assert!(matches!(search(&entries, "10a"), Err(PickError::Ambiguous { .. })));
        assert!(matches!(search(&entries, "f"), Err(PickError::Unknown(_))));
    }

    #[test]
    fn refusals_beyond_the_bound_are_counted() {
        let session = SessionId(1);
        let mut entries = vec![session_started(session, 5)];
        entries.extend((0..REFUSALS_MAX + 3).map(|_| denied(session)));
        let view = search(&entries, "0000000000000001").expect("the one");
        assert_eq!((view.refusals.len(), view.refusals_left_off), (REFUSALS_MAX, 3));
        let text = view.text();
        assert!(text.contains("and 3 more: `treeline events --session 0000000000000001 --denied`"), "{text}");
        assert!(text.contains("policy      none") && text.contains("lost        nothing"), "{text}");
    }
}
