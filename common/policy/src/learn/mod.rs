//! The tightest policy that recorded sessions would have passed.
//!
//! [`Learner`] reads entries as a replay does ([`crate::replay`]) and keeps what was asked, by whom and how often. From
//! that it makes patterns, no wider than a bound that the author gives and the kernel's tables need, and of them a text:
//! `defaults` that refuse or record everything, and rules that allow what was seen.
//!
//! Invariants: what a policy protects is never allowed, whatever was done; a replay of what was learned over what it was learned
//! from refuses nothing but what it says it leaves out; without any one of its patterns something more is refused. What comes
//! out depends on what was done, and not on the order in which it was.

mod abstracts;
mod addresses;
mod ends;
mod few;
mod index;
mod left;
mod pattern;
mod place;
mod seen;
mod shape;
mod text;
mod told;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use treeline_event::{Entry, EntryBody, Notice, Verdict};

pub use self::left::Why;
use self::{
    left::Left,
    pattern::{Made, Making},
    seen::{Act, Acts, Facts, Known, Program, Sessions, Thing, program},
    text::Writing,
    told::Told,
    tree::Level,
};
use crate::{
    compile::{Target, compile},
    eval::{eval, rule_matches},
    glob::Wild,
    host::{Host, MountTable},
    parse::parse,
    policy::Policy,
    replay::{Doubt, History, Past, Step},
    request::{Lineage, Object, Request, Subject},
    source::{Source, TEXT_LEN_MAX},
    syntax::{Unformatted, format},
};

/// Different things by different programs, some 300 bytes each.
const ACTS_MAX: usize = 1 << 18;
/// Names with `*` or `?` that patterns may have: the kernel holds 64, and some are for libraries.
const WILDS_MAX: usize = 56;

/// A kind that has a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Reading of files.
    Read,
    /// Every other operation on files.
    Write,
    /// Execution.
    Exec,
    /// Connects to addresses.
    Connect,
    /// Connects to unix sockets.
    Unix,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Exec, Self::Connect, Self::Unix];

    /// Its word in `defaults`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Exec => "exec",
            Self::Connect => "connect",
            Self::Unix => "unix",
        }
    }

    /// What a session did, for a sentence.
    fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "changed",
            Self::Exec => "executed",
            Self::Connect | Self::Unix => "connected to",
        }
    }
}

/// What is to be learned.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the policy.
    pub name: String,
    /// Whether what was not seen is refused; otherwise it is recorded.
    pub enforces: bool,
    /// Which kinds.
    pub kinds: BTreeSet<Kind>,
    /// Entries of a directory from which on it stands for them, at least 2.
    pub siblings: usize,
}

/// A learned policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Its text, in canonical form.
    pub text: String,
    /// Patterns that it allows.
    pub patterns: usize,
    /// It is wider than was asked for, because the kernel's tables do not hold it otherwise.
    pub is_widened: bool,
    /// Different things that were done and are not allowed, by the reason.
    pub left: BTreeMap<Why, usize>,
}

/// Why nothing was learned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLearned {
    /// There is nothing to learn from.
    #[error("nothing of these kinds was recorded in the sessions that were asked for")]
    Nothing,
    /// There is too much.
    #[error("more than {ACTS_MAX} different things were done; learn from fewer sessions or kinds")]
    TooMuch,
    /// It cannot be made small enough.
    #[error(
        "a policy for this has no room in the kernel's tables, however it is generalised; learn from fewer sessions or kinds. {0}"
    )]
    NoRoom(String),
    /// What was made is no policy. This is never to happen.
    #[error("what was learned is no valid policy; this is an error of Treeline: {0}")]
    Invalid(String),
}

/// Reads entries and keeps what was done.
pub struct Learner<'l> {
    options: &'l Options,
    protected: &'l Policy,
    host: &'l Host,
    history: History,
    acts: Acts,
    has_too_much: bool,
    left: Left,
    told: Told,
    /// What is protected from whom. Agents use the same files over and over.
    verdicts: HashMap<Act, Protection>,
}

/// From whom a rule protects something, by its place.
#[derive(Clone, Copy, Debug)]
enum Protection {
    None,
    /// From who did it.
    FromHim(usize),
    /// From others: who did it has an exception.
    FromOthers(usize),
}

impl fmt::Debug for Learner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Learner").field("acts", &self.acts.len()).finish_non_exhaustive()
    }
}

