//! What the kernel said about itself while the suite ran.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use rustix::fs::OFlags;

/// Words that a healthy kernel does not say. `WARNING:` counts: a sensor's programs must not trip one.
const TROUBLE: &[&str] = &[
    "BUG:",
    "Oops",
    "WARNING:",
    "general protection fault",
    "Kernel panic",
    "rcu: INFO",
    "blocked for more than",
    "Out of memory:",
];

/// What some kernel of the matrix says on every boot in QEMU, before any program of ours is loaded.
const USUAL: &[&str] = &["WARNING: Support for unprivileged", "RETBleed: WARNING", "Spectre V2 : WARNING"];

/// The most records read; the kernel's own ring is smaller (128 KiB to 1 MiB).
const RECORD_COUNT_MAX: usize = 65_536;

/// Every message so far, oldest first.
pub(crate) fn read() -> Result<Vec<String>> {
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open("/dev/kmsg")
        .context("opening /dev/kmsg")?;
    let mut messages = Vec::new();
    let mut record = [0_u8; 8192];
    while messages.len() < RECORD_COUNT_MAX {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => messages.push(message(&record[..length])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // Overwritten while reading: the next read goes on with the oldest that is left.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error).context("reading /dev/kmsg"),
        }
    }
    Ok(messages)
}

/// The text of a `/dev/kmsg` record: after the first semicolon, without the continuation lines.
fn message(record: &[u8]) -> String {
    let text = String::from_utf8_lossy(record);
    let text = text.split_once(';').map_or(text.as_ref(), |(_, text)| text);
    text.lines().next().unwrap_or_default().to_owned()
}

/// The messages that mean a fault of the kernel or of what we loaded into it.
pub(crate) fn trouble(messages: &[String]) -> Vec<&str> {
    let is_trouble = |text: &str| {
        TROUBLE.iter().any(|word| text.contains(word)) && !USUAL.iter().any(|word| text.contains(word))
    };
    messages.iter().map(String::as_str).filter(|text| is_trouble(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(record: &str, expect: Option<&str>) {
        let messages = [message(record.as_bytes())];
        assert_eq!(trouble(&messages).first().copied(), expect, "{record}");
    }

    #[test]
    fn faults_are_found_in_records() {
        check("6,1,12,-;Run /init as init process\n SUBSYSTEM=x\n", None);
        check("1,2,3,-;BUG: kernel NULL pointer dereference\n", Some("BUG: kernel NULL pointer dereference"));
        check(
            "4,2,3,-;WARNING: CPU: 0 PID: 1 at kernel/x.c:1\n",
            Some("WARNING: CPU: 0 PID: 1 at kernel/x.c:1"),
        );
        check("4,2,3,-;RETBleed: WARNING: Spectre v2 mitigation\n", None);
        check("no semicolon Oops", Some("no semicolon Oops"));
    }
}
