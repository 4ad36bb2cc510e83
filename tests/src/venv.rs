//! The Python environment of the checkout, with the validators that are not ours.

use std::path::{Path, PathBuf};

/// Its interpreter.
///
/// # Panics
/// If there is none: `cargo xtask setup` makes it.
#[must_use]
pub fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let venv = std::env::var_os("TREELINE_VENV").map_or_else(|| root.join(".cache/venv"), PathBuf::from);
    let python = venv.join("bin/python");
    assert!(python.exists(), "no Python environment at `{}`: run `cargo xtask setup`", venv.display());
    python
}
