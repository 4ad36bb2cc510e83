//! Programs that are built from crates, pinned, for this checkout alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::probe;
use crate::{build::cargo, checkout::Checkout, step};

/// One such program.
#[derive(Debug)]
pub(crate) struct Tool {
    /// Its crate and its binary.
    pub(crate) name: &'static str,
    /// The version that the project was tested with.
    pub(crate) version: &'static str,
    /// What needs it.
    pub(crate) why: &'static str,
}

/// Links kernel programs. 0.10 opens the compiler's own LLVM at run time, so no LLVM packages are needed.
pub(crate) static BPF_LINKER: Tool =
    Tool { name: "bpf-linker", version: "0.10.3", why: "links the kernel programs" };

/// Holds dependencies to `deny.toml`.
pub(crate) static CARGO_DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", why: "checks licences and sources of dependencies" };

impl Tool {
    /// The program, if it is there in the pinned version: ours, else the one in PATH.
    pub(crate) fn find(&self, checkout: &Checkout) -> Option<PathBuf> {
        let ours = checkout.tools().join("bin").join(self.name);
        if ours.is_file() && self.is_recorded(&checkout.tools()) {
            return Some(ours);
        }
        let theirs = probe::program(self.name)?;
        let output = Command::new(&theirs).arg("--version").output().ok()?;
        (self.is_named_by(&String::from_utf8_lossy(&output.stdout))).then_some(theirs)
    }

    /// Builds and installs it for this checkout.
    pub(crate) fn install(&self, checkout: &Checkout) -> Result<()> {
        println!("==> {} {} (built from source: some minutes)", self.name, self.version);
        let target = checkout.tools().join("target");
        step::run(
            checkout,
            &format!("install-{}", self.name),
            cargo()
                .current_dir(checkout.root())
                .args(["install", "--locked", "--force", self.name, "--version", self.version])
                .arg("--root")
                .arg(checkout.tools())
                .arg("--target-dir")
                .arg(&target)
                // They run for seconds and take minutes to build: this halves the sum.
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
                .env("CARGO_PROFILE_RELEASE_DEBUG", "0"),
        )?;
        // Only the program is of use afterwards, and its build is larger than the rest of the checkout.
        fs::remove_dir_all(&target).with_context(|| format!("cannot remove `{}`", target.display()))
    }

    /// How to install it by hand.
    pub(crate) fn command_line(&self) -> String {
        format!("cargo install --locked {} --version {}", self.name, self.version)
    }

    /// Whether cargo's own record says that this version is installed under `root`.
    fn is_recorded(&self, root: &Path) -> bool {
        fs::read_to_string(root.join(".crates.toml")).is_ok_and(|record| self.is_in_record(&record))
    }

    fn is_in_record(&self, record: &str) -> bool {
        record.contains(&format!("\"{} {} (", self.name, self.version))
    }

    fn is_named_by(&self, printed: &str) -> bool {
        printed.split_whitespace().collect::<Vec<_>>() == [self.name, self.version]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_in_the_record_does_not_count() {
        let record =
            |version| format!("[v1]\n\"bpf-linker {version} (registry+index)\" = [\"bpf-linker\"]\n");
        assert!(BPF_LINKER.is_in_record(&record("0.10.3")));
        assert!(!BPF_LINKER.is_in_record(&record("0.10.30")));
        assert!(!CARGO_DENY.is_in_record(&record("0.20.2")));
    }

    #[test]
    fn another_version_in_path_does_not_count() {
        assert!(BPF_LINKER.is_named_by("bpf-linker 0.10.3\n"));
        assert!(!BPF_LINKER.is_named_by("bpf-linker 0.11.0\n"));
        assert!(!BPF_LINKER.is_named_by(""));
    }
}
