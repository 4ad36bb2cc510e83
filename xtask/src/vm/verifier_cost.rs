//! What the sensor's start took in each guest: the report of a run, and the difference to the numbers that are kept in
//! `docs/verifier-cost.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use treeline_vm_tests::{Program, Started};

/// The numbers that a change of the kernel programs is compared with.
const BASELINE: &str = "docs/verifier-cost.md";
const REPORT: &str = "vm-report";

/// One guest's start.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Start {
    /// The kernel's series, such as `6.12`.
    pub(super) series: String,
    pub(super) mode: &'static str,
    pub(super) started: Started,
}

impl Start {
    fn verified(&self) -> Option<u64> {
        self.started.programs.iter().map(|program| program.verified_instructions.map(u64::from)).sum()
    }

    /// Programs by the names of their rows. Of several at one hook the later ones are numbered.
    fn rows(&self) -> Vec<(String, &Program)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut row = |hook| {
            let name = plain(hook);
            let count = counts.entry(name).or_default();
            *count += 1;
            if *count > 1 { format!("{name} ({count})") } else { name.to_owned() }
        };
        self.started.programs.iter().map(|program| (row(&program.hook), program)).collect()
    }

    fn load_ms(&self) -> u64 {
        self.started.programs.iter().map(|program| program.load_ms).sum()
    }
}

/// Writes the report in both forms and says how the verifier's work differs from what is kept.
pub(super) fn report(root: &Path, logs: &Path, starts: &[Start]) -> Result<String> {
    let json = serde_json::to_string_pretty(starts).context("encoding the report")?;
    for (name, content) in [(format!("{REPORT}.json"), json), (format!("{REPORT}.md"), markdown(starts))] {
        let path = logs.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    let path = root.join(BASELINE);
    let kept = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(difference(&parse(&kept), starts))
}

/// Verified instructions by program (rows), kernel and mode (columns), with the sums and the times.
fn markdown(starts: &[Start]) -> String {
    let mut text = String::from("| program |");
    for start in starts {
        let _ = write!(text, " {} {} |", start.series, start.mode);
    }
    text.push_str(&format!("\n|---|{}\n", "---:|".repeat(starts.len())));
    let mut row = |name: &str, value: &dyn Fn(&Start) -> Option<u64>| {
        let _ = write!(text, "| {name} |");
        for start in starts {
            let _ = match value(start) {
                Some(value) => write!(text, " {value} |"),
                None => write!(text, " |"),
            };
        }
        text.push('\n');
    };
    let mut names: Vec<String> = Vec::new();
    for (name, _) in starts.iter().flat_map(Start::rows) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        row(&format!("`{name}`"), &|start| {
            let (_, program) = start.rows().into_iter().find(|(row, _)| *row == name)?;
            program.verified_instructions.map(u64::from)
        });
    }
    row("all programs", &Start::verified);
    let attached = |start: &Start| start.started.attached_count() as u64;
    row("hooks attached", &|start| Some(attached(start)));
    row("hooks not attached", &|start| Some(start.started.hooks.len() as u64 - attached(start)));
    row("number of programs", &|start| Some(start.started.programs.len() as u64));
    row("reading types, ms", &|start| Some(start.started.types_ms));
    row("maps and relocation, ms", &|start| Some(start.started.object_ms));
    row("loading and attaching, ms", &|start| Some(start.load_ms()));
    text
}

/// The same program has the same row in every mode.
fn plain(hook: &str) -> &str {
    let name = hook.strip_prefix("fmod_ret/security_").or_else(|| hook.strip_prefix("lsm/")).unwrap_or(hook);
    if name == "bprm_check_security" { "bprm_check" } else { name }
}

/// Numbers by row and column of the table in `text`.
fn parse(text: &str) -> BTreeMap<(String, String), u64> {
    let mut numbers = BTreeMap::new();
    let mut columns: Vec<String> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let mut cells = line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned());
        let Some(name) = cells.next() else { continue };
        if columns.is_empty() {
            columns = cells.collect();
            continue;
        }
        for (column, cell) in columns.iter().zip(cells) {
            if let Ok(number) = cell.parse() {
                numbers.insert((name.trim_matches('`').to_owned(), column.clone()), number);
            }
        }
    }
    numbers
}

