//! What `treeline status` shows.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use treeline_event::{AttachMode, HookStatus, Notice, PolicyPart, ProcessKey, RuleStatus, SessionId};

use crate::backend::{KindCount, ProgramRuns};

/// The state of a running sensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the sensor.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How it is attached.
    pub mode: AttachMode,
    /// Release of the kernel.
    pub kernel: String,
    /// Every hook and what became of it.
    pub hooks: Vec<HookStatus>,
    /// The policy in force.
    pub policy: Option<PolicyStatus>,
    /// Why the latest replacement was refused, until one is accepted.
    pub policy_refused: Option<String>,
    /// Sessions with live processes.
    pub sessions: Vec<SessionStatus>,
    /// The log.
    pub log: LogStatus,
    /// Actions that were refused since the start.
    pub denied: u64,
    /// What was lost since the start, by site and kind.
    pub loss: Vec<LossCount>,
    /// Deliveries that wait for the pipeline.
    pub queued: usize,
    /// Records of the kernel programs, by kind, since programs were first put in force here: those of the daemons before
    /// count, of other versions, too, unless their counters are laid out in another way, which the log says then.
    /// `created = read + lost` once nothing is on its way.
    pub records: Vec<RecordCount>,
    /// Runs of the kernel programs, counted and timed while the kernel does it (`sysctl kernel.bpf_stats_enabled=1`).
    #[serde(default)]
    pub programs: Vec<ProgramRunCount>,
}

/// A policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Its generation.
    pub generation: u64,
    /// Its name.
    pub name: String,
    /// SHA-256 of its text.
    pub sha256: String,
    /// The revision that its author gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The key that signed it, as `NAME+ID`, where signatures are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// What it consists of, where several policies hold together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PolicyPart>,
    /// What each rule amounts to here.
    pub rules: Vec<RuleStatus>,
}

impl PolicyStatus {
    /// What the log says when it is put in force.
    #[must_use]
    pub fn applied(self) -> Notice {
        let Self { generation, name, sha256, revision, signed_by, parts, rules } = self;
        Notice::PolicyApplied { generation, name, sha256, revision, signed_by, parts, rules }
    }
}

/// A session with live processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Which.
    pub session: SessionId,
    /// Who asked for it.
    pub uid: u32,
    /// `run`, `claude` or `adopt`.
    pub origin: String,
    /// What was to run.
    pub command: Vec<String>,
    /// Its root.
    pub root: ProcessKey,
    /// Processes that live, as far as they were seen.
    pub live: usize,
}

/// The log's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Its directory.
    pub dir: String,
    /// Entries.
    pub size: u64,
    /// Entries that a signed checkpoint covers.
    pub signed_size: u64,
    /// Entries that wait in memory because the log does not take them.
    pub waiting: usize,
    /// Why the log does not take entries, while it does not.
    pub trouble: Option<String>,
}

/// How many records of a kind there were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCount {
    /// Kind of record.
    pub kind: String,
    /// What hooks set out to send.
    pub created: u64,
    /// What sensors read. Before this daemon's start: what was not lost.
    pub read: u64,
    /// What found no room in a ring.
    pub lost: u64,
}

impl From<KindCount> for RecordCount {
    fn from(KindCount { kind, created, read, lost }: KindCount) -> Self {
        Self { kind: kind.to_owned(), created, read, lost }
    }
}

/// How often a kernel program ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRunCount {
    /// Where it is attached.
    pub hook: String,
    /// Runs while the kernel measured them.
    pub runs: u64,
    /// How long these took in all, nanoseconds.
    pub run_ns: u64,
    /// Runs that the kernel left out.
    pub left_out: u64,
}

impl From<ProgramRuns> for ProgramRunCount {
    fn from(ProgramRuns { hook, runs, run_ns, left_out }: ProgramRuns) -> Self {
        Self { hook, runs, run_ns, left_out }
    }
}

/// How much was lost somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossCount {
    /// Where.
    pub site: String,
    /// Kind of record.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// Counts by site and kind.
type LossCounts = BTreeMap<(String, String), u64>;

/// The status as the threads keep it.
#[derive(Debug)]
pub struct Board {
    status: Mutex<(Status, LossCounts)>,
}

impl Board {
    /// Begins with what is known at the start.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self { status: Mutex::new((status, BTreeMap::new())) }
    }

    fn lock(&self) -> MutexGuard<'_, (Status, LossCounts)> {
        // Every change is one assignment; a panic elsewhere leaves nothing half done.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the status.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock().0);
    }

    /// Counts loss.
    pub fn count_loss(&self, site: &str, kind: &str, count: u64) {
        *self.lock().1.entry((site.to_owned(), kind.to_owned())).or_default() += count;
    }

    /// The status now.
    #[must_use]
    pub fn snapshot(&self) -> Status {
        let guard = self.lock();
        let mut status = guard.0.clone();
        status.loss = guard
            .1
            .iter()
            .map(|((site, kind), count)| LossCount { site: site.clone(), kind: kind.clone(), count: *count })
            .collect();
        status
    }
}
