//! The numbers for people.

use std::{
    fmt::{self, Display, Formatter},
    fs, thread,
};

use serde::Serialize;

use super::{
    decision::Decision,
    hooks::{HookCost, Mean},
    launch::Launch,
    live::Live,
    log_rates::{LogRates, Paced},
    policy_rate::PolicyRate,
    recorded::Answers,
    rounds::{Rounds, Three},
    sensor::{Memory, Recorded},
    spread::Spread,
};

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Processes that wanted to run when it began: far above 0 means that the machine was busy with other things.
    pub(super) load_before: f64,
    pub(super) machine: Machine,
    pub(super) rounds: Rounds,
    pub(super) hooks: Vec<HookCost>,
    pub(super) launch: Launch,
    pub(super) log: LogRates,
    pub(super) paced: Vec<Paced>,
    pub(super) policy: PolicyRate,
    pub(super) decisions: Vec<Decision>,
    pub(super) answers: Answers,
    pub(super) live: Live,
}

/// Where it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) kernel: String,
    pub(super) cpus: usize,
    /// Load average of the last minute.
    pub(super) load: f64,
    /// The attach mode, which is the same on every machine so that numbers can be compared.
    pub(super) mode: &'static str,
}

impl Machine {
    pub(super) fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|word| word.parse().ok())
                .unwrap_or(f64::NAN),
            mode: "fallback",
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { kernel, cpus, load, mode } = &self.machine;
        writeln!(f, "kernel {kernel}, {cpus} CPUs, attach mode {mode}")?;
        writeln!(f, "load average {} at the beginning, {load} at the end\n", self.load_before)?;
        writeln!(
            f,
            "{} rounds; median [least .. most]; ratios are within a round",
            self.rounds.recorded.len()
        )?;
        let (name, ns) = ("per operation", "(a) without");
        writeln!(f, "{name:<30} {ns:>12}  {:<22} (c) inside / (a)", "(b) outside / (a)")?;
        for comparison in &self.rounds.comparisons {
            row(f, comparison.workload, "clock", &comparison.wall)?;
            row(f, "", "CPU", &comparison.cpu)?;
        }
        writeln!(f, "\n{:<40} {:>22}  inside", "per run of a hook, by the kernel's clock", "outside")?;
        for HookCost { hook, outside, inside } in &self.hooks {
            writeln!(f, "{hook:<40} {:>22}  {}", mean(*outside), mean(*inside))?;
        }
        writeln!(f, "\nsensor start: {} ms", tenths(&self.rounds.sensor_start_ms))?;
        writeln!(f, "launch, plain: {} ms", tenths(&self.launch.plain_ms))?;
        writeln!(f, "launch, through `treeline run`: {} ms", tenths(&self.launch.through_treeline_ms))?;
        writeln!(
            f,
            "log append: {} entries/s of {} bytes",
            whole(&self.log.append_per_s),
            self.log.entry_bytes
        )?;
        writeln!(f, "log verify: {} entries/s\n", whole(&self.log.verify_per_s))?;
        for paced in &self.paced {
            paced.fmt(f)?;
        }
        self.policy.fmt(f)?;
        self.decisions.iter().try_for_each(|decision| decision.fmt(f))?;
        self.answers.fmt(f)?;
        self.live.fmt(f)?;
        for (round, recorded) in self.rounds.recorded.iter().enumerate() {
            writeln!(f, "round {}: {recorded}", round + 1)?;
        }
        Ok(())
    }
}

fn row(f: &mut Formatter<'_>, name: &str, clock: &str, three: &Three) -> fmt::Result {
    writeln!(
        f,
        "{name:<24} {clock:>5} {:>9.0} ns  {:<22} {}",
        three.without_ns.median,
        ratio(&three.outside_ratio),
        ratio(&three.inside_ratio)
    )
}

fn mean(mean: Mean) -> String {
    mean.ns.map_or_else(|| "no run".to_owned(), |ns| format!("{ns:.0} ns ({} runs)", mean.runs))
}

fn ratio(spread: &Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.2} [{min:.2} .. {max:.2}]")
}

fn tenths(spread: &Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.1} [{min:.1} .. {max:.1}]")
}

fn whole(spread: &Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.0} [{min:.0} .. {max:.0}]")
}

impl Display for Paced {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = if self.is_distinct { "each another file" } else { "one file" };
        writeln!(
            f,
            "opens at {}/s, {what}: {:.0}/s done, sensor busy for {:.1} s after the last; {}",
            self.asked_per_s, self.done_per_s, self.backlog_s, self.recorded
        )
    }
}

impl Display for PolicyRate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { rules, homes, parse_ms, compile_ms, total_ms, total_ms_min, total_ms_max } = self;
        writeln!(
            f,
            "policy of {rules} rules for {homes} homes: {total_ms:.1} [{total_ms_min:.1} .. {total_ms_max:.1}] ms, parse {parse_ms:.1}, compile {compile_ms:.1}"
        )
    }
}

impl Display for Decision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { paths, rules, is_denied, runs, ns } = self;
        let verdict = if *is_denied { "denied" } else { "allowed" };
        writeln!(f, "decision in the kernel, {rules:>3} rules, {paths}, {verdict}: {ns:.0} ns ({runs} runs)")
    }
}

impl Display for Answers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { replayed, replay_cpu_s, learned, learn_cpu_s } = self;
        let per_million = replay_cpu_s * 1e6 / *replayed as f64;
        writeln!(
            f,
            "policy replayed over {replayed} entries: {replay_cpu_s:.2} s of one core, {per_million:.2} s a million"
        )?;
        writeln!(f, "policy learned from {learned} entries: {learn_cpu_s:.2} s of one core")
    }
}

impl Display for Live {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nagent memory, idle: {}", self.idle)?;
        if let Some(live) = &self.live {
            writeln!(f, "agent memory, {} live processes: {live}; {}", self.processes, self.recorded)?;
        }
        if let Some(after) = &self.after {
            writeln!(f, "agent memory, after their end: {after}")?;
        }
        if let Some(why) = &self.skipped {
            writeln!(f, "agent memory, live processes: skipped: {why}")?;
        }
        writeln!(f)
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let (resident, anonymous) = (mib(self.resident_kib), mib(self.anonymous_kib));
        write!(f, "{resident:.1} MiB resident, of which {anonymous:.1} MiB its own data")
    }
}

impl Display for Recorded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries, ", self.entries)?;
        if self.lost.is_empty() {
            return write!(f, "nothing lost");
        }
        let lost: Vec<String> = self.lost.iter().map(|(what, count)| format!("{what} {count}")).collect();
        write!(f, "LOST: {}", lost.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_named() {
        let check = |lost: &[(&str, u64)], expect: &str| {
            let lost = lost.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
            assert_eq!(Recorded { entries: 7, lost }.to_string(), expect);
        };
        check(&[], "7 entries, nothing lost");
        check(&[("ring/open", 3), ("queue/open", 4)], "7 entries, LOST: queue/open 4, ring/open 3");
    }
}
