//! The guest of `cargo xtask vm`: PID 1, the behavioural suite and the programs that it runs inside sessions.
//!
//! One static binary with four lives, by its first argument: none as PID 1 (mount, start the suite, reap, power
//! off; in a distribution guest, mount the disk and become systemd), `suite` (run every group and report), `group NAME` (one group, in a process of its own so that a hang
//! or a crash loses no other result) and `act` (the subject under test: system calls with their plain errno).
#![forbid(unsafe_code)]

mod act;
mod guest;
mod suite;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["suite"] => guest::runner::run(),
        ["group", name] => guest::group::run(name),
        ["act", rest @ ..] => act::run(rest),
        // Last: a subject in a pid namespace of its own is PID 1 too. Arguments are what the kernel does not know
        // of its command line.
        _ if std::process::id() == 1 => guest::init::run(),
        _ => {
            eprintln!("treeline-vm-guest runs as PID 1 of a guest; start it with `cargo xtask vm`");
            ExitCode::from(2)
        }
    }
}
