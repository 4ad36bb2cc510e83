//! One kernel, downloaded, checked and unpacked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::apt::Apt;
use super::catalogue::Pin;
use super::{bzimage, tool};

/// Written last into a kernel's directory: without it, an earlier attempt was cut short.
const READY: &str = "ready";

/// A kernel that can be booted.
pub(super) struct Kernel {
    pub(super) release: String,
    directory: PathBuf,
}

impl Kernel {
    /// Whether `pin` is in the cache.
    pub(super) fn is_cached(cache: &Path, pin: &Pin) -> bool {
        cache.join(&pin.release).join(READY).is_file()
    }

    /// The kernel of `pin` from the cache, else from Debian's archive.
    pub(super) fn open(cache: &Path, pin: &Pin) -> Result<Self> {
        if let Some(kernel) = Self::cached(cache, &pin.release) {
            return Ok(kernel);
        }
        println!("vm: {}: downloading from {}", pin.release, pin.suite);
        let apt = Apt::open(&cache.join("apt").join(&pin.suite), &pin.suite)?;
        let available = apt.names("linux-")?;
        if pin.packages.keys().all(|package| available.contains(package)) {
            return Self::fetch(cache, &apt, &pin.release, pin.packages.clone());
        }
        let newest = newest(&available, &pin.series)
            .with_context(|| format!("{} has no kernel of series {} any more", pin.suite, pin.series))?;
        println!("vm: {}: the pin is gone from {}; taking {newest} in its place", pin.release, pin.suite);
        if let Some(kernel) = Self::cached(cache, &newest) {
            return Ok(kernel);
        }
        let packages =
            packages_of(&available, &newest).into_iter().map(|name| (name, String::new())).collect();
        Self::fetch(cache, &apt, &newest, packages)
    }

    fn cached(cache: &Path, release: &str) -> Option<Self> {
        let directory = cache.join(release);
        directory.join(READY).is_file().then(|| Self { release: release.to_owned(), directory })
    }

    /// Downloads and unpacks `packages`. An empty hash is one that nobody has pinned.
    fn fetch(cache: &Path, apt: &Apt, release: &str, packages: BTreeMap<String, String>) -> Result<Self> {
        let directory = cache.join(release);
        let _ = fs::remove_dir_all(&directory);
        let tree = directory.join("tree");
        fs::create_dir_all(&tree).with_context(|| format!("creating {}", tree.display()))?;
        for (package, pinned) in &packages {
            let deb = apt.download(package, &directory)?;
            let bytes = fs::read(&deb).with_context(|| format!("reading {}", deb.display()))?;
            let found = hex::encode(Sha256::digest(&bytes));
            println!("vm: {package}: {:.1} MB", bytes.len() as f64 / 1e6);
            if pinned.is_empty() {
                println!("vm: to pin it in vm-tests/kernels.toml: \"{package}\" = \"{found}\"");
            }
            ensure!(
                pinned.is_empty() || *pinned == found,
                "{package} has SHA-256 {found}, but vm-tests/kernels.toml pins {pinned}; if Debian has rebuilt \
                 the package, pin the new hash"
            );
            tool::output(Command::new("dpkg").arg("-x").arg(&deb).arg(&tree))?;
            fs::remove_file(&deb).with_context(|| format!("removing {}", deb.display()))?;
        }
        let kernel = Self { release: release.to_owned(), directory };
        kernel.prepare()?;
        fs::write(kernel.directory.join(READY), "").context("marking the kernel as complete")?;
        Ok(kernel)
    }

    fn prepare(&self) -> Result<()> {
        let packed = self.packed_image()?;
        let image = fs::read(&packed).with_context(|| format!("reading {}", packed.display()))?;
        let elf = bzimage::extract(&image).with_context(|| format!("unpacking {}", packed.display()))?;
        fs::write(self.image(), elf).context("writing the unpacked kernel")?;
        tool::output(Command::new("depmod").arg("--basedir").arg(self.module_base()).arg(&self.release))?;
        Ok(())
    }

    /// The ELF kernel that QEMU boots.
    pub(super) fn image(&self) -> PathBuf {
        self.directory.join("vmlinux")
    }

    fn packed_image(&self) -> Result<PathBuf> {
        self.first_of(&[
            format!("boot/vmlinuz-{}", self.release),
            format!("usr/lib/modules/{}/vmlinuz", self.release),
        ])
    }

    fn first_of(&self, paths: &[String]) -> Result<PathBuf> {
        let candidates = paths.iter().map(|path| self.directory.join("tree").join(path));
        candidates.into_iter().find(|path| path.is_file()).with_context(|| {
            format!(
                "the packages of {} hold none of {}; has Debian moved it?",
                self.release,
                paths.join(", ")
            )
        })
    }

