//! `treeline tree SESSION`: its processes, with hashes and denials.

use std::{io::Write, process::ExitCode};

use clap::Args as Arguments;

use super::session::not_found;
use crate::view::{EntrySource, SessionPrefix, TreeSearch, read};

/// Shows the process tree of a session.
#[derive(Debug, Arguments)]
pub struct Args {
    /// Which session; the beginning of its id is enough.
    #[arg(value_name = "ID")]
    session: SessionPrefix,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Writes the tree to `out`; exit code 1 when there is no such session.
///
/// # Errors
/// When the entries cannot be read or `out` cannot be written.
pub fn run(args: &Args, source: &mut dyn EntrySource, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut search = TreeSearch::new(args.session);
    read(source, |entry, _| {
        search.add(entry);
        true
    })?;
    let view = match search.finish() {
        Ok(view) => view,
        Err(error) => return Ok(not_found(&error)),
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&view)?)?;
    } else {
        write!(out, "{}", view.text())?;
    }
    Ok(ExitCode::SUCCESS)
}
