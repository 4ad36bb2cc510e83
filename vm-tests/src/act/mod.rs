//! The subject under test: runs inside a session and tries things.
//!
//! Each case runs in a process of its own whose arguments hold the case's mark, so that an entry of the log can
//! be told to belong to it by looking for the mark in the subject's ancestry.

pub(crate) mod lineage;
pub(crate) mod load;
mod tool;

use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};

pub(crate) use tool::{output, tool};

use crate::suite::cases::{self, Case};
use crate::suite::distribution;

/// The status with which the subject ends: one that nothing else in between uses.
pub(crate) const STATUS: u8 = 42;
/// Lines on standard output that are not results begin otherwise.
pub(crate) const PREFIX: &str = "act: ";

/// What became of one case.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Tried {
    pub(crate) case: String,
    /// `None` when it worked.
    pub(crate) errno: Option<i32>,
    /// The error in words.
    pub(crate) error: String,
}

impl Tried {
    fn new(case: &str, result: io::Result<()>) -> Self {
        let (errno, error) = match result {
            Ok(()) => (None, String::new()),
            // An error without a number is one of ours: it must not be taken for success or for a denial.
            Err(error) => (Some(error.raw_os_error().unwrap_or(-1)), error.to_string()),
        };
        Self { case: case.to_owned(), errno, error }
    }
}

/// What a case's process has in its arguments, and no other case's.
pub(crate) fn mark(case: &str) -> String {
    format!("@{case}@")
}

/// The subject's verbs: `all` tries every case, `case @NAME@` tries one, `read PATH` reads a file and says what came of
/// it, `as UID PROGRAM` executes a program as a user, `scripts PHASE USER` has brokers do things; the rest are those of [`lineage`].
pub(crate) fn run(words: &[&str]) -> ExitCode {
    match words {
        ["all"] => {
            cases::all().for_each(|case| print(&in_own_process(case)));
            ExitCode::from(STATUS)
        }
        ["case", mark] => match cases::all().find(|case| self::mark(case.name) == *mark) {
            Some(case) => {
                print(&Tried::new(case.name, (case.act)()));
                ExitCode::SUCCESS
            }
            None => ExitCode::from(2),
        },
        ["hop", rest @ ..] => lineage::hop(rest),
        ["probe", rest @ ..] => lineage::probe(rest),
        ["scripts", phase, user] => distribution::act(phase, user),
        ["load", name] => load::run(name, None),
        ["load", name, login] => load::run(name, Some(login)),
        ["as", uid, program, rest @ ..] => as_user(uid, program, rest),
        ["by-thread", rest @ ..] => lineage::by_thread(rest),
        ["read", path] => match std::fs::read(path) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{path}: {error}");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::from(2),
    }
}

/// Becomes a user with no other group, and executes a program.
fn as_user(uid: &str, program: &str, words: &[&str]) -> ExitCode {
    let Ok(uid) = uid.parse() else { return ExitCode::from(2) };
    let error = Command::new(program).args(words).uid(uid).gid(uid).exec();
    eprintln!("{program}: {error}");
    ExitCode::from(2)
}

fn print(tried: &Tried) {
    let text = serde_json::to_string(tried).unwrap_or_default();
    // Nobody is left to tell when the reader has gone.
    let _ = writeln!(io::stdout().lock(), "{PREFIX}{text}");
}

/// Runs one case as `PROGRAM case @NAME@` and returns what it printed.
fn in_own_process(case: &Case) -> Tried {
    let output = Command::new(case.program)
        .args(["act", "case", &mark(case.name)])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return Tried::new(case.name, Err(error)),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(read).unwrap_or_else(|| {
        let error = format!("{} ended with {} and no result", case.program, output.status);
        Tried::new(case.name, Err(io::Error::other(error)))
    })
}

/// Reads a result line of the subject.
pub(crate) fn read(line: &str) -> Option<Tried> {
    serde_json::from_str(line.strip_prefix(PREFIX)?).ok()
}
