//! From an observation to events.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    path::Path,
    sync::Arc,
};

use treeline_event::{
    Action, AdoptedBy, Body, Event, Notice, Process, ProcessKey, RuleHit, SessionId, Subject, Verdict,
};

use super::{
    clock::{Clock, WallClock},
    config::Config,
    fold::Folds,
    hash::Hasher,
    lookup::Lookup,
    names::{Users, tty},
    procfs::ProcFs,
    table::{ANCESTRY_LEN_MAX, Table, unknown},
};
use crate::backend::{ExecSeen, Observation, Seen};

/// Generations whose rules are remembered: records of an old one may still be in a ring when the next is in force.
const GENERATIONS_MAX: usize = 4;
/// How long a session without processes stays open: an exit may overtake the fork of a last child.
const SESSION_LINGER_NS: u64 = 500_000_000;
/// Members that are looked up in /proc per tick, to notice those whose exit record was lost.
const SWEEP_COUNT: usize = 128;
/// Ended sessions that are remembered: far more than can end while a record is on its way.
const ENDED_MAX: usize = 64;
/// How often the cache of hashes is written, nanoseconds.
const SAVE_INTERVAL_NS: u64 = 60_000_000_000;

/// From observations to events. One thread owns it.
pub struct Enricher {
    wall: WallClock,
    look: Lookup,
    table: Table,
    folds: Folds,
    rules: VecDeque<(u64, Vec<Arc<RuleHit>>)>,
    /// Open sessions and since when they have had no member, 0 while they have.
    sessions: HashMap<SessionId, u64>,
    sweep: Vec<ProcessKey>,
    /// Members that the last sweep did not find.
    missing: HashSet<ProcessKey>,
    /// Sessions that ended last, so that a late record does not end one twice.
    ended: VecDeque<SessionId>,
    live: bool,
    saved_ns: u64,
}

