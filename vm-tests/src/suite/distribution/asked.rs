//! Inside a session: tries the scripts of one user's cases, each in a shell whose arguments hold the case's mark.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::cases::{self, Phase, User};
use crate::act;

/// A script that waits for a broker which was kept from it ends by this.
const LIMIT: Duration = Duration::from_secs(180);
/// What is kept of what a script says.
const SAID_BYTES_MAX: u64 = 4096;

/// `scripts PHASE USER`: what each ended with goes to standard output, one a line, for a reader who wonders why a mark is
/// missing. What came of a case, its mark and the log tell.
pub(crate) fn run(phase: &str, user: &str) -> ExitCode {
    let (Some(phase), Some(user)) = (Phase::of_word(phase), User::of_word(user)) else {
        return ExitCode::from(2);
    };
    for case in cases::ALL.iter().filter(|case| case.user == user && case.is_of(phase)) {
        let said = script(case.script, &case.id(phase), phase);
        // Nobody is left to tell when the reader has gone.
        let _ = writeln!(std::io::stdout().lock(), "{}", told(&case.id(phase), &said));
    }
    ExitCode::SUCCESS
}

/// A line about a case, for [`super::brokers`] to find by its beginning.
pub(super) fn told(id: &str, said: &str) -> String {
    format!("{id}: {}", said.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn script(text: &str, id: &str, phase: Phase) -> String {
    let started = Instant::now();
    let child = Command::new("/bin/sh")
        .args(["-c", &format!("exec 2>&1; {text}"), &act::mark(id)])
        .env("PHASE", phase.word())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return error.to_string(),
    };
    let output = child.stdout.take();
    // In a thread: what a script leaves running may keep the pipe open for ever, and nobody waits for it then.
    let (sender, said) = std::sync::mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut said = Vec::new();
        let _ = output.map(|output| output.take(SAID_BYTES_MAX).read_to_end(&mut said));
        let _ = sender.send(said);
    });
    let end = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.to_string(),
            Ok(None) if started.elapsed() > LIMIT => {
                let _ = child.kill();
                let _ = child.wait();
                break format!("killed after {} s", LIMIT.as_secs());
            }
            Ok(None) => thread::sleep(Duration::from_millis(50)),
            Err(error) => break error.to_string(),
        }
    };
    let said = said.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
    format!("{end}: {}", String::from_utf8_lossy(&said))
}
