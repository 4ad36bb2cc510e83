//! Runs of programs that the kernel left out.
//!
//! A program that would run within itself on one CPU is left out and counted (`bpf_prog_info.recursion_misses`, since
//! Linux 5.12), which happens when a task is preempted in it and another one on that CPU comes to the same hook. LSM
//! programs are exempt; tracepoints could not be preempted before Linux 7.0, and other programs only on kernels that
//! preempt themselves (`preempt=full` or `lazy`).

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use super::{bpf, rings::boot_ns};
use crate::backend::{Delivery, LossReport};

/// How often the kernel is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// The programs that can be left out, and how often they were, as far as it has been said.
pub(super) struct Missed {
    programs: Vec<Watched>,
    asked: Instant,
}

struct Watched {
    hook: &'static str,
    program: OwnedFd,
    count: u64,
}

impl Missed {
    pub(super) fn new() -> Self {
        Self { programs: Vec::new(), asked: Instant::now() }
    }

    /// Counts for a program from now on. One whose descriptor cannot be duplicated is not counted for.
    pub(super) fn watch(&mut self, hook: &'static str, program: BorrowedFd<'_>) {
        if let Ok(program) = program.try_clone_to_owned() {
            self.programs.push(Watched { hook, program, count: 0 });
        }
    }

    /// Says what was left out since the last time: nobody saw or judged what it was about.
    pub(super) fn losses(&mut self, deliver: &mut dyn FnMut(Delivery)) {
        if self.asked.elapsed() < INTERVAL {
            return;
        }
        self.asked = Instant::now();
        let last_ns = boot_ns();
        let first_ns = last_ns.saturating_sub(INTERVAL.as_nanos() as u64);
        for watched in &mut self.programs {
            let Ok(info) = bpf::info(watched.program.as_fd()) else { continue };
            let count = info.missed.saturating_sub(watched.count);
            watched.count = info.missed;
            if count > 0 {
                let kind = watched.hook;
                deliver(Delivery::Loss(LossReport { kind, site: "recursion", count, first_ns, last_ns }));
            }
        }
    }
}
