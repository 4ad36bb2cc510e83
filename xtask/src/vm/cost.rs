//! What hooks cost in mode `lsm`, in instructions: a guest under QEMU's `-icount` runs the same loops with and without
//! Treeline, and beside the kernel's audit. Instructions are not time; quoted are ratios within one run.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use treeline_vm_tests::{Line, Outcome as TestOutcome};

use super::accelerator::Accelerator;
use super::catalogue::Catalogue;
use super::guest::{Guest, MEMORY_MB, Run};
use super::hook_cost::{BUDGET_NS, HookCosts};
use super::kernel::Kernel;
use super::mode::Mode;
use super::yardstick::{Verdict, grouped, met};
use super::{audit, initramfs, run};
use crate::checkout::Checkout;

/// The group of the suite that measures; it runs by request only.
const GROUP: &str = "cost";
/// Counting makes a guest two to three times slower still.
const BOOT_LIMIT: Duration = Duration::from_secs(600);
const LIMIT: Duration = Duration::from_secs(3000);

/// What one kernel's guest measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Costs {
    kernel: String,
    /// By loop, then by what ran beside it.
    loads: BTreeMap<String, BTreeMap<String, Cost>>,
    hooks: HookCosts,
    start: Option<Start>,
    /// What a session was refused while every hook ran, and in which words.
    refused: BTreeMap<String, String>,
    /// What could not be measured, and why.
    missing: Vec<String>,
}

/// Per operation, in instructions.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Cost {
    /// By anybody, until it was done.
    #[serde(rename(deserialize = "wall_ns"))]
    total: f64,
    /// By the process and its children.
    #[serde(rename(deserialize = "own_ns"))]
    own: f64,
}

/// What becoming ready and a launch take, by anybody; waiting that nothing interrupts counts, too.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Start {
    #[serde(rename(deserialize = "ready_ns"))]
    ready: f64,
    /// By the sensor.
    #[serde(rename(deserialize = "ready_own_ns"))]
    ready_own: f64,
    #[serde(rename(deserialize = "launch_plain_ns"))]
    launch_plain: f64,
    #[serde(rename(deserialize = "launch_ns"))]
    launch: f64,
}

#[derive(Deserialize)]
struct Measured {
    beside: String,
    load: String,
    #[serde(flatten)]
    cost: Cost,
}

/// Boots the kernel of `series` and measures.
///
/// # Errors
/// When the guest cannot be had, or does not end by itself.
pub(crate) fn measure(checkout: &Checkout, treeline: &Path, series: &str) -> Result<Costs> {
    let catalogue = Catalogue::read(&checkout.root().join("vm-tests/kernels.toml"))?;
    let cache = checkout.root().join(".cache/kernels");
    let pins = catalogue.choose(&[series.to_owned()])?;
    let pin = pins.first().context("a series has a kernel")?;
    let kernel = Kernel::open(&cache, pin)?;
    let logs = checkout.logs();
    fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    let path = logs.join("vm-cost.cpio");
    let common = initramfs::common(&run::build_guest(checkout)?, Some(treeline))?;
    let more = audit::archive(&cache, initramfs::now_s()?)?;
    fs::write(&path, [common, initramfs::modules(&kernel, initramfs::MODULES)?, more].concat())
        .with_context(|| format!("writing {}", path.display()))?;
    let guest = Guest {
        kernel: &kernel.image(),
        initramfs: &path,
        disk: None,
        lsm_list: &kernel.lsm_list(Mode::Lsm.wants_bpf())?,
        mode: Mode::Lsm,
        only: &[GROUP.to_owned()],
        parameters: String::new(),
        memory_mb: MEMORY_MB,
        accelerator: Accelerator::Tcg,
        is_counting: true,
        log: logs.join("vm-cost.log"),
        boot_limit: BOOT_LIMIT,
        limit: LIMIT,
    };
    eprintln!("vm: {}: counting instructions; console: {}", kernel.release, guest.log.display());
    let run = guest.run()?;
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    Costs::of(&kernel.release, &run)
}

