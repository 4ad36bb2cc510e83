//! `docs/escape-matrix.md`: what came of every alias with every operation, as the guests told it.
//!
//! One section for each kernel and attach mode. A run replaces the sections of the guests that it booted, or fails when
//! they differ from what is committed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use treeline_vm_tests::Line;

const PATH: &str = "docs/escape-matrix.md";
/// How a note of the suite begins that is a row: `matrix MODE ALIAS`.
const PREFIX: &str = "matrix ";

const HEAD: &str = "\
# The escape matrix

Written by `cargo xtask vm --write-matrix` from what guests told. A run without it fails when a guest tells otherwise: those
of mode `lsm` on every kernel and those of all modes on one are asked each time, the others with `--only matrix`.

Each alias is another way to a file that a rule in `enforce` protects with all operations, or, in the row
`may-be-read`, with all but reading. What begins with `execute` is about a program: by its path, or, in the rows
`content-`, by its SHA-256; it is not tried where a directory above is renamed, since a path does not follow a program.
What no rule is about
is in the rows `innocent-`. Each cell is tried without the sensor first. **stopped**: no effect, and an entry of the log names the rule. **stopped, not recorded**: no effect,
without such an entry. **recorded**: it had its effect, and an entry names the rule. **not seen**: it had its effect,
and no entry names the rule. **not applicable**: it does not work on this kernel without the sensor either, for a reason
that the suite knows (`vm-tests/src/suite/matrix/cell.rs`).
";

/// Sections by their heading, rows by alias.
#[derive(Default)]
pub(super) struct Matrix(BTreeMap<String, BTreeMap<String, String>>);

impl Matrix {
    /// Takes up the rows that a guest told.
    pub(super) fn add(&mut self, series: &str, lines: &[Line]) {
        for line in lines {
            let Line::Note { name, text } = line else { continue };
            let Some((mode, alias)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            let section = self.0.entry(heading(series, mode)).or_default();
            section.insert(alias.to_owned(), text.replace("; ", "<br>"));
        }
    }

    /// Compares with the committed document, or writes it. Returns the number of sections that differ from it.
    pub(super) fn settle(self, root: &Path, write: bool) -> Result<usize> {
        let path = root.join(PATH);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let committed = parse(&text);
        let differ: Vec<&String> = self
            .0
            .iter()
            .filter(|(heading, rows)| committed.get(*heading) != Some(rows))
            .map(|(heading, _)| heading)
            .collect();
        if differ.is_empty() {
            return Ok(0);
        }
        if !write {
            for heading in &differ {
                println!(
                    "vm: {PATH}: `{heading}` is not what the guest told; see `cargo xtask vm --write-matrix`"
                );
            }
            return Ok(differ.len());
        }
        let mut sections = committed;
        sections.extend(self.0);
        fs::write(&path, render(&sections)).with_context(|| format!("writing {}", path.display()))?;
        println!("vm: {PATH}: written");
        Ok(0)
    }
}

fn heading(series: &str, mode: &str) -> String {
    format!("Linux {series}, mode `{mode}`")
}

fn render(sections: &BTreeMap<String, BTreeMap<String, String>>) -> String {
    let mut text = HEAD.to_owned();
    for (heading, rows) in sections {
        text.push_str(&format!("\n## {heading}\n\n| alias | what came of it |\n|---|---|\n"));
        for (alias, fates) in rows {
            text.push_str(&format!("| {alias} | {fates} |\n"));
        }
    }
    text
}

/// The inverse of [`render`].
fn parse(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut heading = None;
    for line in text.lines() {
        if let Some(found) = line.strip_prefix("## ") {
            sections.entry(found.to_owned()).or_default();
            heading = Some(found);
        }
        let cells = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")?.split_once(" | "));
        if let (Some(heading), Some((alias, fates))) = (heading, cells)
            && alias != "alias"
        {
            sections.entry(heading.to_owned()).or_default().insert(alias.to_owned(), fates.to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Matrix {
        let mut matrix = Matrix::default();
        matrix.add("6.12", &[Line::Note { name: "matrix lsm dots".into(), text: text.into() }]);
        matrix.add("6.12", &[Line::Note { name: "cost".into(), text: "1".into() }]);
        matrix
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let matrix = told("not seen: link; stopped: read");
        let text = render(&matrix.0);
        assert!(text.contains("## Linux 6.12, mode `lsm`"), "{text}");
        assert!(text.contains("| dots | not seen: link<br>stopped: read |"), "{text}");
        assert_eq!(parse(&text), matrix.0);
    }

    #[test]
    fn what_differs_is_found_and_what_is_written_does_not() {
        let root = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir(root.path().join("docs")).expect("a directory");
        let settle = |text: &str, write| told(text).settle(root.path(), write).expect("it can be read");
        assert_eq!(settle("stopped: read", false), 1);
        assert_eq!(settle("stopped: read", true), 0);
        assert_eq!(settle("stopped: read", false), 0);
        assert_eq!(settle("not seen: read", false), 1);
    }
}
