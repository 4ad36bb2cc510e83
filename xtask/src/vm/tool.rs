//! Programs of the building machine, run to their end with what they said in the error.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` and returns its standard output. The error names the program, how it ended, and the end of
/// what it wrote; for a program that is not there, the package that has it.
pub(super) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| missing(&program))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = said.trim_end().lines().rev().take(8).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    bail!("`{program}` ended with {}: {}", output.status, tail.join("\n"));
}

/// As [`output`], as text.
pub(super) fn text(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    String::from_utf8(output(command)?)
        .with_context(|| format!("`{program}` printed something else than UTF-8"))
}

/// What to say when `program` cannot be started.
pub(super) fn missing(program: &str) -> String {
    let package = match program {
        "qemu-system-x86_64" => "qemu-system-x86",
        "busybox" => "busybox-static",
        "xz" => "xz-utils",
        "modprobe" => "kmod",
        "ldd" => "libc-bin",
        "apt-get" | "apt-cache" | "apt-config" => "apt",
        "mkfs.ext4" => "e2fsprogs",
        "dpkg-query" => "dpkg",
        other => other,
    };
    format!("`{program}` cannot be started; `apt-get install {package}` brings it (kernels come from Debian)")
}