impl Costs {
    fn of(release: &str, run: &Run) -> Result<Self> {
        let mut costs = Self {
            kernel: release.to_owned(),
            loads: BTreeMap::new(),
            hooks: HookCosts::default(),
            start: None,
            refused: BTreeMap::new(),
            missing: Vec::new(),
        };
        for line in &run.lines {
            match line {
                Line::Note { name, text } => {
                    costs.note(name, text).with_context(|| format!("the guest said {text}"))?;
                }
                Line::Test {
                    name, outcome: TestOutcome::Failed(why) | TestOutcome::Skipped(why), ..
                } => {
                    costs.missing.push(format!("{name}: {why}"));
                }
                _ => {}
            }
        }
        if costs.loads.is_empty() && costs.hooks.is_empty() {
            bail!(
                "the guest of {release} ended with {:?} and measured nothing: {}",
                run.end,
                costs.missing.join("; ")
            );
        }
        Ok(costs)
    }

    fn note(&mut self, name: &str, text: &str) -> serde_json::Result<()> {
        match name {
            GROUP => {
                let Measured { beside, load, cost } = serde_json::from_str(text)?;
                self.loads.entry(load).or_default().insert(beside, cost);
            }
            "cost-hook" => self.hooks.add(serde_json::from_str(text)?),
            "cost-empty" => self.hooks.empty = serde_json::from_str(text)?,
            "cost-start" => self.start = Some(serde_json::from_str(text)?),
            "cost-refused" => self.refused = serde_json::from_str(text)?,
            _ => {}
        }
        Ok(())
    }
}

/// What is printed beside the plain loop, by the guest's word for it.
const COLUMNS: [(&str, &str); 4] = [
    (OUTSIDE, "outside a session"),
    (INSIDE, "inside"),
    ("audit_outside", "audit, other login"),
    ("audit_inside", "audit, this login"),
];
const OUTSIDE: &str = "sensor_outside";
const INSIDE: &str = "sensor_inside";

