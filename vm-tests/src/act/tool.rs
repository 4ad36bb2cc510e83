//! Programs that people use, as subjects: what they print tells the errno.

use std::io;
use std::process::{Command, Stdio};

use rustix::io::Errno;

/// Runs `words`, and turns a refusal that the program reports back into the errno it got.
///
/// # Errors
/// `EPERM` when the program said so in its words, else what it said.
pub(crate) fn tool(words: &[&str]) -> io::Result<()> {
    let (program, arguments) = words.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
    output(Command::new(program).args(arguments).stdin(Stdio::null())).map(drop)
}

/// The same for what is more than words; returns what it printed.
///
/// # Errors
/// As [`tool`].
pub(crate) fn output(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if is_refusal(&said) {
        return Err(Errno::PERM.into());
    }
    let program = command.get_program().to_string_lossy();
    Err(io::Error::other(format!("{program} ended with {}: {}", output.status, said.trim())))
}

/// Whether a program's words mean `EPERM`. mount(8) has words of its own for it; coreutils say "Permission
/// denied", with a capital, for `EACCES`, which is no refusal of ours. The dynamic loader does not say why it cannot map
/// a file; whether a rule is the reason is in the log.
fn is_refusal(said: &str) -> bool {
    said.contains("Operation not permitted")
        || said.contains("mount: ") && said.contains(": permission denied.")
        || said.contains("failed to map segment from shared object")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_other_errors() {
        for (said, expect) in [
            ("cat: /x: Operation not permitted\n", true),
            ("PermissionError: [Errno 1] Operation not permitted: '/x'", true),
            ("mount: /mnt: permission denied.\n", true),
            ("cat: /x: Permission denied\n", false),
            ("cat: /x: No such file or directory\n", false),
        ] {
            assert_eq!(is_refusal(said), expect, "{said}");
        }
    }
}
