//! One thing that a rule found.

use std::fmt;

/// Where, what, why it is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
    why: String,
    remedy: String,
}

impl Finding {
    /// `line` counts from 1.
    pub(crate) fn new(
        path: &str,
        line: usize,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), why: why.into(), remedy: remedy.into() }
    }

    /// Its line, for tests.
    #[cfg(test)]
    pub(crate) fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what, why, remedy } = self;
        write!(f, "{path}:{line}: {what}; {why}; {remedy}")
    }
}