/// What a loop is held against (DESIGN.md, SPECIFICATION.md).
struct Budget {
    load: &'static str,
    outside: Outside,
    /// In a session: its words, and the most by them.
    inside: Option<(&'static str, Most)>,
}

enum Outside {
    /// Within [`BUDGET_NS`] for each of this many programs that one operation runs.
    PerHook(u32),
    /// No measurable difference in a build, whose commonest costly operation this is.
    Same,
}

#[derive(Clone, Copy)]
enum Most {
    MoreNs(f64),
    Ratio(f64),
}

/// What counts as no measurable difference: two runs of a loop differ by as much.
const SAME_RATIO: f64 = 1.01;

const BUDGETS: [Budget; 7] = [
    Budget { load: "syscall", outside: Outside::Same, inside: None },
    Budget {
        load: "open+close",
        outside: Outside::PerHook(2),
        inside: Some(("300 ns, verdict cached", Most::MoreNs(300.0))),
    },
    Budget {
        load: "open+close, each another",
        outside: Outside::PerHook(2),
        inside: Some(("2 µs, the decision", Most::MoreNs(2000.0))),
    },
    // Both programs of its open, the one of its making, and both of its end.
    Budget { load: "create+unlink", outside: Outside::PerHook(5), inside: None },
    Budget { load: "fork+exec", outside: Outside::Same, inside: Some(("3 %", Most::Ratio(1.03))) },
    // Making the socket, the connect and its return, the accept, and ten changes of the sockets' states.
    Budget { load: "connect+accept, tcp", outside: Outside::PerHook(14), inside: None },
    // Making the socket, the connect, the connect to this socket, and its return.
    Budget { load: "connect+accept, unix", outside: Outside::PerHook(4), inside: None },
];

impl Budget {
    /// Two cells: what it is, and whether it is met.
    fn cells(&self, by: &BTreeMap<String, Cost>) -> Option<(String, String)> {
        let (alone, outside) = (by.get("nothing")?.own, by.get(OUTSIDE)?.own);
        let (mut budget, mut verdict) = match self.outside {
            Outside::PerHook(count) => {
                let each = (outside - alone) / f64::from(count);
                let verdict = format!("{}: {} a hook", Verdict::of(each, BUDGET_NS), grouped(each));
                ("outside 30 ns a hook".to_owned(), verdict)
            }
            Outside::Same => ("outside below 1 %".to_owned(), met(outside / alone < SAME_RATIO).to_owned()),
        };
        if let (Some((words, most)), Some(inside)) = (self.inside, by.get(INSIDE)) {
            budget.push_str(&format!("; inside {words}"));
            verdict.push_str(&match most {
                Most::MoreNs(ns) => format!("; inside {}", Verdict::of(inside.own - alone, ns)),
                Most::Ratio(ratio) => format!("; inside {}", met(inside.own / alone <= ratio)),
            });
        }
        Some((budget, verdict))
    }
}

impl Display for Costs {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Instructions on {}, mode lsm (guest under -icount)\n", self.kernel)?;
        writeln!(
            f,
            "A budget in nanoseconds is held against instructions at 3 GHz: met at one a cycle, missed above three.\n"
        )?;
        self.fmt_loads(f)?;
        self.fmt_held(f)?;
        if !self.hooks.is_empty() {
            writeln!(f, "\nA run of each program, by the kernel's clock, whose reading is in it:\n")?;
            self.hooks.fmt(f)?;
        }
        if let Some(Start { ready, ready_own, launch_plain, launch }) = self.start {
            writeln!(f, "Start of the sensor: {}, of them its own {}.", grouped(ready), grouped(ready_own))?;
            writeln!(f, "A launch: {}; through `treeline run` {}.", grouped(launch_plain), grouped(launch))?;
        }
        for (operation, why) in &self.refused {
            writeln!(f, "refused in the session: {operation}: {why}")?;
        }
        for missing in &self.missing {
            writeln!(f, "not measured: {missing}")?;
        }
        Ok(())
    }
}

/// The same while execs are held for a rule by content.
const HELD: [(&str, &str); 2] = [("hold_outside", "outside a session"), ("hold_inside", "inside")];

/// What there is more than alone, and as a ratio.
fn more(value: f64, alone: f64) -> String {
    let difference = value - alone;
    let sign = if difference > -0.5 { "+" } else { "" };
    format!("{sign}{} ({:.2})", grouped(difference), value / alone)
}

