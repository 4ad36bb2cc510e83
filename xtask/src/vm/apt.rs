//! Packages of another Debian suite through a private apt configuration.
//!
//! Archive, keyring and proxy are the machine's own; lists and cache are ours, so the machine's apt is neither
//! read-locked nor told about suites that it must not install from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::tool;

/// Holds the signing keys of every Debian suite from 11 on.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite, as apt sees it through us.
pub(super) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Prepares `directory` for `suite` and downloads the suite's package list.
    pub(super) fn open(directory: &Path, suite: &str) -> Result<Self> {
        Self::open_lists(directory, suite, &["deb"])
    }

    /// As [`Self::open`], with the list of the suite's sources.
    pub(super) fn open_with_sources(directory: &Path, suite: &str) -> Result<Self> {
        Self::open_lists(directory, suite, &["deb", "deb-src"])
    }

    fn open_lists(directory: &Path, suite: &str, kinds: &[&str]) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        }
        let directory = directory.canonicalize().context("resolving the apt directory")?;
        let archive = archive(suite)?;
        let line = |kind: &&str| line(kind, &archive, suite);
        let list: String = kinds.iter().map(line).collect();
        fs::write(directory.join("sources.list"), list).context("writing sources.list")?;
        let apt = Self { directory };
        tool::output(apt.command("apt-get").args(["-q", "update"]))
            .with_context(|| format!("downloading the package list of {suite}"))?;
        Ok(apt)
    }

    /// Every package of the suite whose name begins with `prefix`.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = tool::text(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads `package` into `into` and returns the file. apt has then checked the archive's signature.
    pub(super) fn download(&self, package: &str, into: &Path) -> Result<PathBuf> {
        // A directory of its own, since the file's name holds a version that we do not know.
        let landing = tempfile::tempdir_in(into).context("creating a directory to download into")?;
        let mut command = self.command("apt-get");
        // Without the sandbox user, which could not write into a directory of root's home.
        command
            .args(["-q", "-o", "APT::Sandbox::User=root", "download", package])
            .current_dir(landing.path());
        tool::output(&mut command).with_context(|| format!("downloading {package}"))?;
        let file = fs::read_dir(landing.path())?.next().context("apt-get downloaded no file")??;
        let path = into.join(format!("{package}.deb"));
        fs::rename(file.path(), &path).with_context(|| format!("moving {} into place", path.display()))?;
        Ok(path)
    }

    /// Downloads the upstream archive of source package `package` into `into` and returns the file.
    pub(super) fn download_source(&self, package: &str, into: &Path) -> Result<PathBuf> {
        let landing = tempfile::tempdir_in(into).context("creating a directory to download into")?;
        let mut command = self.command("apt-get");
        command.args(["-q", "-o", "APT::Sandbox::User=root", "source", "--download-only", package]);
        tool::output(command.current_dir(landing.path()))
            .with_context(|| format!("downloading the source of {package}"))?;
        for file in fs::read_dir(landing.path())? {
            let file = file?;
            if file.file_name().to_string_lossy().contains(".orig.tar.") {
                let path = into.join(format!("{package}.orig.tar"));
                fs::rename(file.path(), &path)
                    .with_context(|| format!("moving {} into place", path.display()))?;
                return Ok(path);
            }
        }
        bail!("the source of {package} has no upstream archive")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let set = |name: &str, path: &str| format!("{name}={}", self.directory.join(path).display());
        command.args(["-o", &set("Dir::Etc::sourcelist", "sources.list")]);
        command.args(["-o", "Dir::Etc::sourceparts=/dev/null"]);
        command.args(["-o", &set("Dir::State::lists", "lists")]);
        command.args(["-o", &set("Dir::Cache", "cache")]);
        // What is installed here, perhaps from another suite, is no candidate.
        command.args(["-o", "Dir::State::status=/dev/null"]);
        command.args(["-o", "Acquire::Languages=none", "-o", "APT::Architecture=amd64"]);
        command
    }
}

/// The line of a `sources.list` for the packages of `suite`.
pub(super) fn source(suite: &str) -> Result<String> {
    Ok(line("deb", &archive(suite)?, suite))
}

/// The machine's own proxies, as lines of a configuration.
pub(super) fn proxies() -> Result<Vec<String>> {
    let options = tool::text(Command::new("apt-config").args([
        "dump",
        "--no-empty",
        "--format",
        "%F \"%v\";%n",
        "Acquire",
    ]))?;
    Ok(options.lines().filter(|line| line.contains("::Proxy")).map(str::to_owned).collect())
}

fn line(kind: &str, archive: &str, suite: &str) -> String {
    format!("{kind} [signed-by={KEYRING}] {archive} {suite} main\n")
}

/// The machine's archive that has `suite`.
fn archive(suite: &str) -> Result<String> {
    let archives = tool::text(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    archive_of(&archives, suite)
}

/// Which of the machine's archives, one a line, has `suite`.
fn archive_of(archives: &str, suite: &str) -> Result<String> {
    let is_security = suite.ends_with("-security");
    let is_debian = |archive: &&str| {
        let path = archive.trim_end_matches('/');
        if is_security { path.ends_with("/debian-security") } else { path.ends_with("/debian") }
    };
    let Some(archive) = archives.lines().map(str::trim).find(is_debian) else {
        let wanted = if is_security { "debian-security" } else { "debian" };
        bail!("no source of this machine's apt is a `{wanted}` archive; add one to /etc/apt/sources.list.d");
    };
    Ok(archive.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(archives: &str, suite: &str, expect: Option<&str>) {
        assert_eq!(archive_of(archives, suite).ok().as_deref(), expect, "{suite}");
    }

    #[test]
    fn the_archive_is_the_machines_own() {
        let both =
            "http://mirror.test/debian-security/\nhttp://mirror.test/debian/\nhttp://other.test/apt/\n";
        check(both, "trixie-security", Some("http://mirror.test/debian-security/"));
        check(both, "trixie-backports", Some("http://mirror.test/debian/"));
        check("http://mirror.test/ubuntu/\n", "trixie-backports", None);
        check("", "trixie-security", None);
    }
}
