//! Whether something is there, from wherever it came.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where administrators' programs are; an ordinary user's PATH lacks these.
const ADMINISTRATORS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A question to the machine.
#[derive(Debug)]
pub(crate) enum Probe {
    /// A program of this name is in PATH.
    Program(&'static str),
    /// So is this one, and it needs no shared libraries: it will run in a guest that has none.
    StaticProgram(&'static str),
    /// This path exists.
    Path(&'static str),
    /// `python3` can import it.
    PythonModule(&'static str),
}

impl Probe {
    /// Whether the answer is yes.
    pub(crate) fn is_met(&self) -> bool {
        match self {
            Self::Program(name) => program(name).is_some(),
            Self::StaticProgram(name) => program(name).is_some_and(|path| is_static(&path)),
            Self::Path(path) => Path::new(path).exists(),
            Self::PythonModule(name) => {
                succeeds(Command::new("python3").args(["-c", &format!("import {name}")]))
            }
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(name) => write!(f, "`{name}` is not in PATH"),
            Self::StaticProgram(name) => write!(f, "no statically linked `{name}` in PATH"),
            Self::Path(path) => write!(f, "`{path}` does not exist"),
            Self::PythonModule(name) => write!(f, "`python3` cannot import `{name}`"),
        }
    }
}

/// The program that PATH, or one of the administrators' folders, has under this name.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(ADMINISTRATORS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// `ldd` succeeds exactly for what has libraries to list, but for static position-independent programs, of which it says so.
fn is_static(path: &Path) -> bool {
    Command::new("ldd").arg(path).output().is_ok_and(|output| {
        !output.status.success() || String::from_utf8_lossy(&output.stdout).contains("statically linked")
    })
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let cases = [
            (Probe::Program("sh"), true),
            (Probe::Program("treeline-no-such-program"), false),
            (Probe::StaticProgram("sh"), false),
            (Probe::Path("/"), true),
            (Probe::Path("/treeline-no-such-path"), false),
            (Probe::PythonModule("treeline_no_such_module"), false),
        ];
        for (probe, expect) in cases {
            assert_eq!(probe.is_met(), expect, "{probe:?}");
        }
    }
}
