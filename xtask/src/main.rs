//! Project tasks.
#![forbid(unsafe_code)]

mod demo;

use std::process::ExitCode;

use clap::Parser;

/// What the project does to itself.
#[derive(Parser)]
enum Verb {
    Demo(demo::Args),
}

fn main() -> ExitCode {
    let Verb::Demo(args) = Verb::parse();
    demo::run(&args).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
