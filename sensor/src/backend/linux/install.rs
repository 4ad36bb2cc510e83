//! Putting a policy in force: everything is made ready first, then it changes at once, or not at all.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use treeline_abi::subject::Subjects;
use treeline_event::{AttachMode, RuleStatus};
use treeline_policy::{Before, Home, Host, Policy, Tables, Target, compile_after, policy::Rule};

use super::{
    InForce, LinuxBackend, coverage, grants,
    guard::{Orders, Placed},
    links::{self, Aliases},
    random_seed,
    rings::boot_ns,
    sys,
};
use crate::backend::{Approved, BackendError, Installable, policy_mark};

/// When files with several names were last searched for, and how long that took.
pub(super) struct LinksSearch {
    ended: Instant,
    took: Duration,
}

/// A search for links takes at most one part in so many of the time.
const LINKS_SHARE: u32 = 20;

impl LinksSearch {
    pub(super) fn is_due(&self) -> bool {
        self.ended.elapsed() >= self.took * LINKS_SHARE
    }
}

/// What is made ready for a policy while records go on being collected.
struct Prepared {
    tables: Arc<Tables>,
    aliases: Aliases,
    links: LinksSearch,
    placed: Option<Placed>,
}

impl LinuxBackend {
    /// See [`Backend::install`](crate::backend::Backend::install).
    pub(super) fn put_in_force(&mut self, policy: &Installable) -> Result<Vec<RuleStatus>, BackendError> {
        let host = Host {
            homes: policy
                .homes
                .iter()
                .map(|(uid, path)| Home {
                    uid: *uid,
                    path: std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec(),
                })
                .collect(),
        };
        let shared = Arc::new(policy.policy.clone());
        refuse_unenforceable(policy, self.mode, &self.statuses(&shared, None))?;
        let tables = self.compile(&shared, &policy.sha256, &host, policy.generation)?;
        let enforced = self.prepare(&shared, &host, tables).and_then(|prepared| {
            self.enforce(&shared, policy.generation, &policy.approved, &prepared)?;
            Ok(prepared)
        });
        let prepared = match enforced {
            Ok(prepared) => prepared,
            Err(error) => {
                self.go_back();
                return Err(error);
            }
        };
        let statuses = self.statuses(&shared, Some(&prepared));
        if let Some(placed) = &prepared.placed {
            tracing::info!(marks = placed.marks, "protected objects are marked");
        }
        let Prepared { tables, links, .. } = prepared;
        self.in_force = Some(InForce { installable: policy.clone(), policy: shared, tables, links });
        self.end_hold_without_need();
        sys::release_freed_memory();
        Ok(statuses)
    }

    /// What each rule of a policy amounts to.
    fn statuses(&self, policy: &Policy, prepared: Option<&Prepared>) -> Vec<RuleStatus> {
        let status = |(index, rule): (usize, &Rule)| {
            let marks = prepared.and_then(|prepared| prepared.placed.as_ref());
            let marks = marks.iter().flat_map(|placed| &placed.problems);
            let marks = marks.filter(|problem| problem.rule == index).map(|problem| problem.text.clone());
            let links = prepared.iter().flat_map(|prepared| &prepared.aliases.problems);
            let links = links.filter(|(rule, _)| *rule == index);
            let ways = prepared.iter().filter(|prepared| {
                self.mode.judges_in_kernel() && prepared.tables.ways_left_out.contains(&(index as u32))
            });
            let lifts =
                prepared.iter().filter_map(|prepared| prepared.tables.lifts_left_out.get(&(index as u32)));
            let texts = links.map(|(_, text)| text.clone()).chain(ways.map(|_| WAYS_LEFT_OUT.to_owned()));
            let texts = texts.chain(lifts.cloned());
            let problems: Vec<String> = marks.chain(texts).collect();
            coverage::status(rule, self.mode, &self.hooks, &problems)
        };
        policy.rules.iter().enumerate().map(status).collect()
    }

    /// The tables of a policy for the idle slot.
    fn compile(
        &mut self,
        policy: &Arc<Policy>,
        sha256: &str,
        host: &Host,
        generation: u64,
    ) -> Result<Tables, BackendError> {
        let target = Target { seed: random_seed()?, generation, slot: self.kernel_tables.idle() };
        let mounts = self.decoder.mounts.clone();
        let head = self.kernel_tables.head(&mut self.ebpf)?;
        let subjects = head.map_or(Subjects::NONE, |head| head.subjects);
        let before = Before { subjects: &subjects, now_ns: boot_ns() };
        let mut tables = self
            .while_collecting(|| compile_after(policy, host, &mounts, target, before))
            .map_err(|diagnostics| BackendError::Policy(diagnostics.render(false)))?;
        tables.table.policy = policy_mark(sha256, policy);
        Ok(tables)
    }

