//! The table of what each kernel program costs in the counting guest: outside of every session, against the budget, and
//! inside one.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::yardstick::{Verdict, grouped};

/// What a hook may cost a process outside of every session.
pub(super) const BUDGET_NS: f64 = 30.0;
/// What an open may cost in a session while its verdict is known.
const OPEN_BUDGET_NS: f64 = 300.0;
const OPEN: [&str; 3] = ["lsm/file_open", "fexit/do_filp_open", "fexit/do_file_open"];

/// Runs of a program, and what they took in all.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Runs {
    runs: u64,
    /// The kernel's clock counts instructions there.
    #[serde(rename(deserialize = "run_ns"))]
    instructions: u64,
}

impl Runs {
    fn mean(self) -> Option<f64> {
        (self.runs > 0).then(|| self.instructions as f64 / self.runs as f64)
    }
}

/// One program of the sensor.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct HookCost {
    hook: String,
    outside: Runs,
    inside: Runs,
}

/// What the kernel's statistics say of a program that does nothing: its own looks at the clock.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct Empty {
    #[serde(default)]
    lsm: Runs,
    #[serde(default)]
    tracepoint: Runs,
}

/// Every program of the sensor.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct HookCosts {
    programs: Vec<HookCost>,
    pub(super) empty: Empty,
}

impl HookCosts {
    /// Of several programs at one hook the later ones are numbered, as in `docs/verifier-cost.md`.
    pub(super) fn add(&mut self, mut cost: HookCost) {
        let numbered = format!("{} (", cost.hook);
        let is_there = |other: &&HookCost| other.hook == cost.hook || other.hook.starts_with(&numbered);
        let count = self.programs.iter().filter(is_there).count();
        if count > 0 {
            cost.hook = format!("{numbered}{})", count + 1);
        }
        self.programs.push(cost);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// The same for a program that does nothing at such a hook.
    fn empty(&self, hook: &str) -> f64 {
        let runs = if hook.starts_with("tp_btf/") { self.empty.tracepoint } else { self.empty.lsm };
        runs.mean().unwrap_or(0.0)
    }

    /// Outside, without what an empty program takes.
    fn own(&self, cost: &HookCost) -> Option<f64> {
        Some((cost.outside.mean()? - self.empty(&cost.hook)).max(0.0))
    }

    fn fmt_row(&self, f: &mut Formatter<'_>, cost: &HookCost) -> fmt::Result {
        let Runs { runs, .. } = cost.outside;
        let number = |mean: Option<f64>| mean.map_or_else(|| "not run".to_owned(), grouped);
        let own = self.own(cost);
        let verdict = own.map_or_else(|| "not shown".to_owned(), |own| verdict(own).to_string());
        write!(f, "| `{}` | {runs} | {} | ", cost.hook, number(cost.outside.mean()))?;
        write!(f, "{} | {verdict} | ", own.map_or_else(|| "—".to_owned(), grouped))?;
        writeln!(f, "{} | {} |", cost.inside.runs, number(cost.inside.mean()))
    }

    fn fmt_summary(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let empties = [("an LSM hook", self.empty.lsm), ("a tracepoint", self.empty.tracepoint)];
        for (place, runs) in empties {
            if let Some(mean) = runs.mean() {
                writeln!(f, "An empty program at {place}: {} ({} runs).", grouped(mean), runs.runs)?;
            }
        }
        let of = |is: &dyn Fn(&HookCost) -> bool| self.programs.iter().filter(|cost| is(cost)).count();
        let is = |wanted: fn(Verdict) -> bool| {
            of(&|cost: &HookCost| self.own(cost).is_some_and(|own| wanted(verdict(own))))
        };
        writeln!(
            f,
            "{} programs, outside: {} within the budget at one instruction a cycle, {} at up to three, {} over it, {} \
             not run; in a session {} not run.",
            self.programs.len(),
            is(|verdict| verdict == Verdict::Met),
            is(|verdict| matches!(verdict, Verdict::At(_))),
            is(|verdict| verdict == Verdict::Missed),
            of(&|cost| cost.outside.runs == 0),
            of(&|cost| cost.inside.runs == 0)
        )?;
        let opens = self.programs.iter().filter(|cost| OPEN.contains(&cost.hook.as_str()));
        let open: f64 = opens.filter_map(|cost| Some(cost.inside.mean()? - self.empty(&cost.hook))).sum();
        let verdict = Verdict::of(open, OPEN_BUDGET_NS);
        writeln!(f, "An open in a session, its programs: {}; budget 300 ns: {verdict}.", grouped(open))
    }
}

fn verdict(own: f64) -> Verdict {
    Verdict::of(own, BUDGET_NS)
}

impl Display for HookCosts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| program | runs outside | a run | without an empty one's | ≤ 30 ns? | runs inside | a run |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        let mut rows: Vec<_> = self.programs.iter().collect();
        // The dearest come first, and those that did not run last.
        let rank = |cost: &HookCost| self.own(cost).unwrap_or(-1.0);
        rows.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
        rows.into_iter().try_for_each(|cost| self.fmt_row(f, cost))?;
        writeln!(f)?;
        self.fmt_summary(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(hook: &str, outside: (u64, u64), inside: (u64, u64)) -> HookCost {
        let runs = |(runs, instructions)| Runs { runs, instructions };
        HookCost { hook: hook.to_owned(), outside: runs(outside), inside: runs(inside) }
    }

    #[test]
    fn programs_at_one_hook_are_numbered() {
        let mut costs = HookCosts::default();
        for hook in ["lsm/bpf", "lsm/bpf_map", "lsm/bpf", "lsm/bpf"] {
            costs.add(cost(hook, (1, 1), (1, 1)));
        }
        let names: Vec<_> = costs.programs.iter().map(|cost| cost.hook.as_str()).collect();
        assert_eq!(names, ["lsm/bpf", "lsm/bpf_map", "lsm/bpf (2)", "lsm/bpf (3)"]);
    }

    #[test]
    fn the_dearest_come_first_and_what_did_not_run_is_counted() {
        let costs = HookCosts {
            programs: vec![
                cost("lsm/inode_link", (10, 2000), (10, 3000)),
                cost("lsm/bpf", (0, 0), (0, 0)),
                cost("lsm/file_open", (2, 800), (2, 20_000)),
                cost("tp_btf/sched_process_exit", (1, 300), (0, 0)),
            ],
            empty: Empty {
                lsm: Runs { runs: 2, instructions: 80 },
                tracepoint: Runs { runs: 1, instructions: 290 },
            },
        };
        let text = costs.to_string();
        let rows: Vec<_> = text.lines().skip(2).take(4).collect();
        assert_eq!(
            rows,
            [
                "| `lsm/file_open` | 2 | 400 | 360 | **no** | 2 | 10 000 |",
                "| `lsm/inode_link` | 10 | 200 | 160 | at 1.8 a cycle | 10 | 300 |",
                "| `tp_btf/sched_process_exit` | 1 | 300 | 10 | yes | 0 | not run |",
                "| `lsm/bpf` | 0 | not run | — | not shown | 0 | not run |",
            ]
        );
        for line in [
            "An empty program at an LSM hook: 40 (2 runs).",
            "4 programs, outside: 1 within the budget at one instruction a cycle, 1 at up to three, 1 over it, 1 not \
             run; in a session 2 not run.",
            "An open in a session, its programs: 9 960; budget 300 ns: **no**.",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
