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

/// Where the kernel says so, it was single-stepped without anybody having asked for it: programs of ours can set neither
/// the flag nor a debug register, and the comment beside this warning knows of one cause, an emulator
/// (arch/x86/kernel/traps.c).
const EMULATOR: &str = "at arch/x86/kernel/traps.c:";
const EMULATOR_FUNCTION: &str = " exc_debug_kernel+";

/// How much of what follows is told of a fault: the registers and the stack.
const FOLLOWING: usize = 30;

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

/// What the messages say of the kernel and of what was loaded into it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Health {
    Clean,
    /// Nothing but a fault of the machine's emulator.
    Emulator(String),
    /// Every such message, and what followed the first.
    Trouble(String),
}

/// Looks for messages that mean a fault.
pub(crate) fn health(messages: &[String], is_emulated: bool) -> Health {
    let is_trouble = |text: &str| {
        TROUBLE.iter().any(|word| text.contains(word)) && !USUAL.iter().any(|word| text.contains(word))
    };
    let is_emulators =
        |text: &str| is_emulated && text.contains(EMULATOR) && text.contains(EMULATOR_FUNCTION);
    let trouble: Vec<usize> = (0..messages.len()).filter(|at| is_trouble(&messages[*at])).collect();
    let ours = trouble.iter().find(|at| !is_emulators(&messages[**at]));
    let Some(first) = ours.or(trouble.first()) else { return Health::Clean };
    let end = messages.len().min(first + FOLLOWING);
    let all = trouble.iter().map(|at| messages[*at].as_str());
    let following = messages[*first..end].iter().map(String::as_str);
    let text = all.chain(["which began with:"]).chain(following).collect::<Vec<_>>().join("\n");
    if ours.is_some() { Health::Trouble(text) } else { Health::Emulator(text) }
}

/// Whether QEMU translates the guest's instructions, by the name that it gives to such a processor.
pub(crate) fn is_emulated() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("QEMU TCG CPU"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(record: &str, expect: Option<&str>) {
        let found = match health(&[message(record.as_bytes())], true) {
            Health::Clean => None,
            Health::Trouble(text) => Some(text.lines().next().expect("what it is").to_owned()),
            Health::Emulator(text) => panic!("{text}"),
        };
        assert_eq!(found.as_deref(), expect, "{record}");
    }

    #[test]
    fn a_single_step_that_nobody_asked_for_is_the_emulators() {
        let step =
            "WARNING: CPU: 0 PID: 1 at arch/x86/kernel/traps.c:1165 exc_debug_kernel+0x10b/0x170".to_owned();
        let bug = "BUG: kernel NULL pointer dereference".to_owned();
        let check = |messages: &[&String], is_emulated, expect: fn(&Health) -> bool| {
            let messages: Vec<String> = messages.iter().copied().cloned().collect();
            let found = health(&messages, is_emulated);
            assert!(expect(&found), "{found:?}");
        };
        check(&[&step], true, |found| matches!(found, Health::Emulator(_)));
        check(&[&step], false, |found| matches!(found, Health::Trouble(_)));
        check(
            &[&step, &bug],
            true,
            |found| matches!(found, Health::Trouble(text) if text.ends_with("which began with:\nBUG: kernel NULL pointer dereference")),
        );
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