/// A line for every program whose number changed, is new, or is gone, in the guests of this run.
fn difference(kept: &BTreeMap<(String, String), u64>, starts: &[Start]) -> String {
    let mut text = String::new();
    for start in starts {
        let column = format!("{} {}", start.series, start.mode);
        let rows = start.rows().into_iter();
        let counted = rows.filter_map(|(name, program)| Some((name, program.verified_instructions?.into())));
        let mut now: BTreeMap<String, u64> = counted.collect();
        now.extend(start.verified().map(|sum| ("all programs".to_owned(), sum)));
        for (name, count) in &now {
            match kept.get(&(name.clone(), column.clone())) {
                Some(before) if before == count => {}
                Some(before) => {
                    let percent = (*count as f64 / *before as f64 - 1.0) * 100.0;
                    let _ = writeln!(
                        text,
                        "vm: verifier: {column} {name}: {before} -> {count} ({percent:+.1} %)"
                    );
                }
                None => {
                    let _ = writeln!(text, "vm: verifier: {column} {name}: {count}, new");
                }
            }
        }
    }
    if text.is_empty() { format!("vm: verifier: as in {BASELINE}\n") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(mode: &'static str, hooks: &[(&str, Option<u32>)]) -> Start {
        let programs = hooks.iter().map(|(hook, verified)| Program {
            hook: (*hook).to_owned(),
            verified_instructions: *verified,
            load_ms: 2,
        });
        let started = Started { types_ms: 1, object_ms: 3, programs: programs.collect(), hooks: vec![] };
        Start { series: "6.12".to_owned(), mode, started }
    }

    #[test]
    fn what_is_written_is_read() {
        let starts = [
            start("lsm", &[("lsm/file_open", Some(7)), ("fexit/do_filp_open", Some(5))]),
            start("fmod_ret", &[("fmod_ret/security_file_open", Some(8))]),
        ];
        let kept = parse(&markdown(&starts));
        let number = |row: &str, column: &str| kept.get(&(row.to_owned(), column.to_owned())).copied();
        assert_eq!(number("file_open", "6.12 lsm"), Some(7));
        assert_eq!(number("file_open", "6.12 fmod_ret"), Some(8));
        assert_eq!(number("fexit/do_filp_open", "6.12 fmod_ret"), None);
        assert_eq!(number("all programs", "6.12 lsm"), Some(12));
        assert_eq!(difference(&kept, &starts), format!("vm: verifier: as in {BASELINE}\n"));
    }

    #[test]
    fn each_program_at_one_hook_has_a_row() {
        let starts = [start("lsm", &[("lsm/inode_unlink", Some(7)), ("lsm/inode_unlink", Some(5))])];
        let kept = parse(&markdown(&starts));
        for (row, expect) in [("inode_unlink", 7), ("inode_unlink (2)", 5), ("all programs", 12)] {
            assert_eq!(kept.get(&(row.to_owned(), "6.12 lsm".to_owned())), Some(&expect), "{row}");
        }
        assert_eq!(difference(&kept, &starts), format!("vm: verifier: as in {BASELINE}\n"));
    }

    #[test]
    fn what_changed_is_told() {
        let kept = parse(&markdown(&[start("lsm", &[("lsm/file_open", Some(100))])]));
        let now = [start("lsm", &[("lsm/file_open", Some(150)), ("lsm/inode_link", Some(1))])];
        let text = difference(&kept, &now);
        for line in ["file_open: 100 -> 150 (+50.0 %)", "inode_link: 1, new", "all programs: 100 -> 151"] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn kernels_that_do_not_count_have_no_number() {
        let starts = [start("fallback", &[("tp_btf/sys_exit", None)])];
        assert_eq!(starts[0].verified(), None);
        assert!(parse(&markdown(&starts)).keys().all(|(row, _)| !row.contains("sys_exit")));
    }
}
