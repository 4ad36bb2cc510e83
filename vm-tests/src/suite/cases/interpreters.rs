//! Files that the kernel runs by another program, and the same files handed to that program. A rule about execution is
//! asked for every file that the kernel was told to run; what a shell is given to read is data to the kernel (THREATS.md,
//! E13), which is recorded, and which a rule about reading keeps from it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::{Case, Event, denied, works};
use crate::act::{output, tool};

const SHELL: &str = "/usr/bin/bash";
/// The program that the kernel is told to run files by which begin with its name below.
const CAT: &str = "/usr/bin/cat";

/// Scripts: one that must not run, one that no rule is about, one whose interpreter must not run, and one that must not be
/// read.
const FORBIDDEN: &str = "/usr/local/bin/forbidden-script";
const SCRIPT: &str = "/home/dev/work/script";
const BY_FORBIDDEN: &str = "/home/dev/work/script-by-forbidden";
const UNREADABLE: &str = "/usr/local/lib/unreadable-script";
/// The first three once more, as files of formats that are registered with the kernel.
const FORBIDDEN_FORMAT: &str = "/usr/local/bin/forbidden-format";
const FORMAT: &str = "/home/dev/work/format";
const FORMAT_BY_FORBIDDEN: &str = "/home/dev/work/format-by-forbidden";

/// What is in each of them.
const FILES: [(&str, &str); 7] = [
    (FORBIDDEN, "#!/usr/bin/bash\necho ran\n"),
    (SCRIPT, "#!/usr/bin/bash\necho ran\n"),
    (BY_FORBIDDEN, "#!/usr/local/bin/forbidden\n"),
    (UNREADABLE, "echo ran\n"),
    (FORBIDDEN_FORMAT, "guest-cat\n"),
    (FORMAT, "guest-cat\n"),
    (FORMAT_BY_FORBIDDEN, "guest-forbidden\n"),
];

/// Formats by their first bytes, which are their names, too, and what runs such files.
const FORMATS: [(&str, &str); 2] = [("guest-cat", CAT), ("guest-forbidden", crate::suite::stage::FORBIDDEN)];
const BINFMT_MISC: &str = "/proc/sys/fs/binfmt_misc";
const REGISTER: &str = "/proc/sys/fs/binfmt_misc/register";

/// More rules for the sessions that try these cases.
pub(crate) const RULES: &str = "  - id: scripts
    kind: exec
    paths: [\"/usr/local/bin/forbidden-script\", \"/usr/local/bin/forbidden-format\"]
    reason: These files are not for agents to run
  - id: unread-scripts
    kind: file
    paths: [\"/usr/local/lib/unreadable-script\"]
    operations: [read]
    reason: What cannot be read cannot be run
";

pub(super) const CASES: &[Case] = &[
    denied("script-directly", "scripts", || prints(&mut Command::new(FORBIDDEN), "ran\n")),
    denied("script-with-a-forbidden-interpreter", "program", || tool(&[BY_FORBIDDEN])),
    works("script-of-the-project", || prints(&mut Command::new(SCRIPT), "ran\n"))
        .recorded(&[Event::Exec { argv: &[SHELL, SCRIPT], script: SCRIPT }]),
    // No rule about execution is asked: the kernel runs the shell.
    works("forbidden-script-by-shell", || by_shell(FORBIDDEN))
        .recorded(&[Event::Exec { argv: &[SHELL, FORBIDDEN], script: "" }]),
    works("forbidden-script-on-standard-input", || on_standard_input(FORBIDDEN))
        .recorded(&[Event::Open(FORBIDDEN), Event::Exec { argv: &[SHELL], script: "" }]),
    denied("unreadable-script-by-shell", "unread-scripts", || by_shell(UNREADABLE)),
    denied("unreadable-script-on-standard-input", "unread-scripts", || on_standard_input(UNREADABLE)),
    denied("format-of-a-forbidden-file", "scripts", || {
        prints(&mut Command::new(FORBIDDEN_FORMAT), "guest-cat\n")
    })
    .needs(REGISTER),
    denied("format-with-a-forbidden-interpreter", "program", || tool(&[FORMAT_BY_FORBIDDEN])).needs(REGISTER),
    works("format-that-is-registered", || prints(&mut Command::new(FORMAT), "guest-cat\n"))
        .needs(REGISTER)
        .recorded(&[Event::Exec { argv: &[CAT, FORMAT], script: FORMAT }]),
];

fn by_shell(script: &str) -> io::Result<()> {
    prints(Command::new(SHELL).arg(script), "ran\n")
}

/// `SHELL < script`: whoever starts the shell opens the file, as a shell does for the one that it starts.
fn on_standard_input(script: &str) -> io::Result<()> {
    let script = File::open(script)?;
    prints(Command::new(SHELL).stdin(script), "ran\n")
}

/// That a program succeeds is not enough: a shell that has read nothing does, too.
fn prints(command: &mut Command, expect: &str) -> io::Result<()> {
    let printed = output(command)?;
    if printed == expect { Ok(()) } else { Err(io::Error::other(format!("it printed `{printed}`"))) }
}

/// Makes the files, and registers the formats where the kernel has a place for them. Outside of every session.
pub(crate) fn prepare() -> Result<()> {
    for (path, text) in FILES {
        let directory = Path::new(path).parent().context("a file without a directory")?;
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        fs::write(path, text).with_context(|| format!("writing {path}"))?;
        fs::set_permissions(path, Permissions::from_mode(0o755))
            .with_context(|| format!("chmod of {path}"))?;
    }
    register()
}

fn register() -> Result<()> {
    if !Path::new(REGISTER).exists() {
        match mount("binfmt_misc", BINFMT_MISC, "binfmt_misc", MountFlags::empty(), None) {
            // The kernel lacks it, or the guest its module: the cases that need it say so.
            Err(Errno::NODEV | Errno::NOENT) => return Ok(()),
            result => result.with_context(|| format!("mounting binfmt_misc at {BINFMT_MISC}"))?,
        }
    }
    for (name, interpreter) in FORMATS {
        // The kernel keeps it until somebody takes it away, as an earlier group's.
        if !Path::new(BINFMT_MISC).join(name).exists() {
            fs::write(REGISTER, format!(":{name}:M::{name}::{interpreter}:"))
                .with_context(|| format!("registering the format {name}"))?;
        }
    }
    Ok(())
}
