//! A replay, entry by entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use treeline_abi::paths::Operation;
use treeline_event::{Entry, EntryBody, FileId, Image, Mode, Notice, SessionId, Verdict};

use super::{
    Certainty, Doubt, History, Lost, Past, Report, RuleReport, Step, Sum, Vanished,
    judge::{Judge, Judged},
    tally::{Named, Span, Tally},
};
use crate::{
    host::Host,
    policy::{Kind, Policy, Rule},
    request::Object,
};

/// Actions that wait for the content of a file, some 500 bytes each. One more is judged without it.
const WAITING_MAX: usize = 8192;
/// Rules of then that are told apart; a policy has 1022.
const VANISHED_MAX: usize = 4096;
/// Kinds and sites of loss that are told apart.
const LOST_MAX: usize = 64;
/// Sessions that are counted, 8 bytes each.
const SESSIONS_MAX: usize = 1 << 20;

/// Decides what entries recorded, one after the other. Memory is bounded, whatever the length of the log.
#[derive(Debug)]
pub struct Replay<'p> {
    policy: &'p Policy,
    history: History,
    judge: Judge<'p>,
    asks_for_content: bool,
    /// Execs of files whose content an entry has yet to say.
    waiting: HashMap<FileId, Vec<Past>>,
    waiting_count: usize,
    tallies: Vec<Tally>,
    vanished: BTreeMap<(String, Verdict), Gone>,
    /// Objects by doubt, and by the bit of [`Kind::operations`] that a rule has to have to be about one.
    doubted: BTreeMap<(Doubt, u32), u64>,
    lost: BTreeMap<(String, String), u64>,
    sessions: BTreeSet<SessionId>,
    sums: Sums,
}

/// What a rule did then.
#[derive(Debug, Default)]
struct Gone {
    allowed: Sum,
    recorded: Sum,
    untold: Sum,
    span: Span,
}

/// The totals of a report.
#[derive(Debug, Default)]
struct Sums {
    entries: u64,
    first_ms: Option<u64>,
    last_ms: Option<u64>,
    asked: Sum,
    lineage_unseen: Sum,
    failed: Sum,
    own: u64,
    would_deny: Sum,
    would_record: Sum,
    new_denials: Sum,
    records_to_denials: Sum,
    vanished_denials: Sum,
    untold_denials: Sum,
}

impl<'p> Replay<'p> {
    /// Nothing yet. `host` says what `~/` stands for.
    #[must_use]
    pub fn new(policy: &'p Policy, host: &'p Host) -> Self {
        let judge = Judge::new(policy, host);
        Self {
            policy,
            history: History::default(),
            asks_for_content: judge.asks_for_content(),
            judge,
            waiting: HashMap::new(),
            waiting_count: 0,
            tallies: policy.rules.iter().map(|_| Tally::default()).collect(),
            vanished: BTreeMap::new(),
            doubted: BTreeMap::new(),
            lost: BTreeMap::new(),
            sessions: BTreeSet::new(),
            sums: Sums::default(),
        }
    }

