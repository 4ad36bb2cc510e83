//! One group in a process of its own: runs it and prints a line for each case.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use treeline_vm_tests::{Line, Outcome, Started};

use super::stuck;
use crate::suite;

/// Where a group's cases report.
pub(crate) struct Report(());

impl Report {
    /// Reports `case`: an error is a failure.
    pub(crate) fn case(&self, case: &str, result: Result<()>) {
        self.outcome(
            case,
            result.map_or_else(|error| Outcome::Failed(format!("{error:#}")), |()| Outcome::Passed),
        );
    }

    /// Reports that `case` cannot be tried here.
    pub(crate) fn skip(&self, case: &str, why: &str) {
        self.outcome(case, Outcome::Skipped(why.to_owned()));
    }

    /// Reports something that was measured.
    pub(crate) fn note(&self, name: &str, text: String) {
        send(&Line::Note { name: name.to_owned(), text });
    }

    /// Tells where everything stands, for what waited in vain.
    pub(crate) fn stuck() {
        stuck::notes().iter().for_each(send);
    }

    /// Tells what a start of the sensor took.
    pub(crate) fn started(&self, started: Started) {
        send(&Line::Started(started));
    }

    fn outcome(&self, case: &str, outcome: Outcome) {
        send(&Line::Test { name: case.to_owned(), outcome, elapsed_ms: 0 });
    }
}

fn send(line: &Line) {
    let mut stdout = std::io::stdout().lock();
    // The runner has gone only when it has given this group up; there is nobody left to tell.
    let _ = writeln!(stdout, "{}", line.encode()).and_then(|()| stdout.flush());
}

/// Runs the group called `name`. What it did not report, the runner reports as failed with this output.
pub(crate) fn run(name: &str) -> ExitCode {
    let Some(group) = suite::group(name) else {
        eprintln!("no group is called {name}");
        return ExitCode::from(2);
    };
    match (group.run)(&Report(())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
