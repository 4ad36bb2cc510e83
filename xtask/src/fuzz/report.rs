//! What libFuzzer said of a run.

use std::time::Duration;

/// One target's run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Inputs that it ran on.
    pub(super) runs_count: u64,
    /// Edges of the code that it reached.
    edges_count: u64,
    /// Edges by how often, and values compared.
    features_count: u64,
    elapsed: Duration,
    /// What broke, and the input that did it.
    finding: Option<Finding>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Finding {
    what: String,
    input: Option<String>,
}

impl Report {
    /// Reads the output of one run.
    pub(super) fn read(output: &str, is_success: bool, elapsed: Duration) -> Self {
        let mut report = Self { elapsed, ..Self::default() };
        let mut finding = Finding::default();
        let mut is_message = false;
        for line in output.lines() {
            let mut words = line.split_ascii_whitespace().skip_while(|word| *word != "cov:");
            if let (Some(edges), Some("ft:"), Some(features)) = (words.nth(1), words.next(), words.next()) {
                report.edges_count = edges.parse().unwrap_or(report.edges_count);
                report.features_count = features.parse().unwrap_or(report.features_count);
            }
            // `#8192`, then what happened there; a run that broke has no final statistics.
            let place = line.strip_prefix('#').and_then(|rest| rest.split_ascii_whitespace().next());
            let total = line.strip_prefix("stat::number_of_executed_units:");
            if let Some(count) = total.or(place).and_then(|count| count.trim().parse().ok()) {
                report.runs_count = count;
            }
            if let Some((_, path)) = line.split_once("Test unit written to ") {
                finding.input = Some(path.trim().to_owned());
            } else if let Some((_, place)) = line.split_once(" panicked at ") {
                finding.what = format!("panicked at {}", place.trim_end_matches(':'));
                is_message = true;
            } else if is_message {
                finding.what = format!("{}: {}", finding.what, line.trim());
                is_message = false;
            } else if let Some((_, error)) = line.split_once("ERROR: libFuzzer: ")
                && finding.what.is_empty()
            {
                finding.what = error.trim().to_owned();
            }
        }
        if !is_success {
            if finding.what.is_empty() {
                finding.what = "it ended badly and did not say why".to_owned();
            }
            report.finding = Some(finding);
        }
        report
    }

    /// Whether an input broke the target.
    pub(super) fn is_broken(&self) -> bool {
        self.finding.is_some()
    }

    /// The line for a reader, and for the tally of `cargo xtask test`.
    pub(super) fn line(&self, target: &str) -> String {
        let Self { runs_count, edges_count, features_count, elapsed, finding } = self;
        let counts = format!(
            "{runs_count} runs, {edges_count} edges, {features_count} features in {} s",
            elapsed.as_secs()
        );
        match finding {
            None => format!("  passed   {target}: {counts}"),
            Some(Finding { what, input }) => {
                let input = input.as_deref().unwrap_or("none was written");
                format!("  FAILED   {target}: {what}; input: {input}; {counts}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, is_success: bool, expect: &str) {
        let report = Report::read(output, is_success, Duration::from_secs(4));
        assert_eq!(report.line("glob"), expect);
        assert_eq!(report.is_broken(), !is_success);
    }

    #[test]
    fn runs_are_read() {
        check(
            "INFO: Seed: 1\n#2\tINITED cov: 9 ft: 10 corp: 1/1b exec/s: 0 rss: 30Mb\n\
             #512\tNEW    cov: 75 ft: 301 corp: 40/1Kb lim: 8 exec/s: 0 rss: 30Mb L: 8/8 MS: 1 CopyPart-\n\
             #20000\tDONE   cov: 80 ft: 310 corp: 41/1Kb lim: 8 exec/s: 0 rss: 31Mb\n\
             Done 20000 runs in 1 second(s)\nstat::number_of_executed_units: 20000\n",
            true,
            "  passed   glob: 20000 runs, 80 edges, 310 features in 4 s",
        );
        check(
            "#64\tNEW    cov: 75 ft: 301 corp: 40/1Kb\n\nthread '<unnamed>' (7) panicked at src/glob.rs:1:2:\nno more\n\
             ==1== ERROR: libFuzzer: deadly signal\n\
             artifact_prefix='f/'; Test unit written to f/crash-ab\n",
            false,
            "  FAILED   glob: panicked at src/glob.rs:1:2: no more; input: f/crash-ab; 64 runs, 75 edges, 301 features in 4 s",
        );
        check(
            "==1== ERROR: libFuzzer: timeout after 10 seconds\nTest unit written to f/timeout-ab\n",
            false,
            "  FAILED   glob: timeout after 10 seconds; input: f/timeout-ab; 0 runs, 0 edges, 0 features in 4 s",
        );
        check(
            "",
            false,
            "  FAILED   glob: it ended badly and did not say why; input: none was written; 0 runs, 0 edges, 0 features in 4 s",
        );
    }
}
