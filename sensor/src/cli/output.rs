//! What all verbs print alike: errors with a hint, and notes.

use std::{
    fmt,
    io::{self, IsTerminal, Write as _},
};

use anyhow::Error;
use tracing_subscriber::EnvFilter;

use crate::view::text::safe;

/// An error with the next step, which is printed on a line of its own.
#[derive(Debug)]
pub struct Hinted {
    message: String,
    hint: String,
}

impl Hinted {
    /// An error that says what to do.
    #[must_use]
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// Prints an error with its causes, once, and its hint.
pub fn print_error(error: &Error) {
    let hinted = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>());
    let hinted = hinted.or_else(|| error.downcast_ref::<Hinted>());
    let hint = hinted.map_or_else(String::new, |hinted| format!("hint: {}\n", hinted.hint));
    print_note(&format!("treeline: error: {}\n{hint}", chain(error)));
}

/// Prints to standard error. Where that cannot be written, there is nobody to be told.
pub fn print_note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The causes in one line; one that only repeats what the error before said is left out. They name files, whose names others
/// choose: nothing of them acts on the terminal. What has several lines keeps them.
fn chain(error: &Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if line.ends_with(&words) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&words);
    }
    line.split('\n').map(safe).collect::<Vec<_>>().join("\n")
}

/// Prints a text. Whoever reads may have seen enough of it (`| head`).
///
/// # Errors
/// It could not be written.
pub fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes until nobody reads any more (`| head`), and then to nowhere: what is found out is the same, and so is the exit status.
#[derive(Debug)]
pub struct UntilClosed<W> {
    to: W,
    closed: bool,
}

impl<W> UntilClosed<W> {
    /// Writes to this.
    #[must_use]
    pub fn new(to: W) -> Self {
        Self { to, closed: false }
    }

    fn unless_closed<T>(&mut self, result: io::Result<T>, otherwise: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(otherwise)
            }
            other => other,
        }
    }
}

impl<W: io::Write> io::Write for UntilClosed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let written = self.to.write(bytes);
        self.unless_closed(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.to.flush();
        self.unless_closed(flushed, ())
    }
}

/// Whether a stream takes colour: it is a terminal, and `NO_COLOR` (https://no-color.org) is not set.
#[must_use]
pub fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Sends the sensor's own notes to standard error. `TREELINE_LOG_FILTER` overrides the level.
pub fn start_notes(default_level: &str) {
    let filter =
        EnvFilter::try_from_env("TREELINE_LOG_FILTER").unwrap_or_else(|_| EnvFilter::new(default_level));
    let colour = is_coloured(&std::io::stderr());
    let notes =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // The journal has its own clock.
    let started = if std::env::var_os("JOURNAL_STREAM").is_some() {
        notes.without_time().try_init()
    } else {
        notes.try_init()
    };
    // A second start in one process (tests) keeps the first.
    drop(started);
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn causes_are_not_repeated() {
        let error = Err::<(), _>(anyhow::anyhow!("no such file")).context("cannot open `x`: no such file");
        assert_eq!(chain(&error.expect_err("it is one")), "cannot open `x`: no such file");
        let error = Err::<(), _>(Hinted::new("b", "do c")).context("a").expect_err("it is one");
        assert_eq!(chain(&error), "a: b");
    }

    #[test]
    fn nothing_in_an_error_acts_on_the_terminal() {
        let error = anyhow::anyhow!("cannot read `\u{1b}[2J\u{202e}x`:\nit's \"ä\"");
        assert_eq!(chain(&error), "cannot read `\\u{1b}[2J\\u{202e}x`:\nit's \"ä\"");
    }
}
