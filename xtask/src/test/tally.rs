//! What a step counted, read from what it printed.

use std::fmt;

/// Counts of tests, and the names that a reader wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that ran and held.
    pub(crate) passed_count: usize,
    /// Tests that did not.
    pub(crate) failed_count: usize,
    /// Tests that said why they could not run here.
    pub(crate) skips: Vec<Skip>,
    /// Names of those that failed.
    pub(crate) failures: Vec<String>,
}

/// A test that could not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) name: String,
    pub(crate) reason: String,
}

impl Tally {
    /// A step that is one test, and held.
    pub(crate) fn passed() -> Self {
        Self { passed_count: 1, ..Self::default() }
    }

    /// A step that is one test, and could not run here.
    pub(crate) fn skipped(name: &str, reason: &str) -> Self {
        Self { skips: vec![Skip::new(name, reason)], ..Self::default() }
    }

    /// Of `cargo test -- --show-output`. A test skips by printing `skipped: NAME: REASON` as a line of its own and returning, which
    /// libtest counts as passed.
    pub(crate) fn of_libtest(output: &str) -> Self {
        let mut tally = Self::default();
        let mut returned_count = 0_usize;
        for line in output.lines() {
            if let Some(counts) = line.strip_prefix("test result: ") {
                tally.passed_count += count_before(counts, "passed");
                tally.failed_count += count_before(counts, "failed");
                let ignored_count = count_before(counts, "ignored");
                tally.skips.extend((0..ignored_count).map(|_| Skip::new("an #[ignore]d test", "it says so")));
            } else if let Some(skip) = line.strip_prefix("skipped: ").and_then(Skip::parse) {
                returned_count += 1;
                tally.skips.push(skip);
            } else if let Some(name) = failed_name(line) {
                tally.failures.push(name.to_owned());
            }
        }
        tally.passed_count = tally.passed_count.saturating_sub(returned_count);
        tally
    }

    /// Of our own verbs, which print a line per test: two blanks, `ok`, `passed`, `FAILED` or `skipped`, its name, and after a colon
    /// what there is to say.
    pub(crate) fn of_verb(output: &str) -> Self {
        let mut tally = Self::default();
        for line in output.lines() {
            let Some(line) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) else { continue };
            let Some((word, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim();
            match word {
                "ok" | "passed" => tally.passed_count += 1,
                "FAILED" => {
                    tally.failed_count += 1;
                    tally.failures.push(rest.to_owned());
                }
                "skipped" => tally.skips.extend(Skip::parse(rest)),
                _ => {}
            }
        }
        tally
    }
}

impl Skip {
    fn new(name: &str, reason: &str) -> Self {
        Self { name: name.to_owned(), reason: reason.to_owned() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, reason) = text.split_once(": ")?;
        Some(Self::new(name.trim(), reason.trim()))
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

/// 14 of `ok. 14 passed; 0 failed`.
fn count_before(counts: &str, word: &str) -> usize {
    let mut words =
        counts.split([' ', ';', '.']).filter(|word| !word.is_empty()).rev().skip_while(|each| *each != word);
    words.nth(1).and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn failed_name(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tally: &Tally, passed: usize, failed: usize, skips: &[(&str, &str)], failures: &[&str]) {
        let expect = Tally {
            passed_count: passed,
            failed_count: failed,
            skips: skips.iter().map(|(name, reason)| Skip::new(name, reason)).collect(),
            failures: failures.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(*tally, expect);
    }

    #[test]
    fn libtest_results_are_summed() {
        let output = "running 2 tests\n\
            test a ... ok\n\
            test b::c ... FAILED\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        check(&Tally::of_libtest(output), 13, 1, &[("an #[ignore]d test", "it says so")], &["b::c"]);
    }

    #[test]
    fn a_skip_is_not_a_pass() {
        let output = "successes:\n\n---- a stdout ----\nskipped: a: needs root\n\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        check(&Tally::of_libtest(output), 1, 0, &[("a", "needs root")], &[]);
        check(&Tally::of_libtest(&output.replace("skipped", "other")), 2, 0, &[], &[]);
    }

    #[test]
    fn verbs_are_counted_by_line() {
        let output = "vm: 6.1: booted\n  passed   lineage/a (0.1 s)\n  FAILED   b (0.2 s): no\n             more\n  \
            skipped  c: no python3\n  ok     d: e\n  note     n: x\nvm: 2 passed\n";
        check(&Tally::of_verb(output), 2, 1, &[("c", "no python3")], &["b (0.2 s): no"]);
    }
}
