//! Project tasks.
#![forbid(unsafe_code)]

mod demo;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;

/// What the project does to itself.
#[derive(Parser)]
enum Verb {
    /// Run the real Claude Code under Treeline, offline, and check that what policy denies is refused and recorded.
    Demo(demo::Args),
}

fn main() -> ExitCode {
    match run(&Verb::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(Verb::Demo(args): &Verb) -> anyhow::Result<bool> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = package.as_deref().and_then(Path::parent).context("start this through `cargo xtask`")?;
    demo::run(root, &root.join("target/release/treeline"), args)
}
