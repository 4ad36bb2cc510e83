//! The compiler of the kernel programs: one that has the sources of `core`, since none ships it built for BPF.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::checkout::Checkout;

/// The tier-3 target of little-endian BPF.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// Debian's compilers live here, whatever rustup put first in PATH.
const DEBIAN_SYSROOT: &str = "/usr";
/// aya-ebpf 0.2.1 asks for it.
const MINOR_MIN: u32 = 87;

/// A compiler that can build `core`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    sysroot: PathBuf,
    version: String,
}

impl Toolchain {
    /// The first that will do: a rustup nightly with `rust-src`, else Debian's `rustc-web` with `rust-web-src`.
    pub(crate) fn find() -> Option<Self> {
        nightly_sysroot()
            .into_iter()
            .chain([PathBuf::from(DEBIAN_SYSROOT)])
            .find_map(|sysroot| Self::in_sysroot(&sysroot))
    }

    fn in_sysroot(sysroot: &Path) -> Option<Self> {
        if !sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
            return None;
        }
        let printed = stdout_of(Command::new(sysroot.join("bin/rustc")).arg("--version"))?;
        let minor = minor_version(&printed)?;
        let version = printed.trim().to_owned();
        (minor >= MINOR_MIN && sysroot.join("bin/cargo").is_file())
            .then(|| Self { sysroot: sysroot.to_owned(), version })
    }

    /// What the compiler says of itself.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Its cargo.
    pub(crate) fn cargo(&self) -> PathBuf {
        self.sysroot.join("bin/cargo")
    }

    /// Its rustc.
    pub(crate) fn rustc(&self) -> PathBuf {
        self.sysroot.join("bin/rustc")
    }

    /// A folder that holds this compiler's own LLVM, and nothing else, under the name that bpf-linker looks for.
    ///
    /// bpf-linker opens the first `libLLVM*` in `LD_LIBRARY_PATH`, and Debian keeps several versions side by side: an
    /// older one crashes on this compiler's bitcode.
    pub(crate) fn llvm_folder(&self, checkout: &Checkout) -> Result<PathBuf> {
        let rustc = self.rustc();
        let linked = stdout_of(Command::new("ldd").arg(&rustc))
            .with_context(|| format!("`ldd {}` failed: is `ldd` installed?", rustc.display()))?;
        let Some(library) = llvm_library(&linked) else {
            bail!("`{}` is not linked with a libLLVM of its own, which bpf-linker needs", rustc.display());
        };
        let folder = checkout.tools().join("llvm");
        let link = folder.join("libLLVM.so");
        if fs::read_link(&link).is_ok_and(|there| there == library) {
            return Ok(folder);
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).with_context(|| format!("cannot remove `{}`", link.display()))?;
        }
        std::os::unix::fs::symlink(&library, &link)
            .with_context(|| format!("cannot link `{}` to `{}`", link.display(), library.display()))?;
        Ok(folder)
    }
}

fn nightly_sysroot() -> Option<PathBuf> {
    let printed = stdout_of(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))?;
    Some(PathBuf::from(printed.trim()))
}

fn stdout_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// 96 of `rustc 1.96.0 (ac68faa20 2026-05-25)`.
fn minor_version(printed: &str) -> Option<u32> {
    printed.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok()
}

/// The path of libLLVM in the output of `ldd`.
fn llvm_library(linked: &str) -> Option<PathBuf> {
    let line = linked.lines().map(str::trim).find(|line| line.starts_with("libLLVM"))?;
    let (_, path) = line.split_once(" => ")?;
    let path = path.rsplit_once(" (").map_or(path, |(path, _)| path);
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_rustc() {
        let cases = [
            ("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n", Some(96)),
            ("rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\n", Some(97)),
            ("clang version 14.0.6", None),
            ("", None),
        ];
        for (printed, expect) in cases {
            assert_eq!(minor_version(printed), expect, "{printed}");
        }
    }

    #[test]
    fn llvm_among_linked_libraries() {
        let cases = [
            (
                "\tlinux-vdso.so.1 (0x01)\n\tlibLLVM.so.22.1 => /lib/libLLVM.so.22.1 (0x02)\n",
                Some("/lib/libLLVM.so.22.1"),
            ),
            ("\tlibLLVM.so.22.1 => not found\n", None),
            ("\tlibc.so.6 => /lib/libc.so.6 (0x02)\n", None),
        ];
        for (linked, expect) in cases {
            assert_eq!(llvm_library(linked), expect.map(PathBuf::from), "{linked}");
        }
    }
}
