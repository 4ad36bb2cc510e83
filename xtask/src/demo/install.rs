//! Claude Code from npm, the one version that was measured, checked by content.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use treeline_tests::claude;

/// The binary below `root`, installed when it is not there yet.
///
/// # Errors
/// When npm is missing or fails, or what it brought is not the expected binary.
pub(super) fn ensure_claude(root: &Path) -> Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the demo knows the SHA-256 of Claude Code {} for Linux on x86-64 only",
        claude::VERSION
    );
    let dir = root.join(claude::INSTALL_DIR);
    let binary = claude::binary(&dir);
    if binary.is_file() {
        eprintln!("demo: checking {}", binary.display());
        if sha256(&binary)? == claude::SHA256 {
            return Ok(binary);
        }
        eprintln!("demo: it is not Claude Code {}; installing it again", claude::VERSION);
    }
    install(&dir)?;
    Ok(binary)
}

/// Installs beside the final place and moves there when the content is right: a cut download is never taken for an installation.
fn install(dir: &Path) -> Result<()> {
    let partial = dir.with_extension("partial");
    remove(&partial)?;
    fs::create_dir_all(&partial).with_context(|| format!("making {}", partial.display()))?;
    npm(&partial)?;
    let binary = claude::binary(&partial);
    let found = sha256(&binary)?;
    if found != claude::SHA256 {
        bail!(
            "{} has SHA-256 {found}, expected {}: the registry gave something else than Claude Code {}. Nothing of it was run; look at it, then remove it",
            binary.display(),
            claude::SHA256,
            claude::VERSION
        );
    }
    remove(dir)?;
    fs::rename(&partial, dir).with_context(|| format!("moving the installation to {}", dir.display()))
}

fn npm(dir: &Path) -> Result<()> {
    let package = format!("{}@{}", claude::PACKAGE, claude::VERSION);
    eprintln!("demo: installing {package} from npm (381 MB on disk, usually under a minute)");
    let started = Instant::now();
    // No scripts: the binary is complete without the post-install step, and nothing of the package runs unobserved.
    let status = Command::new("npm")
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
        .arg(dir)
        .arg(&package)
        .status();
    match status {
        Ok(status) if status.success() => {
            eprintln!("demo: installed in {} s", started.elapsed().as_secs());
            Ok(())
        }
        Ok(status) => bail!(
            "`npm install {package}` failed ({status}). Its message is above; the demo needs an npm registry that serves this package, once (`npm config get registry` shows which one is asked)"
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!(
                "`npm` is not installed; the demo gets Claude Code from npm. On Debian: `apt-get install npm`"
            )
        }
        Err(error) => Err(error).context("starting `npm`"),
    }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn sha256(file: &Path) -> Result<String> {
    let reading = || format!("reading {}", file.display());
    let mut input = fs::File::open(file).with_context(reading)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match input.read(&mut buffer).with_context(reading)? {
            0 => return Ok(hex::encode(hash.finalize())),
            bytes => hash.update(&buffer[..bytes]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("abc");
        fs::write(&file, "abc").expect("written");
        let expect = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&file).expect("read"), expect);
        assert!(sha256(&dir.path().join("absent")).is_err());
    }
}
