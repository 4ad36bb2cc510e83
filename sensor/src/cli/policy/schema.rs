//! `treeline policy schema`.

use std::{io::Write, process::ExitCode};

use anyhow::Context as _;
use clap::ValueEnum;
use treeline_policy::syntax::{Document, schema};

/// Arguments of `treeline policy schema`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The kind of file
    #[arg(value_enum, default_value_t = Of::Policy, value_name = "KIND")]
    of: Of,
}

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Of {
    /// A policy
    Policy,
    /// A file that a policy includes
    Part,
    /// The tests of a policy (`*.test.yaml`)
    Test,
}

impl From<Of> for Document {
    fn from(of: Of) -> Self {
        match of {
            Of::Policy => Self::Policy,
            Of::Part => Self::Part,
            Of::Test => Self::Tests,
        }
    }
}

/// Prints a schema.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    serde_json::to_writer_pretty(&mut *out, &schema(args.of.into()))
        .context("cannot write to standard output")?;
    writeln!(out)?;
    Ok(ExitCode::SUCCESS)
}