    /// The value of the kernel's `lsm=` parameter: the distribution's own list with or without `bpf` in it. The
    /// parameter replaces the list, so naming `bpf` alone would boot a machine that no user has.
    pub(super) fn lsm_list(&self, bpf: bool) -> Result<String> {
        let config = self.first_of(&[
            format!("boot/config-{}", self.release),
            format!("usr/lib/modules/{}/config", self.release),
        ])?;
        let text = fs::read_to_string(&config).with_context(|| format!("reading {}", config.display()))?;
        let list = if bpf { with_bpf(&text) } else { without_bpf(&text) };
        list.with_context(|| format!("{} names no security modules", config.display()))
    }

    /// Where `modprobe --dirname` finds this kernel's modules.
    fn module_base(&self) -> PathBuf {
        let tree = self.directory.join("tree");
        let usr = tree.join("usr");
        if usr.join("lib/modules").is_dir() { usr } else { tree }
    }

    /// The files of `module` and of what it needs, in load order, decompressed. Empty when it is built in.
    pub(super) fn module(&self, module: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let mut command = Command::new("modprobe");
        command.arg("--dirname").arg(self.module_base()).args(["--set-version", &self.release]);
        command.args(["--show-depends", module]);
        let plan = tool::text(&mut command).with_context(|| format!("looking for module {module}"))?;
        let mut files = Vec::new();
        for path in plan.lines().filter_map(|line| line.strip_prefix("insmod ")).map(str::trim) {
            let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(module);
            let content = match Path::new(path).extension().and_then(|extension| extension.to_str()) {
                Some("xz") => tool::output(Command::new("xz").args(["-dc", path]))?,
                _ => fs::read(path).with_context(|| format!("reading {path}"))?,
            };
            files.push((name.trim_end_matches(".xz").to_owned(), content));
        }
        Ok(files)
    }
}

/// The security modules of a kernel configuration.
fn modules(config: &str) -> Option<Vec<&str>> {
    let line = config.lines().find_map(|line| line.strip_prefix("CONFIG_LSM="))?;
    Some(line.trim_matches('"').split(',').collect())
}

/// They with `bpf` appended where it is not among them.
fn with_bpf(config: &str) -> Option<String> {
    let mut list = modules(config)?;
    if !list.contains(&"bpf") {
        list.push("bpf");
    }
    Some(list.join(","))
}

/// They without `bpf`.
fn without_bpf(config: &str) -> Option<String> {
    let mut list = modules(config)?;
    list.retain(|module| *module != "bpf");
    Some(list.join(","))
}

/// The newest release of `series` among the packages `available`.
fn newest(available: &[String], series: &str) -> Option<String> {
    let release = |name: &String| {
        let release = name.strip_prefix("linux-image-").or_else(|| name.strip_prefix("linux-binary-"))?;
        let of_series = release.starts_with(&format!("{series}.")) && release.ends_with("-cloud-amd64");
        of_series.then(|| release.to_owned())
    };
    available.iter().filter_map(release).max_by_key(|release| numbers(release))
}

/// The numbers of a release in order, which is how releases of one series compare.
fn numbers(release: &str) -> Vec<u64> {
    let digits = release.split(|character: char| !character.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}

/// The packages that hold the kernel of `release`: three from 7.x on, before that one.
fn packages_of(available: &[String], release: &str) -> Vec<String> {
    let parts = ["linux-binary", "linux-modules", "linux-base"].map(|part| format!("{part}-{release}"));
    if available.contains(&parts[0]) { parts.into() } else { vec![format!("linux-image-{release}")] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpf_joins_the_list_once() {
        assert_eq!(with_bpf("# x\nCONFIG_LSM=\"yama,apparmor\"\n").as_deref(), Some("yama,apparmor,bpf"));
        assert_eq!(with_bpf("CONFIG_LSM=\"yama,bpf,ipe\"\n").as_deref(), Some("yama,bpf,ipe"));
        assert_eq!(with_bpf("CONFIG_X=y\n"), None);
        assert_eq!(without_bpf("CONFIG_LSM=\"yama,bpf,ipe\"\n").as_deref(), Some("yama,ipe"));
        assert_eq!(without_bpf("CONFIG_LSM=\"yama,ipe\"\n").as_deref(), Some("yama,ipe"));
        assert_eq!(without_bpf("CONFIG_X=y\n"), None);
    }

    #[test]
    fn the_newest_of_a_series_is_by_number() {
        let names: Vec<String> = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-57-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-6.1-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-image-7.2.12+deb13-cloud-amd64",
        ]
        .map(str::to_owned)
        .into();
        let check = |series: &str, release: Option<&str>, packages: &[&str]| {
            assert_eq!(newest(&names, series).as_deref(), release);
            assert_eq!(release.map(|release| packages_of(&names, release)).unwrap_or_default(), packages);
        };
        check("6.1", Some("6.1.0-56-cloud-amd64"), &["linux-image-6.1.0-56-cloud-amd64"]);
        check(
            "7",
            Some("7.3.4+deb13-cloud-amd64"),
            &[
                "linux-binary-7.3.4+deb13-cloud-amd64",
                "linux-modules-7.3.4+deb13-cloud-amd64",
                "linux-base-7.3.4+deb13-cloud-amd64",
            ],
        );
        check("5.10", None, &[]);
    }
}