    /// Finds what a policy protects and marks it. Nothing of it is in force yet.
    fn prepare(
        &mut self,
        policy: &Arc<Policy>,
        host: &Host,
        tables: Tables,
    ) -> Result<Prepared, BackendError> {
        let (guard, mounts) = (self.guard.clone(), self.decoder.mounts.clone());
        self.while_collecting(move || {
            let placed = guard.map(|guard| guard.place(Arc::clone(policy), host.clone())).transpose()?;
            let started = Instant::now();
            let aliases = links::aliases(policy, host, &mounts, tables.slot);
            let links = LinksSearch { ended: Instant::now(), took: started.elapsed() };
            Ok(Prepared { tables: Arc::new(tables), aliases, links, placed })
        })
    }

    /// Puts a prepared policy in force.
    fn enforce(
        &mut self,
        policy: &Arc<Policy>,
        generation: u64,
        approved: &[Approved],
        prepared: &Prepared,
    ) -> Result<(), BackendError> {
        let Prepared { tables, aliases, .. } = prepared;
        let granted = grants::entries(&grants::grants(approved, tables, &self.decoder.mounts));
        // The new slot's aliases are there before it is put in force.
        self.kernel_tables.add_aliases(&mut self.ebpf, &aliases.files)?;
        let judge = self
            .guard
            .as_ref()
            .map(|guard| guard.judge(&self.orders(policy, tables, generation)))
            .transpose()?;
        self.hold_before_policy(tables)?;
        self.kernel_tables.install(&mut self.ebpf, tables, &self.sessions, &granted)?;
        // From here on it is in force: nothing may say that it is not.
        *self.approvals.lock().unwrap_or_else(PoisonError::into_inner) = approved.to_vec();
        if let (Some(guard), Some(judge)) = (&self.guard, judge) {
            guard.enforce(judge);
        }
        if let Err(error) = self.kernel_tables.keep_aliases(&mut self.ebpf, &aliases.files) {
            tracing::error!(%error, "hard links of the policy before stay known");
        }
        Ok(())
    }

    /// What the guard has to know of a compiled policy.
    fn orders(&self, policy: &Arc<Policy>, tables: &Tables, generation: u64) -> Orders {
        let index = |id: &str| tables.info.iter().position(|info| info.id == id).unwrap_or(usize::MAX) as u32;
        Orders {
            policy: Arc::clone(policy),
            host: tables.host.clone(),
            generation,
            rule_indices: policy.rules.iter().map(|rule| index(&rule.id)).collect(),
            lineage: tables.lineage_reader(),
            sessions: self.sessions.clone(),
            approvals: Arc::clone(&self.approvals),
        }
    }

    /// Looks for links that were made since the policy was put in force, if it is time.
    pub(super) fn search_links(&mut self) -> Result<(), BackendError> {
        let Some(in_force) = self.in_force.as_ref().filter(|in_force| in_force.links.is_due()) else {
            return Ok(());
        };
        let (policy, host, slot) =
            (Arc::clone(&in_force.policy), in_force.tables.host.clone(), in_force.tables.slot);
        let mounts = self.decoder.mounts.clone();
        let started = Instant::now();
        let aliases = self.while_collecting(|| links::aliases(&policy, &host, &mounts, slot));
        if let Some(in_force) = &mut self.in_force {
            in_force.links = LinksSearch { ended: Instant::now(), took: started.elapsed() };
        }
        for (rule, problem) in &aliases.problems {
            tracing::warn!(rule = policy.rules[*rule].id, "{problem}");
        }
        self.kernel_tables.add_aliases(&mut self.ebpf, &aliases.files)?;
        // Those that are gone make room, if it is known which they are.
        if aliases.problems.is_empty() {
            self.kernel_tables.keep_aliases(&mut self.ebpf, &aliases.files)?;
        }
        Ok(())
    }

    /// After a policy could not be put in force: marks are again those of the one before, which answers still.
    fn go_back(&mut self) {
        self.end_hold_without_need();
        let (Some(guard), Some(in_force)) = (self.guard.clone(), &self.in_force) else { return };
        let (policy, host) = (Arc::clone(&in_force.policy), in_force.tables.host.clone());
        if let Err(error) = self.while_collecting(|| guard.place(policy, host)) {
            tracing::error!(%error, "the marks of the policy in force could not be restored; restart the sensor");
        }
    }
}

/// What a rule lacks of whose ways some had no room.
const WAYS_LEFT_OUT: &str = "the policy fills the matcher: a directory that one of the rule's patterns names by `*` can be renamed out of its reach";

/// Whether every rule in `enforce` can be enforced at all, or it is allowed that it cannot.
fn refuse_unenforceable(
    policy: &Installable,
    mode: AttachMode,
    statuses: &[RuleStatus],
) -> Result<(), BackendError> {
    let hopeless: Vec<&str> = statuses
        .iter()
        .zip(&policy.policy.rules)
        .filter(|(status, rule)| coverage::is_refused(rule, status))
        .map(|(status, _)| status.rule.as_str())
        .collect();
    if hopeless.is_empty() || policy.allow_unenforceable {
        return Ok(());
    }
    Err(BackendError::Policy(format!(
        "attach mode {mode} cannot enforce the rules {}: set them to `mode: monitor`, defaults to `action: record`, or have them observed only, with \
         `unenforceable = \"observe\"` in the configuration or `--unenforceable observe`",
        hopeless.join(", ")
    )))
}
