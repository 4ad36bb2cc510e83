//! The result protocol: one JSON object a line over the guest's second serial port.
//!
//! A run is `hello`, any number of `test` and `note`, and exactly one `exit`. A run without `exit` is a guest
//! that crashed or that hung; the reader tells the two apart by whether QEMU ended. Nothing else is written to
//! that port, but a reader must expect anything: a kernel that panics may do so in the middle of a line.

use serde::{Deserialize, Serialize};

/// Longest text of one field, in bytes. A serial port at 115 200 baud carries 11 KB a second, so a test that
/// fails with a megabyte of output must not delay the results behind it.
pub const TEXT_BYTES_MAX: usize = 2048;

/// One line of the protocol.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "line")]
pub enum Line {
    /// PID 1 runs and the file systems are mounted.
    Hello {
        /// The release that `uname` gives.
        kernel: String,
        /// The active security modules, in order, as securityfs lists them.
        lsm: String,
        /// How many tests will report.
        tests: usize,
    },
    /// Something worth printing beside the results.
    Note {
        /// What it is about.
        name: String,
        /// The text.
        text: String,
    },
    /// What the sensor's start took, by its own measure.
    Started(Started),
    /// One test ended.
    Test {
        /// `group/case`.
        name: String,
        /// How it ended.
        outcome: Outcome,
        /// How long its group has run so far, in milliseconds of guest time.
        elapsed_ms: u64,
    },
    /// All tests have reported and the guest powers off.
    Exit {
        /// 0 when no test failed, else 1.
        status: u8,
    },
}

/// A start of the sensor.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Started {
    /// Reading the kernel's types, in milliseconds.
    pub types_ms: u64,
    /// Creating the maps and making the programs ready, in milliseconds.
    pub object_ms: u64,
    /// Every program that was loaded.
    pub programs: Vec<Program>,
    /// Every hook of the mode, as the log has its state.
    #[serde(default)]
    pub hooks: Vec<Hook>,
}

impl Started {
    /// How many hooks are attached.
    pub fn attached_count(&self) -> usize {
        self.hooks.iter().filter(|hook| hook.is_attached()).count()
    }
}

/// A hook of the attach mode.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hook {
    /// Its name.
    pub hook: String,
    /// `attached`, or why it is not.
    pub state: String,
}

impl Hook {
    /// Whether the sensor sees what goes through it.
    pub fn is_attached(&self) -> bool {
        self.state == "attached"
    }
}

/// A program in the kernel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Program {
    /// Its hook.
    pub hook: String,
    /// Instructions that the verifier looked at; none before Linux 5.16.
    pub verified_instructions: Option<u32>,
    /// From handing it to the kernel until it was attached, in milliseconds.
    pub load_ms: u64,
}

/// How one test ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It held.
    Passed,
    /// It did not, and why.
    Failed(String),
    /// It could not be tried on this kernel, and why.
    Skipped(String),
}

impl Line {
    /// The line as it goes over the port, without the line end. Long texts are cut.
    pub fn encode(&self) -> String {
        let mut line = self.clone();
        match &mut line {
            Self::Test { outcome: Outcome::Failed(text) | Outcome::Skipped(text), .. }
            | Self::Note { text, .. } => cut(text),
            Self::Test { .. } | Self::Started(_) | Self::Hello { .. } | Self::Exit { .. } => {}
        }
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// Reads one line; anything that is not of the protocol is `None`.
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text.trim()).ok()
    }
}

/// Shortens `text` to its first and last part, at character boundaries: a failure's cause tends to be at either
/// end.
fn cut(text: &mut String) {
    if text.len() <= TEXT_BYTES_MAX {
        return;
    }
    let head = text.floor_char_boundary(TEXT_BYTES_MAX / 2 - 16);
    let tail = text.ceil_char_boundary(text.len() - (TEXT_BYTES_MAX / 2 - 16));
    *text = format!("{} [...] {}", &text[..head], &text[tail..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &Line, expect: &str) {
        assert_eq!(line.encode(), expect);
        assert_eq!(Line::decode(expect).as_ref(), Some(line));
    }

    #[test]
    fn lines_are_read_as_written() {
        check(&Line::Exit { status: 1 }, r#"{"line":"exit","status":1}"#);
        check(
            &Line::Test { name: "boot/btf".into(), outcome: Outcome::Passed, elapsed_ms: 7 },
            r#"{"line":"test","name":"boot/btf","outcome":{"outcome":"passed"},"elapsed_ms":7}"#,
        );
        check(
            &Line::Test { name: "a/b".into(), outcome: Outcome::Skipped("no python3".into()), elapsed_ms: 0 },
            r#"{"line":"test","name":"a/b","outcome":{"outcome":"skipped","why":"no python3"},"elapsed_ms":0}"#,
        );
    }

    #[test]
    fn what_is_no_line_is_nothing() {
        for text in ["", "{", "{\"line\":\"exit\"}", "[ 1.2] Kernel panic", "{\"line\":\"other\"}"] {
            assert_eq!(Line::decode(text), None, "{text}");
        }
    }

    #[test]
    fn long_texts_keep_both_ends() {
        let text = format!("start{}end", "ä".repeat(5000));
        let line = Line::Note { name: "n".into(), text }.encode();
        assert!(line.len() < TEXT_BYTES_MAX + 100, "{}", line.len());
        assert!(line.contains("start") && line.contains("end"));
    }
}
