//! `treeline events`: entries, stored and live.

use std::{
    collections::VecDeque,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args as Arguments, ValueEnum};
use treeline_event::{KINDS, ProcessKey, SessionId, Verdict};

use crate::view::{Access, EntrySource, Filter, line, read, time};

/// A verdict as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum VerdictName {
    /// No rule matched, or an exception lifted it.
    Allow,
    /// A rule matched and the action went on.
    Audit,
    /// Refused.
    Deny,
}

/// Shows events.
#[derive(Debug, Arguments)]
pub struct Args {
    /// Go on with new events as they come.
    #[arg(long, conflicts_with = "limit")]
    follow: bool,
    /// Only of this session.
    #[arg(long)]
    session: Option<SessionId>,
    /// Only of this kind; may be repeated.
    #[arg(long = "kind", value_parser = clap::builder::PossibleValuesParser::new(KINDS))]
    kinds: Vec<String>,
    /// Only with this verdict.
    #[arg(long)]
    verdict: Option<VerdictName>,
    /// Only what was refused: `--verdict deny`.
    #[arg(long, conflicts_with = "verdict")]
    denied: bool,
    /// Only decided by this rule.
    #[arg(long)]
    rule: Option<String>,
    /// Only about paths that begin so.
    #[arg(long)]
    path: Option<String>,
    /// Only of processes with this pid.
    #[arg(long)]
    pid: Option<u32>,
    /// Only of the process with this key (`pid:ticks`).
    #[arg(long)]
    key: Option<ProcessKey>,
    /// Only of processes of this user id.
    #[arg(long)]
    uid: Option<u32>,
    /// Not before this time: UTC (`2026-11-23T05:00:00Z`), a time ago (`15m`, `2h`, `3d`), or milliseconds since the
    /// epoch.
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    since: Option<u64>,
    /// Before this time, written like `--since`.
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    until: Option<u64>,
    /// Only the last N that match, at most 1 000 000 (they are held in memory).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: Option<u32>,
    /// The stored entries themselves, one a line, unchanged.
    #[arg(long)]
    json: bool,
}

fn point_in_time(text: &str) -> Result<u64, String> {
    time::parse(text, time::now_ms())
}

impl Args {
    /// Whether new events are asked for, too.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.follow
    }

    fn filter(&self) -> Filter {
        let verdict = self.verdict.map(|verdict| match verdict {
            VerdictName::Allow => Verdict::Allow,
            VerdictName::Audit => Verdict::Audit,
            VerdictName::Deny => Verdict::Deny,
        });
        Filter {
            session: self.session,
            kinds: self.kinds.clone(),
            verdict: if self.denied { Some(Verdict::Deny) } else { verdict },
            rule: self.rule.clone(),
            path: self.path.clone(),
            pid: self.pid,
            key: self.key,
            uid: self.uid,
            since_ms: self.since,
            until_ms: self.until,
        }
    }
}

/// Writes the events that are asked for to `out`.
///
/// # Errors
/// When the entries cannot be read or `out` cannot be written.
pub fn run(
    args: &Args,
    source: &mut dyn EntrySource,
    only_uid: Option<u32>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let filter = args.filter();
    let mut access = Access::new(only_uid);
    let mut last: VecDeque<Vec<u8>> = VecDeque::new();
    loop {
        let mut written: io::Result<()> = Ok(());
        read(source, &mut access, |entry, bytes| {
            if !filter.matches(entry) {
                return true;
            }
            let mut text = if args.json { bytes.to_vec() } else { line(entry).into_bytes() };
            text.push(b'\n');
            if let Some(limit) = args.limit {
                last.push_back(text);
                if last.len() > limit as usize {
                    last.pop_front();
                }
                return true;
            }
            written = out.write_all(&text);
            written.is_ok()
        })?;
        written?;
        for text in last.drain(..) {
            out.write_all(&text)?;
        }
        out.flush()?;
        if !args.follow || !source.wait()? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::view::MemorySource;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn an_unreadable_entry_is_named() {
        let args = Line::try_parse_from(["events", "--json", "--denied"]).expect("valid").args;
        let mut source = MemorySource([(7, b"{}".to_vec())].into());
        let error = run(&args, &mut source, None, &mut Vec::new()).expect_err("not an entry");
        assert!(error.to_string().contains("entry 7"), "{error}");
    }

    #[test]
    fn contradicting_flags_are_usage_errors() {
        for wrong in
            [["--denied", "--verdict=allow"], ["--follow", "--limit=3"], ["--kind=nothing", "--json"]]
        {
            assert!(Line::try_parse_from([&["events"], &wrong[..]].concat()).is_err(), "{wrong:?}");
        }
    }
}
