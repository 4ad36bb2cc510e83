//! Where things are in a checkout.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout that this program was built from.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    root: PathBuf,
}

impl Checkout {
    /// The checkout of the running `cargo xtask`; cargo sets `CARGO_MANIFEST_DIR` for it.
    pub(crate) fn locate() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .context("CARGO_MANIFEST_DIR is not set: run this as `cargo xtask` inside the checkout")?;
        let root = Path::new(&manifest).parent().context("CARGO_MANIFEST_DIR has no parent")?.to_owned();
        Ok(Self { root })
    }

    /// A checkout at `root`, for tests of what reads one.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Its root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Tools that `setup` installed for this checkout alone (git ignores `.cache`).
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join(".cache/tools")
    }

    /// The Python environment of the tests.
    pub(crate) fn venv(&self) -> PathBuf {
        self.root.join(".cache/venv")
    }

    /// The kernel programs' workspace: it has a toolchain and a target of its own.
    pub(crate) fn ebpf(&self) -> PathBuf {
        self.root.join("sensor-ebpf")
    }

    /// The workspace of the fuzz targets' engine, whose code is instrumented.
    pub(crate) fn fuzz(&self) -> PathBuf {
        self.root.join("fuzz")
    }

    /// The kernel programs' object; `sensor/build.rs` embeds it from here.
    pub(crate) fn bpf_object(&self) -> PathBuf {
        self.root.join("target/bpf/treeline.bpf.o")
    }

    /// The same for an object whose programs log; elsewhere, so that a change of it does not touch the shipped one.
    pub(crate) fn bpf_debug_object(&self) -> PathBuf {
        self.root.join("target/debug-log/treeline.bpf.o")
    }

    /// The release binary; a `CARGO_TARGET_DIR` of the caller is honoured.
    pub(crate) fn treeline(&self) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        self.root.join(target).join("release/treeline")
    }

    /// The outputs of long steps, one file each.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("target/xtask-logs")
    }

    /// `path` as a reader of the checkout would write it.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}
