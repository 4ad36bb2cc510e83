//! `treeline ancestry PID|KEY|#INDEX`: the chain of executables behind a process or an event.

use std::{io::Write, process::ExitCode};

use clap::Args as Arguments;

use crate::view::{AncestrySearch, EntrySource, Wanted, read};

/// Shows the ancestry of a process or an event.
#[derive(Debug, Arguments)]
pub struct Args {
    /// A pid (its latest process), a process key (`pid:ticks`) or the index of an event (`#12`).
    #[arg(value_parser = wanted, required_unless_present = "event")]
    of: Option<Wanted>,
    /// The index of an event, as `#INDEX` without quoting for the shell.
    #[arg(long, value_name = "INDEX", conflicts_with = "of")]
    event: Option<u64>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

fn wanted(text: &str) -> Result<Wanted, String> {
    let wrong = || {
        let text = text.escape_debug();
        format!("`{text}` is not a pid, a process key (`pid:ticks`) or an event (`#index`)")
    };
    // The number parser of the standard library takes a sign.
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match text.strip_prefix('#') {
        Some(index) if number(index) => index.parse().map(Wanted::Index).map_err(|_| wrong()),
        None if text.contains(':') => text.parse().map(Wanted::Key).map_err(|_| wrong()),
        None if number(text) => text.parse().map(Wanted::Pid).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// Writes the ancestry to `out`; exit code 1 when nothing is known of it.
///
/// # Errors
/// When the entries cannot be read or `out` cannot be written.
pub fn run(args: &Args, source: &mut dyn EntrySource, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let Some(wanted) = args.event.map(Wanted::Index).or(args.of) else {
        anyhow::bail!("say whose ancestry: a pid, a process key or an event");
    };
    let mut search = AncestrySearch::new(wanted);
    read(source, |entry, _| {
        search.add(entry);
        true
    })?;
    let Some(view) = search.finish() else {
        eprintln!("no entry that you may see is of it; `treeline events --kind exec` lists processes");
        return Ok(ExitCode::FAILURE);
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&view)?)?;
    } else {
        write!(out, "{}", view.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use treeline_event::ProcessKey;

    use super::*;
    use crate::view::MemorySource;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_may_be_asked_for() {
        assert_eq!(wanted("12"), Ok(Wanted::Pid(12)));
        assert_eq!(wanted("12:3"), Ok(Wanted::Key(ProcessKey { pid: 12, start_ticks: 3 })));
        assert_eq!(wanted("#12"), Ok(Wanted::Index(12)));
        for wrong in ["", "#", "x", "1:", "#-1", "+1", "#+1"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
        for wrong in [&["ancestry"][..], &["ancestry", "1", "--event", "2"]] {
            assert!(Line::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_unknown_process_is_a_finding() {
        let args = Line::try_parse_from(["ancestry", "--event", "3"]).expect("valid").args;
        let code = run(&args, &mut MemorySource::default(), &mut Vec::new()).expect("readable");
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
    }
}
