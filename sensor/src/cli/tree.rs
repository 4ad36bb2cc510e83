//! `treeline tree SESSION`: its processes, with hashes and denials.

use std::{io::Write, process::ExitCode};

use clap::Args as Arguments;
use treeline_event::SessionId;

use super::session::entries;
use crate::view::{EntrySource, tree};

/// Shows the process tree of a session.
#[derive(Debug, Arguments)]
pub struct Args {
    /// Which session.
    session: SessionId,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Writes the tree to `out`; exit code 1 when there is no such session.
///
/// # Errors
/// When the entries cannot be read or `out` cannot be written.
pub fn run(
    args: &Args,
    source: &mut dyn EntrySource,
    only_uid: Option<u32>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let Some(view) = tree(&entries(source, only_uid)?, args.session) else {
        eprintln!("nothing is known of session `{}`; `treeline session ls` lists yours", args.session);
        return Ok(ExitCode::FAILURE);
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&view)?)?;
    } else {
        write!(out, "{}", view.text())?;
    }
    Ok(ExitCode::SUCCESS)
}
