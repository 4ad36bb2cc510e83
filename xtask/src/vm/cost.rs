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
use super::kernel::Kernel;
use super::mode::Mode;
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
        let mut costs = Self { kernel: release.to_owned(), loads: BTreeMap::new(), missing: Vec::new() };
        for line in &run.lines {
            match line {
                Line::Note { name, text } if name == GROUP => {
                    let Measured { beside, load, cost } =
                        serde_json::from_str(text).with_context(|| format!("the guest said {text}"))?;
                    costs.loads.entry(load).or_default().insert(beside, cost);
                }
                Line::Test {
                    name, outcome: TestOutcome::Failed(why) | TestOutcome::Skipped(why), ..
                } => {
                    costs.missing.push(format!("{name}: {why}"));
                }
                _ => {}
            }
        }
        if costs.loads.is_empty() {
            bail!(
                "the guest of {release} ended with {:?} and measured nothing: {}",
                run.end,
                costs.missing.join("; ")
            );
        }
        Ok(costs)
    }
}

/// What is printed beside the plain loop, by the guest's word for it.
const COLUMNS: [(&str, &str); 4] = [
    ("sensor_outside", "outside"),
    ("sensor_inside", "inside"),
    ("audit_outside", "audit, outside"),
    ("audit_inside", "audit, inside"),
];

impl Display for Costs {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Instructions per operation on {}, mode lsm (guest under -icount); the process's own",
            self.kernel
        )?;
        write!(f, "{:<26} {:>10}", "", "alone")?;
        for (_, title) in COLUMNS {
            write!(f, " {title:>22}")?;
        }
        writeln!(f)?;
        for (load, by) in &self.loads {
            let Some(alone) = by.get("nothing") else { continue };
            write!(f, "{load:<26} {:>10.0}", alone.own)?;
            for (key, _) in COLUMNS {
                match by.get(key) {
                    Some(cost) => {
                        let text = format!("{:+.0} ({:.2}x)", cost.own - alone.own, cost.own / alone.own);
                        write!(f, " {text:>22}")?;
                    }
                    None => write!(f, " {:>22}", "-")?,
                }
            }
            writeln!(f)?;
        }
        self.fmt_held(f)?;
        for missing in &self.missing {
            writeln!(f, "not measured: {missing}")?;
        }
        Ok(())
    }
}

/// The same while execs are held for a rule by content.
const HELD: [(&str, &str); 2] = [("hold_outside", "outside"), ("hold_inside", "inside")];

impl Costs {
    /// What waits for the sensor is measured by all that was done until then, by anybody.
    fn fmt_held(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_held = |by: &BTreeMap<String, Cost>| HELD.iter().any(|(key, _)| by.contains_key(*key));
        let held: Vec<_> = self.loads.iter().filter(|(_, by)| is_held(by)).collect();
        if held.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "While a rule by SHA-256 is in `enforce` and a session lives: by anybody, until it was done"
        )?;
        for (load, by) in held {
            let Some(alone) = by.get("nothing") else { continue };
            write!(f, "{load:<26} {:>10.0}", alone.total)?;
            for (key, title) in HELD {
                if let Some(cost) = by.get(key) {
                    let (more, ratio) = (cost.total - alone.total, cost.total / alone.total);
                    write!(f, " {:>22}", format!("{title} {more:+.0} ({ratio:.2}x)"))?;
                }
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
        let lines = vec![note("nothing", "open", 1000.0), note("sensor_inside", "open", 1500.0), skipped];
        check(lines.clone(), "+500 (1.50x)");
        let held = Line::Note {
            name: GROUP.to_owned(),
            text: r#"{"beside":"hold_inside","load":"open","wall_ns":1800.0,"own_ns":1.0}"#.to_owned(),
        };
        check([lines.clone(), vec![held]].concat(), "inside +900 (2.00x)");
        check(lines, "not measured: cost/measured-beside-audit: no auditd");
        check(vec![], "measured nothing");
    }
}
