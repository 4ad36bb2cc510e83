//! First stage: what is needed, then the second stage in namespaces of its own.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use treeline_tests::namespace;

use super::{args::Args, install, scenario};

/// Programs that the demo or the agent's script uses.
const PROGRAMS: [&str; 8] = ["bash", "cat", "cp", "head", "ls", "python3", "sha256sum", "unshare"];

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        namespace::is_permitted(),
        "the demo attaches kernel programs and makes namespaces: run it as root"
    );
    PROGRAMS.iter().try_for_each(|name| scenario::program(name).map(drop))?;
    let root = repository()?;
    let treeline = treeline(args, &root)?;
    install::ensure_claude(&root)?;

    let mut builder = tempfile::Builder::new();
    builder.prefix("treeline-demo-").disable_cleanup(args.keep);
    let scratch = builder.tempdir().context("making a scratch directory")?;
    let program = env::current_exe().context("finding this program")?;
    let status = namespace::command(program)
        .args(["demo", "--stage"])
        .arg(scratch.path())
        .arg("--treeline")
        .arg(&treeline)
        .status()
        .context("starting `unshare`")?;
    if args.keep {
        println!("kept: {}", scratch.path().display());
    } else {
        scratch.close().context("removing the scratch directory")?;
    }
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(2))),
        None => bail!("the second stage was ended ({status})"),
    }
}

/// The repository's root: cargo says where this package is.
pub(super) fn repository() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = package.as_deref().and_then(Path::parent).map(Path::to_owned);
    root.context("CARGO_MANIFEST_DIR is not set; start this through `cargo xtask`")
}

fn treeline(args: &Args, root: &Path) -> Result<PathBuf> {
    let binary = args.treeline.clone().unwrap_or_else(|| root.join("target/release/treeline"));
    match binary.canonicalize() {
        Ok(binary) => Ok(binary),
        Err(error) => Err(error).with_context(|| {
            format!(
                "{} is not there; build it with `cargo xtask build`, or name another with --treeline",
                binary.display()
            )
        }),
    }
}
