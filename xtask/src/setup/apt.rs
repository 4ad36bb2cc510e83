//! Debian's package manager.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail};

use super::{advice_of_packages, probe};
use crate::{
    checkout::Checkout,
    step::{self, Finished},
};

const LISTS: &str = "/var/lib/apt/lists";
/// Older lists name versions that the mirrors may have dropped.
const LISTS_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Some 500 MB over a slow line.
const INSTALL_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Installs packages; where that is not ours to do, says what to install instead.
pub(crate) fn install(checkout: &Checkout, names: &[&str]) -> Result<()> {
    let advice = advice_of_packages(names);
    if probe::program("apt-get").is_none() {
        bail!(
            "this machine has no apt-get; install what provides these, then run `cargo xtask setup` again:{advice}"
        );
    }
    if !is_root() {
        bail!(
            "these packages are missing and only root can install them:{advice}\nrun `sudo apt-get update && sudo apt-get \
             install --no-install-recommends {}`, then `cargo xtask setup` again",
            names.join(" ")
        );
    }
    println!("==> Debian packages: {}", names.join(" "));
    let is_recent = lists_are_recent(Path::new(LISTS));
    if !is_recent {
        update(checkout)?;
    }
    let mut finished = try_install(checkout, names)?;
    if !finished.is_success() && is_recent {
        // Recent lists can still name what a mirror has just replaced: once more, with new ones.
        update(checkout)?;
        finished = try_install(checkout, names)?;
    }
    finished.required(checkout)
}

fn update(checkout: &Checkout) -> Result<()> {
    step::run(checkout, "apt-update", apt_get().arg("update")).map(drop)
}

fn try_install(checkout: &Checkout, names: &[&str]) -> Result<Finished> {
    let mut command = apt_get();
    command.args(["install", "--yes", "--no-install-recommends", "--no-upgrade"]).args(names);
    step::attempt(checkout, "apt-install", &mut command, INSTALL_DEADLINE)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // Another apt may hold the lock for a while; a question would wait for ever.
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=300", "-q"]);
    command
}

/// Root, by the owner of our own entry in /proc: that needs no dependency.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Whether there are lists, and the last `apt-get update` is not too long ago. (The lists themselves carry the mirror's times; the folders
/// around them are touched by every update.)
fn lists_are_recent(lists: &Path) -> bool {
    let has_lists = fs::read_dir(lists).is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
    });
    let touched = [lists.to_owned(), lists.join("partial")]
        .iter()
        .filter_map(|path| fs::metadata(path).ok()?.modified().ok())
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH);
    has_lists && touched.elapsed().is_ok_and(|age| age < LISTS_AGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_without_packages_are_not_recent() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!lists_are_recent(&folder.path().join("absent")));
        assert!(!lists_are_recent(folder.path()));
        fs::write(folder.path().join("mirror_main_binary-amd64_Packages.lz4"), "").unwrap();
        assert!(lists_are_recent(folder.path()));
    }

    #[test]
    fn old_lists_are_not_recent() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mirror_Packages"), "").unwrap();
        let old = SystemTime::now() - 2 * LISTS_AGE_MAX;
        fs::File::open(folder.path()).unwrap().set_modified(old).unwrap();
        assert!(!lists_are_recent(folder.path()));
    }
}