impl Enricher {
    /// Loads the known hashes and starts the hashing threads.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(config: &Config, clock: Box<dyn Clock>) -> io::Result<Self> {
        let wall = WallClock::new(clock);
        let look = Lookup {
            proc: ProcFs::new(&config.proc),
            users: Users::default(),
            hasher: Hasher::start(config)?,
        };
        Ok(Self {
            saved_ns: wall.now_ns(),
            wall,
            look,
            table: Table::new(config.processes_max),
            folds: Folds::new(config.fold_window_ns, config.folds_max),
            rules: VecDeque::new(),
            sessions: HashMap::new(),
            sweep: Vec::new(),
            missing: HashSet::new(),
            ended: VecDeque::new(),
            live: config.live,
        })
    }

    /// Says which rules the indices of a generation mean.
    pub fn policy_applied(&mut self, generation: u64, rules: Vec<Arc<RuleHit>>) {
        self.rules.retain(|(known, _)| *known != generation);
        self.rules.push_front((generation, rules));
        self.rules.truncate(GENERATIONS_MAX);
    }

    /// Orders the hash of a file before a session needs it.
    ///
    /// # Errors
    /// It cannot be found or is not a regular file.
    pub fn prehash(&mut self, path: &Path) -> io::Result<()> {
        self.look.hasher.prehash(path)
    }

    /// Seeds the process table with the root of a session, for an adopted one its other members, and their ancestors
    /// back to pid 1. What /proc no longer shows becomes a gap.
    pub fn session_started(&mut self, session: SessionId, root: ProcessKey, members: &[ProcessKey]) {
        self.sessions.insert(session, 0);
        for key in std::iter::once(&root).chain(members) {
            self.backfill(*key, Some(session));
        }
    }

    /// A process, alive or just exited, and its ancestry.
    #[must_use]
    pub fn subject(&self, key: ProcessKey) -> Option<Subject> {
        self.table.find(key).map(|process| self.table.subject(Arc::clone(process)))
    }

    /// As [`Self::subject`], for whoever of the known processes had this pid last.
    #[must_use]
    pub fn subject_by_pid(&self, pid: u32) -> Option<Subject> {
        self.table.by_pid(pid).map(|process| self.table.subject(Arc::clone(process)))
    }

    /// The session of a process.
    #[must_use]
    pub fn session_of(&self, key: ProcessKey) -> Option<SessionId> {
        self.table.session(key)
    }

    /// The live processes of sessions.
    pub fn members(&self) -> impl Iterator<Item = ProcessKey> + '_ {
        self.table.members()
    }

    /// A statement of the sensor as an event of now.
    #[must_use]
    pub fn notice(&self, notice: Notice) -> Event {
        let session = match &notice {
            Notice::SessionStarted { session, .. }
            | Notice::SessionEnded { session }
            | Notice::ApprovalEnded { session, .. } => Some(*session),
            Notice::Approved { approval, .. } => Some(approval.session),
            Notice::ApprovalRefused { session, .. } => *session,
            _ => None,
        };
        Event { time: self.wall.timestamp(self.wall.now_ns()), session, body: Body::Notice(notice) }
    }

    /// Takes an observation; pushes the events that it makes known, oldest first.
    pub fn observe(&mut self, observation: Observation, events: &mut Vec<Event>) {
        if !self.ended.contains(&observation.session) {
            self.sessions.entry(observation.session).or_insert(0);
        }
        let subject = self.known(observation.subject, observation.subject_start_ns, observation.session);
        let (key, time_ns, session) = (observation.subject, observation.time_ns, observation.session);
        let rule = self.rule(&observation);
        let (process, action) = match observation.seen {
            Seen::Fork { child, child_start_ns } => {
                let forked = Process {
                    key: child,
                    parent: Some(key),
                    started_ns: child_start_ns,
                    ..(*subject).clone()
                };
                let forked = Arc::new(forked);
                self.table.put(Arc::clone(&forked), Some(session));
                (forked, Action::Fork { creator: key })
            }
            Seen::Exec(seen) => {
                self.folds.end(key, events);
                (self.exec(&subject, *seen, time_ns, session), Action::Exec)
            }
            Seen::Exit { wait_status } => {
                self.folds.end(key, events);
                self.table.exit(key, time_ns);
                (subject, exit(wait_status))
            }
            Seen::Act(action) => {
                let process = match *action {
                    Action::Adopt { by, link, .. } => self.adopted(subject, by, link, session),
                    _ => subject,
                };
                (process, *action)
            }
        };
        let foldable = observation.verdict == Verdict::Allow && matches!(action, Action::Open { .. });
        let subject = self.table.subject(process);
        let body = Body::Act { subject, action, verdict: observation.verdict, rule };
        let event = Event { time: self.wall.timestamp(time_ns), session: Some(session), body };
        if foldable {
            self.folds.offer(event, events);
        } else {
            events.push(event);
        }
    }

    /// A process that ended before it could be looked up has nothing but its creator, which the record names.
    fn adopted(
        &mut self,
        process: Arc<Process>,
        by: ProcessKey,
        link: AdoptedBy,
        session: SessionId,
    ) -> Arc<Process> {
        if link == AdoptedBy::Trace || process.parent.is_some() {
            return process;
        }
        self.backfill(by, None);
        let creator = self.table.find(by).cloned();
        let program = creator.map_or_else(|| Arc::clone(&process.program), |by| Arc::clone(&by.program));
        let with_creator = Process { parent: Some(by), program, ..(*process).clone() };
        self.table.put(Arc::new(with_creator), Some(session));
        self.table.find(process.key).cloned().unwrap_or(process)
    }

    fn exec(&mut self, before: &Process, seen: ExecSeen, time_ns: u64, session: SessionId) -> Arc<Process> {
        let (uid, euid, gid) = (seen.uid, seen.euid, seen.gid);
        let process = Arc::new(Process {
            key: before.key,
            parent: before.parent,
            uid,
            euid,
            gid,
            user: self.look.users.name(uid),
            tty: tty(seen.tty),
            program: Arc::new(self.look.exec(before.key.pid, seen, time_ns)),
            started_ns: before.started_ns,
        });
        self.table.put(Arc::clone(&process), Some(session));
        process
    }

    fn rule(&self, observation: &Observation) -> Option<Arc<RuleHit>> {
        if let Seen::Act(action) = &observation.seen
            && matches!(**action, Action::Tamper { .. })
        {
            return Some(Arc::new(RuleHit {
                rule: treeline_event::SELF_RULE.to_owned(),
                reason: "the sensor protects itself".to_owned(),
                mode: match observation.verdict {
                    Verdict::Deny => treeline_event::Mode::Enforce,
                    _ => treeline_event::Mode::Monitor,
                },
                policy: String::new(),
                generation: observation.generation,
                remedy: None,
                link: None,
                approvable_s: None,
                approved: false,
            }));
        }
        let index = observation.rule?;
        let generation = self.rules.iter().find(|(generation, _)| *generation == observation.generation);
        let known = generation.and_then(|(_, rules)| rules.get(usize::try_from(index).ok()?));
        if observation.approved {
            return known.map(|hit| Arc::new(RuleHit { approved: true, ..RuleHit::clone(hit) }));
        }
        Some(known.cloned().unwrap_or_else(|| {
            Arc::new(RuleHit {
                rule: format!("#{index}"),
                reason: "a rule of a policy generation that the sensor no longer knows".to_owned(),
                mode: if observation.verdict == Verdict::Deny {
                    treeline_event::Mode::Enforce
                } else {
                    treeline_event::Mode::Monitor
                },
                policy: String::new(),
                generation: observation.generation,
                remedy: None,
                link: None,
                approvable_s: None,
                approved: false,
            })
        }))
    }

    /// The subject, from the table or, when its fork record was lost, from what can be found out.
    fn known(&mut self, key: ProcessKey, start_ns: u64, session: SessionId) -> Arc<Process> {
        if self.table.session(key).is_none() {
            self.backfill(key, Some(session));
        }
        let Some(process) = self.table.find(key).cloned() else {
            return Arc::new(Process { started_ns: start_ns, ..unknown(key) });
        };
        if process.started_ns == start_ns || start_ns == 0 {
            return process;
        }
        let exact = Arc::new(Process { started_ns: start_ns, ..(*process).clone() });
        self.table.put(Arc::clone(&exact), Some(session));
        exact
    }

    /// Puts a process and its ancestors into the table, the eldest first. Ancestors outside every session are read anew:
    /// nothing tells when they exec.
    fn backfill(&mut self, key: ProcessKey, session: Option<SessionId>) {
        let mut chain = Vec::new();
        let mut next = Some(key);
        while let Some(key) = next.filter(|_| chain.len() < ANCESTRY_LEN_MAX) {
            let tracked = self.table.session(key).is_some();
            let process = match self.table.find(key) {
                Some(process) if tracked => Arc::clone(process),
                known => {
                    let known = known.cloned();
                    match (self.look.process(key), known) {
                        (Some(fresh), _) => Arc::new(fresh),
                        (None, Some(known)) => known,
                        (None, None) if chain.is_empty() => Arc::new(unknown(key)),
                        // Ancestry marks a missing link by itself.
                        (None, None) => break,
                    }
                }
            };
            next = process.parent;
            chain.push(process);
            if tracked {
                break;
            }
        }
        for process in chain.into_iter().rev() {
            let session = session.filter(|_| process.key == key);
            self.table.put(process, session);
        }
    }

    /// What time brings: finished hashes, ended folding windows, ended sessions, losses of the enricher's own. To be
    /// called some ten times a second.
    pub fn tick(&mut self, events: &mut Vec<Event>) {
        self.wall.sample();
        let now_ns = self.wall.now_ns();
        self.folds.expire(now_ns, events);
        let hashed = self.look.hasher.finished();
        if !hashed.is_empty() {
            self.table.fill(&hashed);
        }
        events.extend(hashed.into_iter().map(|image| self.notice(Notice::ImageHashed { image })));
        if self.live {
            self.sweep(now_ns);
        }
        self.table.expire(now_ns);
        self.end_sessions(now_ns, SESSION_LINGER_NS, events);
        let losses =
            [("process", "table", self.table.overflow()), ("hash", "queue", self.look.hasher.refused())];
        for (kind, site, count) in losses.into_iter().filter(|(_, _, count)| *count > 0) {
            let (kind, site) = (kind.to_owned(), site.to_owned());
            let lost = Notice::Lost { kind, site, count, first_ns: now_ns, last_ns: now_ns };
            events.push(self.notice(lost));
        }
        if now_ns.saturating_sub(self.saved_ns) >= SAVE_INTERVAL_NS {
            self.saved_ns = now_ns;
            self.look.hasher.save_soon();
        }
    }

    /// The last events before the sensor stops.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        self.tick(events);
        self.folds.end_all(events);
        // Nothing can come any more that a session without members would have to wait for.
        self.end_sessions(self.wall.now_ns(), 0, events);
        if let Err(error) = self.look.hasher.save() {
            tracing::warn!(%error, "cannot write the cache of hashes; they will be computed again");
        }
    }

    /// A member that two sweeps in a row do not find has ended without a record.
    fn sweep(&mut self, now_ns: u64) {
        if self.sweep.is_empty() {
            self.sweep = self.table.members().collect();
            self.missing.retain(|key| self.table.find(*key).is_some());
        }
        let rest = self.sweep.len().saturating_sub(SWEEP_COUNT);
        for key in self.sweep.split_off(rest) {
            if self.look.proc.alive(key) {
                self.missing.remove(&key);
            } else if !self.missing.insert(key) {
                self.missing.remove(&key);
                self.table.exit(key, now_ns);
            }
        }
    }

    fn end_sessions(&mut self, now_ns: u64, linger_ns: u64, events: &mut Vec<Event>) {
        let live = self.table.live_sessions();
        let mut ended = Vec::new();
        for (session, empty_ns) in &mut self.sessions {
            if live.contains(session) {
                *empty_ns = 0;
                continue;
            }
            if *empty_ns == 0 {
                *empty_ns = now_ns.max(1);
            }
            if now_ns.saturating_sub(*empty_ns) >= linger_ns {
                ended.push(*session);
            }
        }
        for session in ended {
            self.sessions.remove(&session);
            self.ended.push_front(session);
            self.ended.truncate(ENDED_MAX);
            events.push(self.notice(Notice::SessionEnded { session }));
        }
    }
}

/// From a status as wait(2) has it.
fn exit(wait_status: u32) -> Action {
    let signal = wait_status & 0x7f;
    let code = (wait_status >> 8) & 0xff;
    if signal == 0 {
        Action::Exit { code: Some(code.cast_signed()), signal: None }
    } else {
        Action::Exit { code: None, signal: Some(signal.cast_signed()) }
    }
}

#[cfg(test)]
mod tests;
