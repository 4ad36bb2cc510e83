//! Steps as they end, and the table of them.

use std::time::{Duration, Instant};

use anyhow::Result;

use treeline_vm_tests::NO_RESULT_EITHER;

use super::tally::Tally;
use crate::outcome::Outcome;

/// A run of several steps.
#[derive(Debug, Default)]
pub(crate) struct Suite {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    tally: Tally,
    elapsed: Duration,
    /// Why it was left out, if it was.
    left_out: Option<String>,
}

impl Suite {
    /// Runs one step. A step that cannot end properly is one failed test, named as the step. Answers whether all of it held.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Tally>) -> bool {
        println!("==> {name}");
        let started = Instant::now();
        let tally = work().unwrap_or_else(|error| {
            eprintln!("error: {name}: {error:#}");
            Tally { failed_count: 1, failures: vec![name.to_owned()], ..Tally::default() }
        });
        let is_held = tally.failed_count == 0;
        self.rows.push(Row { name: name.to_owned(), tally, elapsed: started.elapsed(), left_out: None });
        is_held
    }

    /// Notes a step that is not run, so that the table shows what is not known.
    pub(crate) fn leave_out(&mut self, name: &str, why: &str) {
        self.rows.push(Row {
            name: name.to_owned(),
            tally: Tally::default(),
            elapsed: Duration::ZERO,
            left_out: Some(why.to_owned()),
        });
    }

    /// Prints the table, the skips and the failures by name, and last the sum, in a line of its own.
    pub(crate) fn close(&self) -> Outcome {
        print!("{}", self.table());
        Outcome::from_count(self.rows.iter().map(|row| row.tally.failed_count).sum())
    }

    fn table(&self) -> String {
        let mut lines = vec![String::new()];
        lines.push(format!(
            "{:<24} {:>7} {:>7} {:>7} {:>8}",
            "step", "passed", "failed", "skipped", "seconds"
        ));
        for Row { name, tally, elapsed, left_out } in &self.rows {
            lines.push(left_out.as_ref().map_or_else(
                || {
                    format!(
                        "{name:<24} {:>7} {:>7} {:>7} {:>8.1}",
                        tally.passed_count,
                        tally.failed_count,
                        tally.skips.len(),
                        elapsed.as_secs_f64()
                    )
                },
                |why| format!("{name:<24} not run: {why}"),
            ));
        }
        let rows = &self.rows;
        let skips =
            rows.iter().flat_map(|row| row.tally.skips.iter().map(|skip| row.named(&skip.to_string())));
        let failures =
            rows.iter().flat_map(|row| row.tally.failures.iter().map(|failure| row.named(failure)));
        let (skips, failures): (Vec<String>, Vec<String>) = (skips.collect(), failures.collect());
        for (title, names) in [("skipped", &skips), ("failed", &failures)] {
            if !names.is_empty() {
                lines.push(format!("\n{title} ({}):", names.len()));
                lines.extend(but_for_consequences(names));
            }
        }
        let sum = |count: fn(&Tally) -> usize| self.rows.iter().map(|row| count(&row.tally)).sum::<usize>();
        let (passed, failed, skipped) = (
            sum(|tally| tally.passed_count),
            sum(|tally| tally.failed_count),
            sum(|tally| tally.skips.len()),
        );
        lines.push(format!("\n{passed} passed, {failed} failed, {skipped} skipped\n"));
        lines.join("\n")
    }
}

/// What a group's end took with it is counted, not listed: the line before says why, and would be lost among them.
fn but_for_consequences(names: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for same in names.chunk_by(|one, other| is_consequence(one) == is_consequence(other)) {
        match same {
            [first, ..] if is_consequence(first) => {
                lines.push(format!("    and {} more with it", same.len()));
            }
            others => lines.extend_from_slice(others),
        }
    }
    lines
}

fn is_consequence(name: &str) -> bool {
    name.ends_with(NO_RESULT_EITHER)
}

impl Row {
    /// The name of one of its tests; a step that is one test has one name.
    fn named(&self, test: &str) -> String {
        if test.starts_with(&self.name) { format!("  {test}") } else { format!("  {}: {test}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn the_table_names_what_was_not_seen_to_hold() {
        let mut suite = Suite::default();
        assert!(suite.step("one", || Ok(Tally::passed())));
        assert!(!suite.step("two", || bail!("no")));
        assert!(suite.step("three", || Ok(Tally::skipped("x", "needs root"))));
        suite.leave_out("four", "not asked for");
        let table = suite.table();
        assert!(table.contains("four                     not run: not asked for\n"), "{table}");
        assert!(table.contains("\nskipped (1):\n  three: x: needs root\n"), "{table}");
        assert!(table.contains("\nfailed (1):\n  two\n"), "{table}");
        assert_eq!(table.lines().last(), Some("1 passed, 1 failed, 1 skipped"));
        assert_eq!(suite.close(), Outcome::Findings);
    }

    #[test]
    fn what_ended_with_a_group_is_counted() {
        let name = |text: &str| format!("  vm: 6.12-lsm/{text}");
        let consequence = |case: &str| name(&format!("enforce/{case} (600.0 s): {NO_RESULT_EITHER}"));
        let first = name("enforce/a (600.0 s): no result: killed after 600 s");
        let names =
            [name("boot/x (0.1 s): no"), first.clone(), consequence("b"), consequence("c"), name("pins/y")];
        let expect = [names[0].clone(), first, "    and 2 more with it".to_owned(), names[4].clone()];
        assert_eq!(but_for_consequences(&names), expect);
        assert_eq!(but_for_consequences(&[]), [""; 0]);
    }
}
