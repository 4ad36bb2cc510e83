//! `treeline ancestry PID|KEY|#INDEX`: the chain of executables behind a process or an event.

use std::{io::Write, process::ExitCode, str::FromStr};

use clap::Args as Arguments;
use treeline_event::{Entry, EntryBody, ProcessKey};

use super::session::entries;
use crate::view::{EntrySource, ancestry_of};

/// Shows the ancestry of a process or an event.
#[derive(Debug, Arguments)]
pub struct Args {
    /// A pid (its latest process), a process key (`pid:ticks`) or the index of an event (`#12`).
    of: Wanted,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Whose ancestry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Pid(u32),
    Key(ProcessKey),
    Index(u64),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("`{text}` is not a pid, a process key (`pid:ticks`) or an event (`#index`)");
        if let Some(index) = text.strip_prefix('#') {
            return index.parse().map(Self::Index).map_err(wrong);
        }
        if text.contains(':') {
            text.parse().map(Self::Key)
        } else {
            text.parse().map(Self::Pid).map_err(wrong)
        }
    }
}

impl Wanted {
    fn matches(self, entry: &Entry) -> bool {
        let EntryBody::Act { process, .. } = &entry.body else { return false };
        match self {
            Self::Pid(pid) => process.key.pid == pid,
            Self::Key(key) => process.key == key,
            Self::Index(index) => entry.index == index,
        }
    }
}

/// Writes the ancestry to `out`; exit code 1 when nothing is known of it.
///
/// # Errors
/// When the entries cannot be read or `out` cannot be written.
pub fn run(
    args: &Args,
    source: &mut dyn EntrySource,
    only_uid: Option<u32>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let all = entries(source, only_uid)?;
    let Some(view) = ancestry_of(&all, |entry| args.of.matches(entry)) else {
        eprintln!(
            "no entry of yours has this ancestry in full; `treeline events --kind exec` lists those that do"
        );
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
    use super::*;

    #[test]
    fn what_may_be_asked_for() {
        assert_eq!("12".parse(), Ok(Wanted::Pid(12)));
        assert_eq!("12:3".parse(), Ok(Wanted::Key(ProcessKey { pid: 12, start_ticks: 3 })));
        assert_eq!("#12".parse(), Ok(Wanted::Index(12)));
        for wrong in ["", "#", "x", "1:", "#-1"] {
            assert!(wrong.parse::<Wanted>().is_err(), "{wrong}");
        }
    }
}