impl<'l> Learner<'l> {
    /// Nothing yet. What `protected` refuses is never learned; `host` says what `~/` stands for.
    #[must_use]
    pub fn new(options: &'l Options, protected: &'l Policy, host: &'l Host) -> Self {
        Self {
            options,
            protected,
            host,
            history: History::default(),
            acts: Acts::new(),
            has_too_much: false,
            left: Left::default(),
            told: Told::default(),
            verdicts: HashMap::new(),
        }
    }

    /// Takes the next entry, and learns from it.
    pub fn take(&mut self, entry: &Entry) {
        self.told.entries += 1;
        match &entry.body {
            EntryBody::Notice(Notice::Started { mode, .. }) => self.told.attached(*mode),
            EntryBody::Notice(Notice::Lost { count, .. }) => {
                self.told.lost = self.told.lost.saturating_add(*count);
            }
            _ => {}
        }
        if let Step::Acted(past) = self.history.take(entry) {
            self.act(&past);
        }
    }

    /// Takes the next entry as one that was not asked for: what comes after it may be of the same processes.
    pub fn pass(&mut self, entry: &Entry) {
        if let EntryBody::Notice(Notice::Started { mode, .. }) = &entry.body {
            self.told.attached(*mode);
        }
        self.history.take(entry);
    }

    fn act(&mut self, past: &Past) {
        if let Some(session) = past.session {
            self.told.sessions.add(session);
        }
        let by = program(&past.who);
        for asked in &past.asked {
            let things = Thing::of(&asked.object).into_iter();
            let things: Vec<Thing> =
                things.filter(|thing| self.options.kinds.contains(&thing.kind())).collect();
            if things.is_empty() {
                continue;
            }
            for doubt in &asked.doubts {
                *self.told.doubts.entry(*doubt).or_default() += past.times;
            }
            if asked.doubts.contains(&Doubt::Unresolved) {
                continue;
            }
            things.into_iter().for_each(|thing| self.keep(past, Act { thing, by: by.clone() }));
        }
    }

    fn keep(&mut self, past: &Past, act: Act) {
        let mut sessions = Sessions::default();
        past.session.iter().for_each(|session| sessions.add(*session));
        let mut known = Known { times: past.times, sessions, kept_from_others: None };
        // What somebody had to approve of is not what sessions do.
        if past.then.verdict == Verdict::Deny || past.then.approved {
            let rule = past.then.rule.clone().unwrap_or_default();
            let why = if past.then.approved { Why::Approved(rule) } else { Why::Refused(rule) };
            self.left.add(why, &act.thing, &Facts::of(&act, &known));
            return;
        }
        match self.protection(&act) {
            Protection::FromHim(rule) => {
                let why = Why::Protected(self.protected.rules[rule].id.clone());
                self.left.add(why, &act.thing, &Facts::of(&act, &known));
                return;
            }
            Protection::FromOthers(rule) => known.kept_from_others = Some(rule),
            Protection::None => {}
        }
        if self.acts.len() >= ACTS_MAX && !self.acts.contains_key(&act) {
            self.has_too_much = true;
            return;
        }
        let of_act = self.acts.entry(act).or_default();
        of_act.times = of_act.times.saturating_add(known.times);
        of_act.sessions.merge(&known.sessions);
        of_act.kept_from_others = known.kept_from_others;
    }

    /// Whom a thing is protected from.
    fn protection(&mut self, act: &Act) -> Protection {
        if let Some(known) = self.verdicts.get(act) {
            return *known;
        }
        let object = act.thing.object();
        let found = match self.protected.rules.iter().any(|rule| rule_matches(rule, self.host, &object)) {
            true => match (self.refused_by(object.clone(), &act.by), self.refused_by(object, &None)) {
                (Some(rule), _) => Protection::FromHim(rule),
                (None, Some(rule)) => Protection::FromOthers(rule),
                (None, None) => Protection::None,
            },
            // Nearly everything: then it does not matter who asks.
            false => Protection::None,
        };
        if self.verdicts.len() >= ACTS_MAX {
            self.verdicts.clear();
        }
        self.verdicts.insert(act.clone(), found);
        found
    }

