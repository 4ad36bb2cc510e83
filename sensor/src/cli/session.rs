//! `treeline session ls | show`: the sessions and what came of them.

use std::{io::Write, process::ExitCode};

use clap::{Args as Arguments, Subcommand};

use crate::view::{
    EntrySource, PickError, SessionPrefix, SessionSearch, SessionView, Sessions, read,
    text::{command_line, safe, shortened},
    time::utc,
};

/// Characters of a command that a row shows.
const COMMAND_LEN_MAX: usize = 48;

/// Shows sessions.
#[derive(Debug, Arguments)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// As JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All sessions, oldest first.
    Ls,
    /// One session: who, what, under which policy, counts by kind, refusals, loss.
    Show {
        /// Which; the beginning of its id is enough.
        #[arg(value_name = "ID")]
        session: SessionPrefix,
    },
}

/// Says why a prefix names no session: a finding.
pub(super) fn not_found(error: &PickError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

/// Writes the sessions that are asked for to `out`; exit code 1 when there is no such session.
///
/// # Errors
/// When the entries cannot be read or `out` cannot be written.
pub fn run(args: &Args, source: &mut dyn EntrySource, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Ls => list(args.json, source, out),
        Verb::Show { session } => show(session, args.json, source, out),
    }
}

fn list(json: bool, source: &mut dyn EntrySource, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut sessions = Sessions::default();
    read(source, |entry, _| {
        sessions.add(entry);
        true
    })?;
    let all = sessions.finish();
    if json {
        writeln!(out, "{}", serde_json::to_string(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{:<16}  {:<11}  {:<24}  {:<24}  {:<12}  {:>8}  {:>7}  AGENT",
        "SESSION", "STATE", "STARTED", "ENDED", "USER", "EVENTS", "REFUSED"
    )?;
    for view in &all {
        row(view, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(view: &SessionView, out: &mut dyn Write) -> std::io::Result<()> {
    let SessionView { session, state, started_ms, ended_ms, events, denials, origin, .. } = view;
    let (started, ended) = (utc(*started_ms), ended_ms.map_or_else(|| "-".to_owned(), utc));
    let user = view.user_text();
    let command = shortened(&command_line(&view.command), COMMAND_LEN_MAX);
    writeln!(
        out,
        "{session}  {state:<11}  {started}  {ended:<24}  {user:<12}  {events:>8}  {denials:>7}  {}: {command}",
        safe(origin)
    )
}

fn show(
    wanted: SessionPrefix,
    json: bool,
    source: &mut dyn EntrySource,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let mut search = SessionSearch::new(wanted);
    read(source, |entry, _| {
        search.add(entry);
        true
    })?;
    let view = match search.finish() {
        Ok(view) => view,
        Err(error) => return Ok(not_found(&error)),
    };
    if json {
        writeln!(out, "{}", serde_json::to_string(&view)?)?;
    } else {
        write!(out, "{}", view.text())?;
    }
    Ok(ExitCode::SUCCESS)
}
