//! The disk: made once from Debian's packages, and kept under a name that says what it was made from.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::checkout::Checkout;
use crate::step;
use crate::vm::{apt, tool};

/// The suite whose kernel is that of the default guest. Its C library must not be older than that of the machine that
/// builds the sensor.
const SUITE: &str = "trixie";

/// Beside what every Debian has.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "dbus-user-session",
    "cron",
    "at",
    "tmux",
    "screen",
    "openssh-server",
    "openssh-client",
    "podman",
    "crun",
    "conmon",
    "python3-minimal",
    "busybox-static",
];

/// Makes a freshly installed tree the guest's: `mmdebstrap` runs it with the tree as its argument.
const CUSTOMIZE: &str = include_str!("customize.sh");

/// Room for what guests write; the file has holes where nothing is.
const DISK_BYTES: u64 = 1200 << 20;
/// Named one by one, since defaults differ between releases of e2fsprogs and old kernels do not know new features. No
/// journal: a guest's snapshot is thrown away whatever happens.
const FEATURES: &str =
    "none,ext_attr,dir_index,filetype,extent,64bit,sparse_super,large_file,huge_file,extra_isize";
/// Times of files that packages' scripts make, seeds and identifiers: the same disk from the same packages.
const EPOCH_S: &str = "1767225600";
const UUID: &str = "7ee11e00-0000-4000-8000-000000000001";

/// A disk that is ready.
pub(in crate::vm) struct Disk {
    image: PathBuf,
}

/// Why a disk cannot be made here, if there is none yet.
pub(in crate::vm) fn obstacle(cache: &Path) -> Option<&'static str> {
    // By the owner of our own entry in /proc: that needs no dependency.
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    (!is_root && !Disk::path(cache).is_file())
        .then_some("only root can make their disk, which holds files of several owners")
}

impl Disk {
    /// The disk from the cache, else from Debian's archive.
    pub(in crate::vm) fn open(checkout: &Checkout, cache: &Path) -> Result<Self> {
        let image = Self::path(cache);
        fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
        let lock = File::create(cache.join("lock")).context("creating the lock of the disks")?;
        lock.lock().context("waiting for another who makes the disk")?;
        if !image.is_file() {
            println!("==> the disk of distribution guests ({SUITE}, {} packages)", PACKAGES.len());
            make(checkout, cache, &image)?;
        }
        Ok(Self { image })
    }

    /// The file.
    pub(in crate::vm) fn image(&self) -> &Path {
        &self.image
    }

    fn path(cache: &Path) -> PathBuf {
        let mut digest = Sha256::new();
        let size = DISK_BYTES.to_string();
        for part in [SUITE, &PACKAGES.join(" "), CUSTOMIZE, &size, FEATURES, EPOCH_S, UUID] {
            digest.update(part);
            digest.update([0]);
        }
        cache.join(format!("{}.ext4", &hex::encode(digest.finalize())[..16]))
    }
}

/// Everything happens beside `image`, which appears when it is whole.
fn make(checkout: &Checkout, cache: &Path, image: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(cache).context("creating a directory to install into")?;
    let (tree, draft) = (scratch.path().join("tree"), scratch.path().join("disk"));
    install(checkout, scratch.path(), &tree)?;
    let file = File::create(&draft).with_context(|| format!("creating {}", draft.display()))?;
    file.set_len(DISK_BYTES).with_context(|| format!("sizing {}", draft.display()))?;
    drop(file);
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-O", FEATURES, "-U", UUID, "-E"])
        .arg(format!("hash_seed={UUID},root_owner=0:0,lazy_itable_init=0"));
    mkfs.arg("-d").arg(&tree).arg(&draft).env("SOURCE_DATE_EPOCH", EPOCH_S);
    tool::output(&mut mkfs)?;
    let versions = tool::text(Command::new("dpkg-query").args([
        "--admindir",
        &tree.join("var/lib/dpkg").display().to_string(),
        "--show",
    ]))?;
    fs::write(image.with_extension("packages"), versions).context("writing the list of packages")?;
    fs::rename(&draft, image).with_context(|| format!("moving {} into place", image.display()))?;
    // Read-only files of packages are no obstacle to root, who alone comes here.
    scratch.close().context("removing the installed tree")
}

/// Installs the packages into `tree`.
fn install(checkout: &Checkout, scratch: &Path, tree: &Path) -> Result<()> {
    let (sources, customize) = (scratch.join("sources.list"), scratch.join("customize.sh"));
    let lines = [apt::source(SUITE)?, apt::source(&format!("{SUITE}-security"))?].concat();
    fs::write(&sources, lines).context("writing sources.list")?;
    fs::write(&customize, CUSTOMIZE).context("writing the script")?;
    fs::set_permissions(&customize, fs::Permissions::from_mode(0o755))
        .context("making the script executable")?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--mode=root", "--variant=minbase", "--format=directory", "--architectures=amd64"]);
    command.arg(format!("--include={}", PACKAGES.join(",")));
    command.args(["--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\""]);
    for option in apt::proxies()? {
        command.arg(format!("--aptopt={option}"));
    }
    command.arg(format!("--customize-hook={}", customize.display()));
    command.arg(SUITE).arg(tree).arg(&sources).env("SOURCE_DATE_EPOCH", EPOCH_S);
    step::run(checkout, "vm-distribution", &mut command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_named_by_what_it_is_made_from() {
        let path = Disk::path(Path::new("/cache"));
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        assert_eq!(name.len(), 16 + ".ext4".len(), "{name}");
        assert!(name.bytes().take(16).all(|byte| byte.is_ascii_hexdigit()), "{name}");
    }

    #[test]
    fn packages_are_listed_once() {
        let mut names = PACKAGES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PACKAGES.len());
    }
}
