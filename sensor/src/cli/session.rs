//! `treeline session ls | show`: the sessions and their numbers.

use std::{io::Write, process::ExitCode};

use clap::{Args as Arguments, Subcommand};
use treeline_event::{Entry, SessionId};

use crate::view::{Access, EntrySource, SessionView, read, sessions};

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
    /// One session.
    Show {
        /// Which.
        session: SessionId,
    },
}

/// Every entry that may be seen.
pub(super) fn entries(source: &mut dyn EntrySource, only_uid: Option<u32>) -> anyhow::Result<Vec<Entry>> {
    let mut all = Vec::new();
    read(source, &mut Access::new(only_uid), |entry, _| {
        all.push(entry.clone());
        true
    })?;
    Ok(all)
}

/// Writes the sessions that are asked for to `out`; exit code 1 when there is no such session.
///
/// # Errors
/// When the entries cannot be read or `out` cannot be written.
pub fn run(
    args: &Args,
    source: &mut dyn EntrySource,
    only_uid: Option<u32>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let mut all = sessions(&entries(source, only_uid)?);
    if let Verb::Show { session } = args.verb {
        all.retain(|view| view.session == session);
        if all.is_empty() {
            eprintln!("there is no session `{session}` of yours; `treeline session ls` lists them");
            return Ok(ExitCode::FAILURE);
        }
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{:<16}  {:>6}  {:>6}  {:>8}  {:>7}  {:<5}  COMMAND",
        "SESSION", "UID", "PROCS", "EVENTS", "DENIALS", "STATE"
    )?;
    for view in &all {
        row(view, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(view: &SessionView, out: &mut dyn Write) -> std::io::Result<()> {
    let SessionView { session, uid, processes, events, denials, .. } = view;
    let state = if view.ended_ms.is_some() { "ended" } else { "open" };
    let command: String = view.command.join(" ").escape_debug().take(38).collect();
    writeln!(out, "{session}  {uid:>6}  {processes:>6}  {events:>8}  {denials:>7}  {state:<5}  {command}")
}
