//! `cargo xtask build-ebpf`: the kernel programs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{checkout::Checkout, outcome::Outcome, setup, step, toolchain};

/// Variables by which an outer cargo would steer the inner one, which has another compiler.
const INHERITED: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTUP_TOOLCHAIN",
];

/// Which kernel programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Those that are shipped.
    Shipped,
    /// Those that log while somebody develops them.
    Debug,
}

/// Builds the kernel programs that are shipped, after installing what their toolchain lacks.
pub(crate) fn run(checkout: &Checkout) -> Result<Outcome> {
    make(checkout, Flavour::Shipped)
}

/// Builds kernel programs, after installing what their toolchain lacks.
pub(crate) fn make(checkout: &Checkout, flavour: Flavour) -> Result<Outcome> {
    setup::bpf_toolchain(checkout)?;
    let built = compile(checkout, flavour)?;
    let object = match flavour {
        Flavour::Shipped => checkout.bpf_object(),
        Flavour::Debug => checkout.bpf_debug_object(),
    };
    let word = if place(&built, &object)? { "new" } else { "unchanged" };
    println!("{} ({word})", checkout.relative(&object).display());
    Ok(Outcome::Clean)
}

/// Runs the kernel programs' own cargo; answers the object that it made.
fn compile(checkout: &Checkout, flavour: Flavour) -> Result<PathBuf> {
    let toolchain = toolchain::Toolchain::find()
        .context("no compiler for kernel programs: `cargo xtask setup` installs one")?;
    let linker =
        setup::tools::BPF_LINKER.find(checkout).context("no bpf-linker: `cargo xtask setup` installs it")?;
    let folder = checkout.ebpf();
    if !folder.join("Cargo.toml").is_file() {
        bail!("`{}` has no Cargo.toml: this checkout is not whole", folder.display());
    }
    println!("==> kernel programs, with {}", toolchain.version());
    let mut command = Command::new(toolchain.cargo());
    for name in INHERITED {
        command.env_remove(name);
    }
    command
        .args(["build", "--release", "--locked", "-Z", "build-std=core", "--target", toolchain::TARGET])
        .current_dir(&folder)
        // `-Z build-std` is unstable, and Debian's compiler is a stable release.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", toolchain.rustc())
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        // BTF comes from debug information; the linker turns it into .BTF and drops the rest. What the linker asks of
        // LLVM by default leaves copies and fills of known size as calls of byte loops.
        .env("RUSTFLAGS", "-C debuginfo=2 -C link-arg=--btf -C link-arg=--disable-expand-memcpy-in-order")
        .env("LD_LIBRARY_PATH", toolchain.llvm_folder(checkout)?);
    if flavour == Flavour::Debug {
        command.args(["--features", "debug"]);
    }
    step::run(checkout, "build-ebpf", &mut command)?;
    Ok(folder.join("target").join(toolchain::TARGET).join("release/treeline"))
}

/// Puts the object where the sensor's build script looks, and only when it differs: an unchanged object must not make
/// cargo build the sensor again. Answers whether it was new.
fn place(built: &Path, object: &Path) -> Result<bool> {
    let bytes = fs::read(built).with_context(|| format!("cannot read `{}`", built.display()))?;
    if fs::read(object).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    let folder = object.parent().context("the object's path has no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(|| format!("cannot write in `{}`", folder.display()))?;
    std::io::Write::write_all(&mut file, &bytes)
        .with_context(|| format!("cannot write `{}`", file.path().display()))?;
    file.persist(object).with_context(|| format!("cannot replace `{}`", object.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_object_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("built");
        let object = folder.path().join("bpf/object");
        fs::write(&built, "one").unwrap();
        assert!(place(&built, &object).unwrap());
        assert!(!place(&built, &object).unwrap());
        fs::write(&built, "two").unwrap();
        assert!(place(&built, &object).unwrap());
        assert_eq!(fs::read(&object).unwrap(), b"two");
    }
}
