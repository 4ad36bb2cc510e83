//! Embeds the kernel programs when they were built.
//!
//! `cargo xtask build-ebpf` puts them in `target/bpf/treeline.bpf.o`; `TREELINE_BPF_OBJECT` names another object. Without one the
//! crate still builds, so that its logic can be checked and tested on a machine without the BPF toolchain; the
//! binary then says at run time what it lacks.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Names an object to embed instead of the checkout's own.
const OVERRIDE: &str = "TREELINE_BPF_OBJECT";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(treeline_bpf_object)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    match env::var_os(OVERRIDE) {
        Some(named) => {
            let path = PathBuf::from(named);
            assert!(path.is_file(), "{OVERRIDE} names `{}`, which is not a file", path.display());
            embed(&path);
        }
        None => embed_built(),
    }
}

fn embed_built() {
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR for build scripts");
    let folder = Path::new(&manifest).join("../target/bpf");
    // Cargo runs this again whenever a path that it shall watch is absent. So there is a folder to watch before there is an object;
    // if it cannot be made, running again each time is only slow.
    if fs::create_dir_all(&folder).is_ok() {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    let object = folder.join("treeline.bpf.o");
    if object.is_file() {
        embed(&object);
    }
}

fn embed(object: &Path) {
    let path = object
        .canonicalize()
        .unwrap_or_else(|error| panic!("cannot resolve `{}`: {error}", object.display()));
    println!("cargo::rerun-if-changed={}", path.display());
    println!("cargo::rustc-cfg=treeline_bpf_object");
    println!("cargo::rustc-env=TREELINE_BPF_OBJECT_PATH={}", path.display());
}
