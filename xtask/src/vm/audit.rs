//! auditd of Debian, for guests that measure beside it: unpacked into the cache, never installed, since it would start
//! on the machine that builds the guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::Apt;
use super::cpio::Archive;
use super::programs::libraries;
use super::tool;

/// The suite that matches the building machine's own libraries is asked for by its own name.
const PACKAGES: &[&str] = &["auditd", "libauparse0", "libwrap0", "libnsl2", "libtirpc3"];
const PROGRAMS: &[&str] = &["auditd", "auditctl"];
/// Written last: without it, an earlier attempt was cut short.
const READY: &str = "ready";

/// An archive with auditd, auditctl, their libraries and the configuration that Debian ships.
pub(super) fn archive(cache: &Path, modified_s: u32) -> Result<Vec<u8>> {
    let tree = unpacked(cache)?;
    let mut archive = Archive::new(modified_s);
    let own = tree.join("lib/x86_64-linux-gnu");
    let usr = tree.join("usr/lib/x86_64-linux-gnu");
    let search = format!("{}:{}", own.display(), usr.display());
    for program in PROGRAMS {
        let path = tree.join("sbin").join(program);
        add(&mut archive, &path, &format!("/usr/sbin/{program}"))?;
        let mut ldd = Command::new("ldd");
        let listing = tool::text(ldd.arg(&path).env("LD_LIBRARY_PATH", &search))?;
        for library in libraries(&listing) {
            let name = library.file_name().and_then(|name| name.to_str()).context("a library has a name")?;
            let directory =
                if name.starts_with("ld-linux") { "/usr/lib64" } else { "/usr/lib/x86_64-linux-gnu" };
            add(&mut archive, &library, &format!("{directory}/{name}"))?;
        }
    }
    let configuration =
        fs::read(tree.join("etc/audit/auditd.conf")).context("reading auditd's configuration")?;
    archive.file("/etc/audit/auditd.conf", 0o640, &configuration);
    archive.directory("/etc/audit/plugins.d");
    Ok(archive.finish())
}

fn add(archive: &mut Archive, from: &Path, to: &str) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    archive.file(to, 0o755, &content);
    Ok(())
}

/// The packages' files, from the cache or from the machine's own archive.
fn unpacked(cache: &Path) -> Result<PathBuf> {
    let directory = cache.join("audit");
    let tree = directory.join("tree");
    if directory.join(READY).is_file() {
        return Ok(tree);
    }
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&tree).with_context(|| format!("creating {}", tree.display()))?;
    let suite = suite()?;
    eprintln!("vm: auditd: downloading from {suite}");
    let apt = Apt::open(&directory.join("apt"), &suite)?;
    for package in PACKAGES {
        let deb = apt.download(package, &directory)?;
        tool::output(Command::new("dpkg").arg("-x").arg(&deb).arg(&tree))?;
        fs::remove_file(&deb).with_context(|| format!("removing {}", deb.display()))?;
    }
    fs::write(directory.join(READY), "").context("marking auditd as complete")?;
    Ok(tree)
}

/// The release that this machine runs: its C library is what the programs are linked with.
fn suite() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name
        .context("/etc/os-release has no VERSION_CODENAME; auditd comes from Debian")?
        .trim_matches('"')
        .to_owned())
}
