//! Debian packages for guests, of the release that this machine runs: unpacked into the cache and never installed,
//! since their services would start on the machine that builds the guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::Apt;
use super::cpio::Archive;
use super::programs::libraries;
use super::tool;

/// Written last: without it, an earlier attempt was cut short.
const READY: &str = "ready";
/// Where Debian keeps libraries, below the root of a package.
const LIBRARIES: [&str; 3] =
    ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/judy"];

/// Packages and sources, unpacked.
pub(super) struct Debs {
    tree: PathBuf,
}

impl Debs {
    /// `packages`, and the upstream archives of `sources` in `usr/src`, from the cache under `name` or from the archive.
    pub(super) fn open(cache: &Path, name: &str, packages: &[&str], sources: &[&str]) -> Result<Self> {
        let directory = cache.join(name);
        let debs = Self { tree: directory.join("tree") };
        let wanted = [packages, sources].concat().join(" ");
        if fs::read_to_string(directory.join(READY)).is_ok_and(|had| had == wanted) {
            return Ok(debs);
        }
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&debs.tree).with_context(|| format!("creating {}", debs.tree.display()))?;
        let suite = suite()?;
        eprintln!("vm: {name}: downloading {} packages from {suite}", packages.len() + sources.len());
        let lists = directory.join("apt");
        let apt = if sources.is_empty() {
            Apt::open(&lists, &suite)?
        } else {
            Apt::open_with_sources(&lists, &suite)?
        };
        for package in packages {
            let deb = apt.download(package, &directory)?;
            tool::output(Command::new("dpkg").arg("-x").arg(&deb).arg(&debs.tree))?;
            fs::remove_file(&deb).with_context(|| format!("removing {}", deb.display()))?;
        }
        for source in sources {
            let archive = apt.download_source(source, &directory)?;
            let to = debs.tree.join("usr/src").join(source);
            fs::create_dir_all(&to).with_context(|| format!("creating {}", to.display()))?;
            tool::output(
                Command::new("tar").arg("-xf").arg(&archive).args(["--strip-components=1", "-C"]).arg(&to),
            )?;
            fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
        }
        fs::write(directory.join(READY), wanted).with_context(|| format!("marking {name} as complete"))?;
        Ok(debs)
    }

    /// The unpacked file at `path` of some package.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.tree.join(path)
    }

    /// Adds a program and its libraries: those of the packages, else this machine's.
    pub(super) fn add_program(&self, archive: &mut Archive, path: &str, guest_path: &str) -> Result<()> {
        let from = self.path(path);
        add_file(archive, &from, guest_path)?;
        let search: Vec<String> =
            LIBRARIES.iter().map(|path| self.path(path).display().to_string()).collect();
        let listing = tool::text(Command::new("ldd").arg(&from).env("LD_LIBRARY_PATH", search.join(":")))?;
        for library in libraries(&listing) {
            let name = library.file_name().and_then(|name| name.to_str()).context("a library has a name")?;
            let directory =
                if name.starts_with("ld-linux") { "/usr/lib64" } else { "/usr/lib/x86_64-linux-gnu" };
            add_file(archive, &library, &format!("{directory}/{name}"))?;
        }
        Ok(())
    }

    /// Adds everything below `path`, with its links, at the same path below `/usr`.
    pub(super) fn add_tree(&self, archive: &mut Archive, path: &str) -> Result<()> {
        let directory = self.path(path);
        let mut names: Vec<_> = fs::read_dir(&directory)
            .with_context(|| format!("listing {}", directory.display()))?
            .collect::<Result<_, _>>()?;
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            let name =
                entry.file_name().into_string().ok().context("a package's file has a name in UTF-8")?;
            let below = format!("{path}/{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.add_tree(archive, &below)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path())?;
                archive
                    .link(&format!("/{below}"), target.to_str().context("a link leads to a name in UTF-8")?);
            } else {
                add_file(archive, &entry.path(), &format!("/{below}"))?;
            }
        }
        Ok(())
    }
}

fn add_file(archive: &mut Archive, from: &Path, to: &str) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    let permissions = fs::metadata(from)?.permissions().mode() & 0o755;
    archive.file(to, permissions, &content);
    Ok(())
}

/// The release that this machine runs: its C library is what the programs are linked with.
fn suite() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let name = name.context("/etc/os-release has no VERSION_CODENAME; these packages come from Debian")?;
    Ok(name.trim_matches('"').to_owned())
}
