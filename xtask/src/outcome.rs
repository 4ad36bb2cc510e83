//! How a verb ended.

use std::process::ExitCode;

/// What a verb that ran to its end has to say; one that could not is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing to complain of: status 0.
    Clean,
    /// It looked, and found something: status 1.
    Findings,
}

impl Outcome {
    /// The status of a verb that could not do its work.
    pub(crate) fn broken() -> ExitCode {
        ExitCode::from(2)
    }

    /// `Clean` when nothing was found.
    pub(crate) fn from_count(findings_count: usize) -> Self {
        if findings_count == 0 { Self::Clean } else { Self::Findings }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Clean => Self::SUCCESS,
            Outcome::Findings => Self::from(1),
        }
    }
}
