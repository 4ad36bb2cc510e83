//! First stage: what is needed, then the second stage in namespaces of its own.

use std::{env, path::Path};

use anyhow::{Context, Result, bail, ensure};
use treeline_tests::namespace;

use super::{install, scenario};

/// Programs that the demo or the agent's script uses.
const PROGRAMS: [&str; 9] = ["bash", "cat", "cp", "git", "head", "ls", "python3", "sha256sum", "unshare"];

pub(super) fn run(root: &Path, treeline: &Path, keep: bool) -> Result<bool> {
    ensure!(
        namespace::is_permitted(),
        "the demo attaches kernel programs and makes namespaces: run it as root"
    );
    PROGRAMS.iter().try_for_each(|name| scenario::program(name).map(drop))?;
    let treeline = treeline.canonicalize().with_context(|| {
        format!(
            "no binary at {}; build it with `cargo xtask build`, or name another with --treeline",
            treeline.display()
        )
    })?;
    install::ensure_claude(root)?;

    // What is written outside of the project would be in a place of the shipped policies' for everybody.
    ensure!(
        !["/tmp", "/var/tmp"].iter().any(|shared| root.starts_with(shared)),
        "{} is below a directory in which the shipped policies let agents write, and the demo measures what they would refuse: \
         have the checkout elsewhere, such as below your home",
        root.display()
    );
    let mut builder = tempfile::Builder::new();
    builder.prefix("treeline-demo-").disable_cleanup(keep);
    // Not in /tmp: policies let agents write there, and what they say of a home is to be seen.
    let target = root.join("target");
    std::fs::create_dir_all(&target).with_context(|| format!("making {}", target.display()))?;
    let scratch = builder.tempdir_in(&target).context("making a scratch directory")?;
    let program = env::current_exe().context("finding this program")?;
    let status = namespace::command(program)
        .args(["demo", "--stage"])
        .arg(scratch.path())
        .arg("--treeline")
        .arg(&treeline)
        .status()
        .context("starting `unshare`")?;
    if keep {
        println!("kept: {}", scratch.path().display());
    } else {
        scratch.close().context("removing the scratch directory")?;
    }
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("the demo could not be run to its end ({status})"),
    }
}
