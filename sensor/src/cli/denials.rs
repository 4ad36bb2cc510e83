//! `treeline denials`: what was refused, why, and what to do next.

use std::{io::Write, process::ExitCode};

use clap::Args as Arguments;
use serde::Serialize;

use crate::view::{Denial, Denials, EntrySource, SessionPrefix, read};

/// Shows what was refused.
#[derive(Debug, Arguments)]
pub struct Args {
    /// Only of this session; the beginning of its id is enough.
    #[arg(long, value_name = "ID")]
    session: Option<SessionPrefix>,
    /// The last N, of what was tried several times the last try.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A denial as JSON.
#[derive(Serialize)]
struct Shown<'d> {
    #[serde(flatten)]
    denial: &'d Denial,
    /// How often it was tried.
    times: u64,
}

/// Writes the denials that are asked for to `out`.
///
/// # Errors
/// When the entries cannot be read or `out` cannot be written.
pub fn run(args: &Args, source: &mut dyn EntrySource, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut denials = Denials::new(args.limit as usize);
    read(source, |entry, _| {
        let is_asked_for = |wanted: SessionPrefix| entry.session.is_some_and(|id| wanted.matches(id));
        if args.session.is_none_or(is_asked_for) {
            denials.add(entry);
        }
        true
    })?;
    if args.json {
        let shown: Vec<Shown<'_>> =
            denials.kept().map(|(denial, times)| Shown { denial, times: *times }).collect();
        serde_json::to_writer_pretty(&mut *out, &shown)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    write(&denials, out)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes them for people.
///
/// # Errors
/// `out` cannot be written.
pub(super) fn write(denials: &Denials, out: &mut dyn Write) -> std::io::Result<()> {
    for (denial, times) in denials.kept() {
        out.write_all(denial.text().as_bytes())?;
        if *times > 1 {
            writeln!(out, "          tried {times} times")?;
        }
    }
    Ok(())
}
