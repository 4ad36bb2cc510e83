//! Programs of the building machine that the guest needs, with everything that they load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::tool;

/// What subjects of the suite run. Real coreutils: BusyBox's commands are all one executable, and rules except
/// and name executables.
const NAMES: &[&str] = &[
    "bash",
    "cat",
    "chmod",
    "cp",
    "dash",
    "dd",
    "env",
    "false",
    "grep",
    "head",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mount",
    "mv",
    "nohup",
    "python3",
    "readlink",
    "rm",
    "rmdir",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "stat",
    "tee",
    "timeout",
    "touch",
    "true",
    "truncate",
    "umount",
    "unshare",
];

/// The system's own: a version manager's shims in `PATH` would be scripts that find nothing in the guest.
const DIRECTORIES: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// What the suite's Python programs import; the interpreter says which files that takes.
const PYTHON_IMPORTS: &str =
    "array, ctypes, encodings.idna, fcntl, json, mmap, os, shutil, signal, socket, struct, subprocess";

/// Files by their path in the guest, and links by path and target.
#[derive(Default)]
pub(super) struct Programs {
    files: BTreeMap<PathBuf, PathBuf>,
    links: BTreeMap<PathBuf, PathBuf>,
    /// The programs' own paths, for the suite to try.
    paths: BTreeSet<PathBuf>,
}

impl Programs {
    /// Those of [`NAMES`] that this machine has: a test that misses one is skipped by name.
    pub(super) fn of_this_machine() -> Result<Self> {
        let mut programs = Self::default();
        for name in NAMES {
            let found = DIRECTORIES.iter().map(|directory| Path::new(directory).join(name));
            if let Some(path) = found.into_iter().find(|path| path.is_file()) {
                programs.add(&path, &Path::new("/usr/bin").join(name))?;
            }
        }
        programs.add_python()?;
        Ok(programs)
    }

    /// Adds the program at `path` as `guest_path`, with its libraries.
    pub(super) fn add(&mut self, path: &Path, guest_path: &Path) -> Result<()> {
        let real = path.canonicalize().with_context(|| format!("resolving {}", path.display()))?;
        if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) {
            self.links.insert(guest_path.to_owned(), real.clone());
            self.files.insert(real.clone(), real.clone());
        } else {
            self.files.insert(guest_path.to_owned(), real.clone());
        }
        self.paths.insert(guest_path.to_owned());
        self.add_libraries(&real)
    }

    fn add_libraries(&mut self, binary: &Path) -> Result<()> {
        let output = Command::new("ldd").arg(binary).output().with_context(|| tool::missing("ldd"))?;
        // Its status is 1 for a static program, which needs nothing.
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            self.files.insert(merged(&library), library);
        }
        Ok(())
    }

    /// The standard library of `/usr/bin/python3`, as far as it is imported.
    fn add_python(&mut self) -> Result<()> {
        if !self.paths.contains(Path::new("/usr/bin/python3")) {
            return Ok(());
        }
        let program = format!(
            "import sys, {PYTHON_IMPORTS}\nfor m in list(sys.modules.values()):\n  for f in (getattr(m, \
             '__file__', 0), getattr(m, '__cached__', 0)):\n    if f: print(f)"
        );
        let files = tool::text(Command::new("/usr/bin/python3").args(["-I", "-S", "-c", &program]))?;
        for path in files.lines().map(PathBuf::from).filter(|path| path.is_file()) {
            if path.extension().is_some_and(|extension| extension == "so") {
                self.add_libraries(&path)?;
            }
            self.files.insert(merged(&path), path);
        }
        Ok(())
    }

    /// Writes all into `archive`, and the list of programs to `/etc/treeline-guest/programs`.
    pub(super) fn write(&self, archive: &mut Archive) -> Result<()> {
        for (guest_path, path) in &self.files {
            let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            let permissions = fs::metadata(path)?.permissions().mode() & 0o755;
            archive.file(text(guest_path)?, permissions, &content);
        }
        for (guest_path, target) in &self.links {
            archive.link(text(guest_path)?, text(target)?);
        }
        let paths: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
        archive.file("/etc/treeline-guest/programs", 0o644, paths.join("\n").as_bytes());
        Ok(())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// The path under `/usr`: in the guest, as in Debian, `/bin`, `/sbin`, `/lib` and `/lib64` are links into it.
fn merged(path: &Path) -> PathBuf {
    if path.starts_with("/usr")
        || !["/bin", "/sbin", "/lib", "/lib64"].iter().any(|top| path.starts_with(top))
    {
        return path.to_owned();
    }
    Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path))
}

/// The files in what `ldd` prints: `name => /path (0x...)`, or `/path (0x...)` for the loader.
pub(super) fn libraries(listing: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let (_, path) = line.split_once("=>").unwrap_or(("", line));
        let path = path.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    listing.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listing: &str, expect: &[&str]) {
        assert_eq!(libraries(listing), expect.iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn libraries_are_read_from_ldd() {
        check("\tlinux-vdso.so.1 (0x00007ffc)\n", &[]);
        check(
            "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x0)\n",
            &["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"],
        );
        check("\tlibgone.so => not found\n", &[]);
        check("\tstatically linked\n", &[]);
    }

    #[test]
    fn paths_are_below_usr() {
        for (path, expect) in
            [("/lib64/ld.so", "/usr/lib64/ld.so"), ("/usr/lib/x", "/usr/lib/x"), ("/opt/lib/x", "/opt/lib/x")]
        {
            assert_eq!(merged(Path::new(path)), Path::new(expect));
        }
    }
}
