//! Runs of the attached programs: how many, how long they took, and those that the kernel left out.
//!
//! How long they take is only known while somebody has the kernel measure it (`kernel.bpf_stats_enabled`), which costs
//! each run a little.
//!
//! A program that would run within itself on one CPU is left out and counted (`bpf_prog_info.recursion_misses`, since
//! Linux 5.12), which happens when a task is preempted in it and another one on that CPU comes to the same hook. LSM
//! programs are exempt; tracepoints could not be preempted before Linux 7.0, and other programs only on kernels that
//! preempt themselves (`preempt=full` or `lazy`).

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use super::{bpf, hooks::Hook, pins, rings::boot_ns};
use crate::backend::{Delivery, LossReport, ProgramRuns};

/// How often the kernel is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// The attached programs, and how often they were left out, as far as it has been said.
pub(super) struct Programs {
    programs: Vec<Watched>,
    asked: Instant,
}

struct Watched {
    /// As in [`treeline_event::HookStatus`].
    name: String,
    target: &'static str,
    program: OwnedFd,
    /// Whether something goes unseen with a run that is left out.
    matters: bool,
    left_out: u64,
}

impl Programs {
    pub(super) fn new() -> Self {
        Self { programs: Vec::new(), asked: Instant::now() }
    }

    /// Counts for a program from now on. One whose descriptor cannot be duplicated is not counted for.
    pub(super) fn watch(&mut self, hook: &Hook, matters: bool, program: impl AsFd) {
        if let Ok(program) = program.as_fd().try_clone_to_owned() {
            let (name, target) = (hook.name(), hook.target);
            let left_out = bpf::info(program.as_fd()).map_or(0, |info| info.missed);
            self.programs.push(Watched { name, target, program, matters, left_out });
        }
    }

    /// Those that another build's set attaches, as far as they are called as these hooks' are: of others it is not known
    /// whether they matter. They are held, and counted for until then.
    pub(super) fn of_set(set: &Path, hooks: &[Hook]) -> Self {
        let mut this = Self::new();
        let programs = pins::programs(set).into_iter().filter_map(|id| bpf::program_by_id(id).ok());
        for program in programs {
            let Ok(info) = bpf::info(program.as_fd()) else { continue };
            if let Some(hook) = hooks.iter().find(|hook| is_name_of(info.name, hook.program)) {
                this.watch(hook, hook.can_be_left_out(hooks), program);
            }
        }
        this
    }

    /// How often those that matter were left out, as far as the kernel says now.
    pub(super) fn left_out_now(&self) -> u64 {
        let matter = self.programs.iter().filter(|watched| watched.matters);
        let missed = |watched: &Watched| {
            bpf::info(watched.program.as_fd()).map_or(watched.left_out, |info| info.missed)
        };
        matter.map(missed).sum()
    }

    /// How often those that matter were left out, as far as it has been said.
    pub(super) fn left_out(&self) -> u64 {
        self.programs.iter().filter(|watched| watched.matters).map(|watched| watched.left_out).sum()
    }

    /// What the kernel has counted so far, in the order of attachment.
    pub(super) fn runs(&self) -> Vec<ProgramRuns> {
        let of = |watched: &Watched| {
            let info = bpf::info(watched.program.as_fd()).ok()?;
            let hook = watched.name.clone();
            Some(ProgramRuns { hook, runs: info.runs, run_ns: info.run_ns, left_out: info.missed })
        };
        self.programs.iter().filter_map(of).collect()
    }

    /// Says what was left out since the last time: nobody saw or judged what it was about.
    pub(super) fn losses(&mut self, deliver: &mut dyn FnMut(Delivery)) {
        if self.asked.elapsed() < INTERVAL {
            return;
        }
        self.asked = Instant::now();
        let last_ns = boot_ns();
        let first_ns = last_ns.saturating_sub(INTERVAL.as_nanos() as u64);
        for watched in self.programs.iter_mut().filter(|watched| watched.matters) {
            let Ok(info) = bpf::info(watched.program.as_fd()) else { continue };
            let count = info.missed.saturating_sub(watched.left_out);
            watched.left_out = info.missed;
            if count > 0 {
                let kind = watched.target;
                deliver(Delivery::Loss(LossReport { kind, site: "recursion", count, first_ns, last_ns }));
            }
        }
    }
}

/// Whether the kernel calls a program so, of which it keeps the first bytes only.
fn is_name_of(kept: [u8; bpf::NAME_LEN], program: &str) -> bool {
    let len = program.len().min(bpf::NAME_LEN - 1);
    kept.split(|byte| *byte == 0).next() == Some(&program.as_bytes()[..len])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut() {
        let check = |kept: &[u8; bpf::NAME_LEN], program, expect| {
            assert_eq!(is_name_of(*kept, program), expect, "{program}");
        };
        check(b"file_open\0\0\0\0\0\0\0", "file_open", true);
        check(b"file_open\0\0\0\0\0\0\0", "file", false);
        check(b"sched_process_e\0", "sched_process_exit", true);
        check(b"sched_process_e\0", "sched_process_e", true);
    }
}
