//! The programs of the targets: libFuzzer, and all of our code instrumented for it.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{build::cargo, checkout::Checkout, setup, step};

/// What makes a crate report the edges that it takes and the values that it compares. These are code generation options of
/// any stable compiler; no sanitizer is in it, since our code is safe Rust.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Folded branches would hide edges.
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];

/// The built programs.
#[derive(Debug)]
pub(super) struct Engine {
    folder: PathBuf,
}

/// Why targets cannot be built here, if they cannot.
pub(crate) fn obstacle() -> Option<&'static str> {
    (!setup::has_cpp_compiler()).then_some("no C++ compiler for libFuzzer")
}

/// The names of the targets, sorted.
pub(super) fn targets(checkout: &Checkout) -> Result<Vec<String>> {
    let folder = checkout.fuzz().join("targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read `{}`", folder.display()))?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    ensure!(!names.is_empty(), "`{}` has no targets: this checkout is not whole", folder.display());
    Ok(names)
}

impl Engine {
    /// Builds all of them.
    pub(super) fn build(checkout: &Checkout) -> Result<Self> {
        let host = host()?;
        println!("==> fuzz targets for {host}");
        let target = checkout.fuzz().join("target");
        let mut command = cargo();
        command
            .current_dir(checkout.fuzz())
            // With a target named, even the host, the flags are kept from build scripts and macros.
            .args(["build", "--release", "--locked", "--bins", "--target", &host, "--target-dir"])
            .arg(&target)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", FLAGS.join(" "));
        step::run(checkout, "fuzz-build", &mut command)?;
        Ok(Self { folder: target.join(host).join("release") })
    }

    /// The program of a target.
    pub(super) fn path(&self, target: &str) -> PathBuf {
        self.folder.join(target)
    }

    /// The same, to be started.
    pub(super) fn program(&self, target: &str) -> Command {
        Command::new(self.path(target))
    }
}

fn host() -> Result<String> {
    let output = cargo().arg("-vV").output().context("cannot run `cargo -vV`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`cargo -vV` does not say for which host it is")
}