    /// Takes the next entry, and counts it.
    pub fn take(&mut self, entry: &Entry) {
        let time = Some(entry.time.wall_ms);
        self.sums.entries += 1;
        self.sums.first_ms = self.sums.first_ms.min(time).or(time);
        self.sums.last_ms = self.sums.last_ms.max(time);
        if let EntryBody::Notice(Notice::Lost { kind, site, count, .. }) = &entry.body {
            let key = (kind.clone(), site.clone());
            if self.lost.len() < LOST_MAX || self.lost.contains_key(&key) {
                let sum = self.lost.entry(key).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
        match self.history.take(entry) {
            Step::Acted(past) => self.act(*past),
            Step::Own => self.sums.own += 1,
            Step::Content(image) => self.content(&image),
            Step::Other => {}
        }
    }

    /// Takes the next entry as one that was not asked for: what comes after it may be of the same processes.
    pub fn pass(&mut self, entry: &Entry) {
        if let Step::Content(image) = self.history.take(entry) {
            self.content(&image);
        }
    }

    fn act(&mut self, mut past: Past) {
        if !self.asks_for_content {
            past.asked.iter_mut().for_each(|asked| asked.doubts.retain(|doubt| *doubt != Doubt::Content));
        }
        if self.sessions.len() < SESSIONS_MAX {
            self.sessions.extend(past.session);
        }
        if past.failed {
            self.sums.failed.add(past.times);
            return;
        }
        let pending = past.pending().filter(|_| self.asks_for_content);
        if let Some(file) = pending
            && self.waiting_count < WAITING_MAX
        {
            self.waiting_count += 1;
            self.waiting.entry(file).or_default().push(past);
            return;
        }
        self.count(&past);
    }

    /// Judges what waited for a file. Its hash, or that it has none, is now known.
    fn content(&mut self, image: &Image) {
        for mut past in self.waiting.remove(&image.file).unwrap_or_default() {
            self.waiting_count -= 1;
            past.learn(image);
            // What runs a script may have to be waited for, too.
            self.act(past);
        }
    }

    fn count(&mut self, past: &Past) {
        self.sums.asked.add(past.times);
        if !past.who.has_whole_lineage() {
            self.sums.lineage_unseen.add(past.times);
        }
        for asked in &past.asked {
            for doubt in &asked.doubts {
                let count = self.doubted.entry((*doubt, bit(&asked.object))).or_default();
                *count = count.saturating_add(past.times);
            }
        }
        let judged = self.judge.judge(past, self.history.contents());
        self.compare(past, &judged);
        if let Some(rule) = judged.decision.rule {
            self.tallies[rule].add(past, &judged);
        }
        for (allows, object) in &judged.let_through_by {
            self.tallies[*allows].let_through(past, *object);
        }
    }

    /// Counts how the decision differs from that of then.
    fn compare(&mut self, past: &Past, judged: &Judged) {
        let (then, now) = (past.then.verdict, judged.decision.verdict);
        let sums = &mut self.sums;
        match now {
            Verdict::Deny => sums.would_deny.add(past.times),
            Verdict::Audit => sums.would_record.add(past.times),
            Verdict::Allow => {}
        }
        match (then, now) {
            (Verdict::Allow, Verdict::Deny) => sums.new_denials.add(past.times),
            (Verdict::Audit, Verdict::Deny) if past.then.mode != Some(Mode::Enforce) => {
                sums.records_to_denials.add(past.times);
            }
            _ if then > now => self.vanish(past, judged),
            _ => {}
        }
    }

    fn vanish(&mut self, past: &Past, judged: &Judged) {
        let id = past.then.rule.clone().unwrap_or_default();
        let rule = self.policy.rule(&id);
        // What the hooks saw and the log does not have: a rule that is still there may have been asked that. By a name it
        // was judged then, too.
        let mut doubts = past.asked.iter().flat_map(|asked| &asked.doubts);
        let is_untold = rule.is_some() && doubts.any(|doubt| *doubt != Doubt::AsNamed);
        if past.then.verdict == Verdict::Deny {
            let sum = if is_untold { &mut self.sums.untold_denials } else { &mut self.sums.vanished_denials };
            sum.add(past.times);
        }
        let key = (id, past.then.verdict);
        if self.vanished.len() >= VANISHED_MAX && !self.vanished.contains_key(&key) {
            return;
        }
        let gone = self.vanished.entry(key).or_default();
        let sum = match judged.decision.verdict {
            _ if is_untold => &mut gone.untold,
            Verdict::Allow => &mut gone.allowed,
            Verdict::Audit | Verdict::Deny => &mut gone.recorded,
        };
        sum.add(past.times);
        gone.span.add(past, past.asked.first().map(|asked| &asked.object));
    }

    /// What came of it. Contents that no entry has said by now are not known.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let waiting = std::mem::take(&mut self.waiting);
        for past in waiting.into_values().flatten() {
            self.count(&past);
        }
        let Sums { entries, first_ms, last_ms, asked, lineage_unseen, failed, own, .. } = self.sums;
        let Sums { would_deny, would_record, new_denials, records_to_denials, .. } = self.sums;
        let Sums { vanished_denials, untold_denials, .. } = self.sums;
        let mut doubts: BTreeMap<Doubt, u64> = BTreeMap::new();
        for ((doubt, _), count) in &self.doubted {
            let sum = doubts.entry(*doubt).or_default();
            *sum = sum.saturating_add(*count);
        }
        let lost = self.lost.into_iter().map(|((kind, site), count)| Lost { kind, site, count });
        let rules = self.policy.rules.iter().zip(self.tallies);
        let vanished = self.vanished.into_iter().map(|((rule, verdict), gone)| {
            let is_there = self.policy.rule(&rule).is_some();
            gone.report(rule, verdict, is_there)
        });
        Report {
            policy: self.policy.name.clone(),
            entries,
            sessions: self.sessions.len(),
            first_ms,
            last_ms,
            asked,
            lineage_unseen,
            failed,
            own,
            would_deny,
            would_record,
            new_denials,
            records_to_denials,
            vanished_denials,
            untold_denials,
            doubts,
            lost: lost.collect(),
            rules: rules.map(|(rule, tally)| report(rule, tally, &self.doubted)).collect(),
            vanished: vanished.collect(),
        }
    }
}

impl Gone {
    fn report(self, rule: String, verdict: Verdict, is_there: bool) -> Vanished {
        let Self { allowed, recorded, untold, span } = self;
        let (first_ms, last_ms) = (span.first_ms, span.last_ms);
        let Named { sessions, sessions_more, objects } = span.named();
        Vanished {
            rule,
            verdict,
            is_there,
            allowed,
            recorded,
            untold,
            sessions,
            sessions_more,
            objects,
            first_ms,
            last_ms,
        }
    }
}

fn report(rule: &Rule, tally: Tally, doubted: &BTreeMap<(Doubt, u32), u64>) -> RuleReport {
    let ancestries = tally.ancestries();
    let Tally { sum, then, span, doubted: counted, by_unknown, .. } = tally;
    let untold = Doubt::ALL.into_iter().filter_map(|doubt| {
        let all = doubted.iter().filter(|((of, bit), _)| *of == doubt && concerns(rule, doubt) & bit != 0);
        let all = all.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
        let rest = all.saturating_sub(counted.get(&doubt).copied().unwrap_or(0));
        (rest > 0).then_some((doubt, rest))
    });
    let certainty = Certainty {
        untold: untold.collect(),
        doubted: counted,
        by_unknown,
        mappings_unseen: matches!(rule.kind, Kind::Exec { .. }),
        calls_unseen: rule.kind.is_for_the_sensor(),
    };
    let (first_ms, last_ms) = (span.first_ms, span.last_ms);
    let Named { sessions, sessions_more, objects } = span.named();
    RuleReport {
        rule: rule.id.clone(),
        mode: (!rule.allows).then_some(rule.mode),
        allows: rule.allows,
        sum,
        then,
        sessions,
        sessions_more,
        objects,
        ancestries,
        first_ms,
        last_ms,
        certainty,
    }
}

/// The bit of [`Kind::operations`] that is about an object; none for what has no path.
fn bit(object: &Object) -> u32 {
    match object {
        Object::File { operation, .. } => 1 << *operation as u32,
        Object::Exec { .. } => 1 << Operation::EXEC,
        Object::ConnectUnix { .. } => 1 << Operation::CONNECT,
        _ => 0,
    }
}

/// The operations of a rule that a doubt is about.
fn concerns(rule: &Rule, doubt: Doubt) -> u32 {
    let has_content = matches!(&rule.kind, Kind::Exec { sha256, .. } if !sha256.is_empty());
    let is_about = match doubt {
        Doubt::AsNamed | Doubt::Unresolved => !rule.kind.globs().is_empty(),
        Doubt::Above => matches!(rule.kind, Kind::File { .. }),
        Doubt::Content => has_content,
    };
    if is_about { rule.kind.operations() } else { 0 }
}
