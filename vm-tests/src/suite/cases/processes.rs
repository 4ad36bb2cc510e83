//! Getting others to do what one must not do oneself: processes outside of the session as brokers.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use super::InFallback::Unseen;
use super::{Case, denied, works};
use crate::act::tool;
use crate::suite::stage::{BYSTANDER, TRUSTED};

/// The part of the rule about brokers that these are about.
const RULE: &str = "processes/ptrace";

pub(super) const CASES: &[Case] = &[
    denied("trace-another", RULE, || outside("trace")).in_fallback(Unseen),
    denied("read-its-memory", RULE, || outside("read-memory")).in_fallback(Unseen),
    denied("write-its-memory", RULE, || outside("write-memory")).in_fallback(Unseen),
    denied("open-its-memory", RULE, || outside("open-memory")).in_fallback(Unseen),
    denied("take-its-descriptor", RULE, || outside("take-descriptor")).in_fallback(Unseen),
    works("look-at-another", || outside("look")),
    works("trace-one-s-own-child", || inside("trace")),
    works("write-the-memory-of-one-s-own-child", || inside("write-memory")),
    works("take-a-descriptor-of-one-s-own-child", || inside("take-descriptor")),
    // The exception is for who asks, and that is Python here, which has none.
    Case {
        program: TRUSTED,
        ..denied("trace-by-a-child-of-the-excepted", RULE, || outside("trace")).in_fallback(Unseen)
    },
    Case { program: TRUSTED, ..works("excepted-open-of-its-memory", open_memory) },
];

/// Somebody who was there before the session.
fn outside(way: &str) -> io::Result<()> {
    python(way, fs::read_to_string(BYSTANDER)?.trim())
}

fn inside(way: &str) -> io::Result<()> {
    let mut child = Command::new("/usr/bin/sleep").arg("60").stdin(Stdio::null()).spawn()?;
    let result = python(way, &child.id().to_string());
    child.kill()?;
    child.wait()?;
    result
}

fn open_memory() -> io::Result<()> {
    let path = format!("/proc/{}/mem", fs::read_to_string(BYSTANDER)?.trim());
    fs::File::open(path).map(drop)
}

fn python(way: &str, pid: &str) -> io::Result<()> {
    tool(&["/usr/bin/python3", "-I", "-S", "-c", include_str!("processes.py"), way, pid])
}
