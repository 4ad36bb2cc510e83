//! Becoming the command: same process, same terminal, same signals, its own exit status.
//!
//! What is ignored stays ignored, as under `nohup`, and what is blocked stays blocked.

use std::{ffi::OsString, io, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Result, bail};
use treeline_event::SessionId;

use crate::backend::linux::pass_on_broken_pipes;

/// The variable that tells a command which session it is in. It proves nothing; it is for people and hooks.
pub const SESSION_VARIABLE: &str = "TREELINE_SESSION";

/// Replaces this process by the command. Returns only when that failed, with the exit code that shells use: 127 when
/// there is no such command, 126 when it cannot be executed.
#[must_use]
pub fn exec(command: &[OsString], session: Option<SessionId>) -> u8 {
    let Some((program, arguments)) = command.split_first() else {
        return 127;
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(session) = session {
        command.env(SESSION_VARIABLE, session.to_string());
    }
    pass_on_broken_pipes(&mut command);
    let error = command.exec();
    eprintln!("treeline: error: cannot execute `{}`: {error}", program.display());
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// The command as text, for the entry that says what a session was to run.
///
/// # Errors
/// There is no command.
pub fn words(command: &[OsString]) -> Result<Vec<String>> {
    if command.is_empty() {
        bail!("there is no command to run");
    }
    Ok(command
        .iter()
        .map(|word| {
            treeline_event::PathBytes::from(std::os::unix::ffi::OsStrExt::as_bytes(word.as_os_str()))
                .to_string()
        })
        .collect())
}