impl Costs {
    fn fmt_loads(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "An operation, the process's own and its children's:\n")?;
        let titles = COLUMNS.map(|(_, title)| title).join(" | ");
        writeln!(f, "| operation | alone | {titles} | budget | met? |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for budget in &BUDGETS {
            let Some(by) = self.loads.get(budget.load) else { continue };
            let Some(alone) = by.get("nothing") else { continue };
            write!(f, "| {} | {} |", budget.load, grouped(alone.own))?;
            for (key, _) in COLUMNS {
                let text = by.get(key).map_or_else(|| "—".to_owned(), |cost| more(cost.own, alone.own));
                write!(f, " {text} |")?;
            }
            let none = || ("—".to_owned(), "not shown".to_owned());
            let (words, verdict) = budget.cells(by).unwrap_or_else(none);
            writeln!(f, " {words} | {verdict} |")?;
        }
        Ok(())
    }

    /// What waits for the sensor is measured by all that was done until then, by anybody.
    fn fmt_held(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_held = |by: &BTreeMap<String, Cost>| HELD.iter().any(|(key, _)| by.contains_key(*key));
        let held: Vec<_> = self.loads.iter().filter(|(_, by)| is_held(by)).collect();
        if held.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nWhile a rule by SHA-256 is in `enforce` and a session lives: by anybody, until it was done:\n"
        )?;
        let titles = HELD.map(|(_, title)| title).join(" | ");
        writeln!(f, "| operation | alone | {titles} |\n|---|---|---|---|")?;
        for (load, by) in held {
            let Some(alone) = by.get("nothing") else { continue };
            write!(f, "| {load} | {} |", grouped(alone.total))?;
            for (key, _) in HELD {
                let text = by.get(key).map_or_else(|| "—".to_owned(), |cost| more(cost.total, alone.total));
                write!(f, " {text} |")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::guest::End;

    fn note(beside: &str, load: &str, own: f64) -> Line {
        let text = format!(r#"{{"beside":"{beside}","load":"{load}","wall_ns":900.0,"own_ns":{own:.1}}}"#);
        Line::Note { name: GROUP.to_owned(), text }
    }

    fn check(lines: Vec<Line>, expect: &str) {
        let costs = Costs::of("6.12.1", &Run { end: End::Exit(0), boot: None, lines });
        let text = costs.map_or_else(|error| error.to_string(), |costs| costs.to_string());
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn ratios_are_to_the_loop_alone() {
        let skipped = Line::Test {
            name: "cost/measured-beside-audit".into(),
            outcome: TestOutcome::Skipped("no auditd".into()),
            elapsed_ms: 1,
        };
        let lines =
            vec![note("nothing", "open+close", 1000.0), note("sensor_inside", "open+close", 1500.0), skipped];
        check(lines.clone(), "| open+close | 1 000 | — | +500 (1.50) | — | — |");
        let held = Line::Note {
            name: GROUP.to_owned(),
            text: r#"{"beside":"hold_inside","load":"open+close","wall_ns":1800.0,"own_ns":1.0}"#.to_owned(),
        };
        check([lines.clone(), vec![held]].concat(), "| open+close | 900 | — | +900 (2.00) |");
        check(lines, "not measured: cost/measured-beside-audit: no auditd");
        check(vec![], "measured nothing");
    }
    #[test]
    fn budgets_are_held_against_instructions() {
        let all = |outside, inside| {
            let load = "open+close";
            let beside = [("nothing", 1000.0), (OUTSIDE, outside), (INSIDE, inside)];
            beside.map(|(beside, own)| note(beside, load, own)).into()
        };
        check(all(1180.0, 1900.0), "| yes: 90 a hook; inside yes |");
        check(all(1360.0, 2800.0), "| at 2.0 a cycle: 180 a hook; inside at 2.0 a cycle |");
        check(all(1542.0, 4000.0), "| **no**: 271 a hook; inside **no** |");
        let ratio = |inside| {
            let beside = [("nothing", 1000.0), (OUTSIDE, 1004.0), (INSIDE, inside)];
            beside.map(|(beside, own)| note(beside, "fork+exec", own)).into()
        };
        check(ratio(1030.0), "| outside below 1 %; inside 3 % | yes; inside yes |");
        check(ratio(1040.0), "| yes; inside **no** |");
    }

    #[test]
    fn programs_are_printed_even_alone() {
        let text = r#"{"hook":"lsm/bpf","outside":{"runs":2,"run_ns":100},"inside":{"runs":0,"run_ns":0}}"#;
        let hook = Line::Note { name: "cost-hook".to_owned(), text: text.to_owned() };
        let start =
            r#"{"ready_ns":5000000000,"ready_own_ns":4000000000,"launch_plain_ns":1,"launch_ns":2000}"#;
        let start = Line::Note { name: "cost-start".to_owned(), text: start.to_owned() };
        check(vec![hook.clone()], "| `lsm/bpf` | 2 | 50 | 50 | yes | 0 | not run |");
        check(vec![hook, start], "Start of the sensor: 5 000 000 000, of them its own 4 000 000 000.");
    }
}