    /// The rule that refuses this. What cannot be told of the lineage counts, so that the answer is the same wherever it is.
    fn refused_by(&self, object: Object, by: &Program) -> Option<usize> {
        let executable = by.as_ref().map(|by| by.to_vec()).unwrap_or_default();
        let lineage = Lineage::default();
        let subject = Subject { executable, loads_code: by.is_none(), lineage, ..Subject::default() };
        let request = Request { subject, object };
        let decision = eval(self.protected, self.host, &request);
        decision.rule.filter(|_| decision.verdict == Verdict::Deny)
    }

    /// The policy. `is_roots` says of a program's path whether only root can put a file there; `hosts` are machines that it
    /// has to fit.
    ///
    /// # Errors
    /// There is nothing to learn from, or too much.
    pub fn finish(mut self, hosts: &[Host], is_roots: &dyn Fn(&[u8]) -> bool) -> Result<Learned, NotLearned> {
        if self.has_too_much {
            return Err(NotLearned::TooMuch);
        }
        if self.acts.is_empty() {
            return Err(NotLearned::Nothing);
        }
        let acts = std::mem::take(&mut self.acts);
        let (protected, host, kinds) = (self.protected, self.host, &self.options.kinds);
        let making = Making { acts: &acts, protected, host, kinds, is_roots };
        let mut problem = String::new();
        for step in 0..LEVELS {
            let made = making.make(&level(&making, self.options.siblings, step));
            match self.fitting(&acts, &made, step > 0, hosts)? {
                Ok(learned) => return Ok(learned),
                Err(full) => problem = full,
            }
        }
        Err(NotLearned::NoRoom(problem))
    }

    /// What was made as a policy, or what of it the kernel has no room for.
    fn fitting(
        &self,
        acts: &Acts,
        made: &Made,
        is_widened: bool,
        hosts: &[Host],
    ) -> Result<Result<Learned, String>, NotLearned> {
        let mut left = self.left.clone();
        let mut leave = |why: Why, act: &Act| {
            if let Some(known) = acts.get(act) {
                left.add(why, &act.thing, &Facts::of(act, known));
            }
        };
        made.unnameable.iter().for_each(|act| leave(Why::Unnameable, act));
        for (act, rule) in &made.protected {
            leave(Why::Protected(self.protected.rules[*rule].id.clone()), act);
        }
        let writing = Writing { options: self.options, told: &self.told, left: &left, is_widened };
        let text = writing.write(&made.patterns);
        let too_long = |bytes: usize| Ok(Err(format!("It would have {bytes} bytes.")));
        if text.len() > TEXT_LEN_MAX {
            return too_long(text.len());
        }
        let text = match format(&Source::new("learned", &text)) {
            Ok(text) => text,
            Err(Unformatted::TooLong(bytes)) => return too_long(bytes),
            Err(other) => return Err(NotLearned::Invalid(other.to_string())),
        };
        let policy = parse("learned", &text).map_err(|found| NotLearned::Invalid(found.render(false)))?;
        for host in std::iter::once(self.host).chain(hosts) {
            let target = Target { seed: 0, generation: 1, slot: 0 };
            if let Err(full) = compile(&policy, host, &MountTable::single(1), target) {
                return Ok(Err(full.items().first().map(|item| item.message.clone()).unwrap_or_default()));
            }
        }
        Ok(Ok(Learned { text, patterns: made.patterns.len(), is_widened, left: left.counts() }))
    }
}

/// How often it is tried.
const LEVELS: usize = 4;

/// How far things are generalised at a try: as asked for; with as many names as there is room for; with smaller
/// directories; with `*` for every name that is not one.
fn level(making: &Making<'_>, siblings: usize, step: usize) -> Level {
    let exact = Level { siblings: siblings.max(2), kept: None };
    match step {
        0 => exact,
        1 | 2 => {
            let mut counts: BTreeMap<Wild, u64> = BTreeMap::new();
            for pattern in making.make(&exact).patterns {
                for wild in pattern.wilds() {
                    let count = counts.entry(wild.clone()).or_default();
                    *count = count.saturating_add(pattern.facts.things as u64);
                }
            }
            let mut wilds: Vec<(Wild, u64)> = counts.into_iter().collect();
            wilds.sort_by(|one, other| (other.1, &one.0).cmp(&(one.1, &other.0)));
            let kept = wilds.into_iter().take(WILDS_MAX).map(|(wild, _)| wild).collect();
            let siblings = if step == 1 { exact.siblings } else { (exact.siblings / 2).max(2) };
            Level { siblings, kept: Some(kept) }
        }
        _ => Level { siblings: 2, kept: Some(BTreeSet::new()) },
    }
}
