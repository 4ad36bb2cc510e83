//! The checks and their evidence.

use std::fmt::Display;

/// Prints each check as it is made and remembers whether one failed.
#[derive(Debug, Default)]
pub(super) struct Report {
    ok: usize,
    failed: Vec<String>,
}

impl Report {
    /// One check: what was promised, whether it came true, and what shows it.
    pub(super) fn check(&mut self, promise: &str, holds: bool, evidence: impl Display) {
        println!("  {:<7}{promise}: {evidence}", if holds { "ok" } else { "FAILED" });
        if holds { self.ok += 1 } else { self.failed.push(promise.to_owned()) }
    }

    /// Prints the sum; `true` when everything held.
    pub(super) fn sum(&self) -> bool {
        println!();
        match self.failed.as_slice() {
            [] if self.ok > 0 => println!("all {} checks hold", self.ok),
            [] => println!("nothing was checked"),
            failed => println!(
                "{} of {} checks FAILED: {}",
                failed.len(),
                failed.len() + self.ok,
                failed.join("; ")
            ),
        }
        self.failed.is_empty() && self.ok > 0
    }
}

/// A heading between parts of the output.
pub(super) fn heading(text: &str) {
    println!("\n== {text}");
}

/// The first lines of a text, on one line, for evidence.
pub(super) fn brief(text: &str) -> String {
    const CHARS_MAX: usize = 160;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("`{}...`", &line[..end]),
        None => format!("`{line}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        let mut report = Report::default();
        assert!(!report.sum());
        report.check("a", true, "x");
        assert!(report.sum());
        report.check("b", false, "y");
        assert!(!report.sum());
    }

    #[test]
    fn briefs() {
        assert_eq!(brief("a\n  b"), "`a b`");
        assert_eq!(brief(&"é".repeat(161)), format!("`{}...`", "é".repeat(160)));
    }
}
