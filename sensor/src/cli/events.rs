//! `treeline events`: entries, stored and live.

use std::{
    collections::VecDeque,
    io::{self, Write},
    os::unix::ffi::OsStringExt as _,
    process::ExitCode,
};

use clap::{Args as Arguments, ValueEnum};
use treeline_event::{KINDS, ProcessKey, Verdict};

use crate::{
    daemon::homes::Homes,
    view::{EntrySource, Filter, PathFilter, SessionPrefix, line, read, time},
};

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
    /// Only of this session; the beginning of its id is enough.
    #[arg(long, value_name = "ID")]
    session: Option<SessionPrefix>,
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
    /// Only about such paths, a glob as in policies: `/etc/hosts`, `~/.ssh/**`, `**/.env`. For an exec, of the executable
    /// and the script.
    #[arg(long, value_name = "GLOB", value_parser = path_filter)]
    path: Option<PathFilter>,
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

fn path_filter(text: &str) -> Result<PathFilter, String> {
    let homes = Homes::of_this_machine().list();
    let homes = homes.into_iter().map(|(_, home)| home.into_os_string().into_vec());
    PathFilter::parse(text, homes.collect()).map_err(|error| match &error.help {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    })
}

/// A point in time, as it is typed.
pub(super) fn point_in_time(text: &str) -> Result<u64, String> {
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
    out: &mut dyn Write,
    colour: bool,
) -> anyhow::Result<ExitCode> {
    let filter = args.filter();
    let mut last: VecDeque<Vec<u8>> = VecDeque::new();
    loop {
        let mut written: io::Result<()> = Ok(());
        read(source, |entry, bytes| {
            if !filter.matches(entry) {
                return true;
            }
            let mut text = if args.json { bytes.to_vec() } else { line(entry, colour).into_bytes() };
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
    use treeline_event::{Body, Event, Meta, Notice, Origin, SessionId, Timestamp, encode};

    use super::*;
    use crate::view::MemorySource;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(arguments: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from([&["events"], arguments].concat()).map(|line| line.args)
    }

    /// The end of the session with this number, as the log has it.
    fn stored(index: u64) -> (u64, Vec<u8>) {
        let event = Event {
            time: Timestamp { boot_ns: 0, wall_ms: index * 1000 },
            session: Some(SessionId(index)),
            body: Body::Notice(Notice::SessionEnded { session: SessionId(index) }),
        };
        let mut bytes = Vec::new();
        encode(&event, &Meta { origin: &Origin::default(), index, generation: 0 }, &mut bytes);
        (index, bytes)
    }

    fn shown(arguments: &[&str], source: &mut dyn EntrySource) -> String {
        let mut out = Vec::new();
        let code = run(&parse(arguments).expect("valid"), source, &mut out, false).expect("readable");
        assert_eq!(code, ExitCode::SUCCESS);
        String::from_utf8(out).expect("text")
    }

    fn indices(arguments: &[&str]) -> Vec<String> {
        let text = shown(arguments, &mut MemorySource((1..5).map(stored).collect()));
        text.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
    }

    #[test]
    fn what_is_typed_is_what_is_shown() {
        let cases: [(&[&str], &[&str]); 8] = [
            (&[], &["1", "2", "3", "4"]),
            (&["--limit", "2"], &["3", "4"]),
            (&["--since", "1970-01-01T00:00:03Z"], &["3", "4"]),
            (&["--since", "2000", "--until", "1970-01-01T00:00:03Z"], &["2"]),
            (&["--since", "15m"], &[]),
            (&["--session", "0000000000000003"], &["3"]),
            (&["--kind", "exec"], &[]),
            (&["--kind", "exec", "--kind", "session_ended", "--until", "1500"], &["1"]),
        ];
        for (arguments, expect) in cases {
            assert_eq!(indices(arguments), expect, "{arguments:?}");
        }
        let json = shown(&["--json", "--limit=1"], &mut MemorySource([stored(1)].into()));
        assert_eq!(json.trim_end().as_bytes(), stored(1).1, "the stored bytes, unchanged");
    }

    /// One entry now, one more after each wait, twice.
    struct Growing(MemorySource, u64);

    impl EntrySource for Growing {
        fn next_entry(&mut self, entry: &mut Vec<u8>) -> io::Result<Option<u64>> {
            self.0.next_entry(entry)
        }

        fn wait(&mut self) -> io::Result<bool> {
            self.1 += 1;
            self.0.0.push_back(stored(self.1));
            Ok(self.1 < 4)
        }
    }

    #[test]
    fn following_goes_on_until_there_will_be_no_more() {
        let growing = || Growing(MemorySource([stored(1)].into()), 1);
        assert_eq!(shown(&["--follow"], &mut growing()).lines().count(), 3);
        assert_eq!(shown(&[], &mut growing()).lines().count(), 1);
        assert_eq!(shown(&["--follow", "--session", "0000000000000003"], &mut growing()).lines().count(), 1);
    }

    #[test]
    fn an_unreadable_entry_is_named() {
        let args = parse(&["--json", "--denied"]).expect("valid");
        let mut source = MemorySource([(7, b"{}".to_vec())].into());
        let error = run(&args, &mut source, &mut Vec::new(), false).expect_err("not an entry");
        assert!(error.to_string().contains("entry 7"), "{error}");
    }

    #[test]
    fn contradicting_flags_are_usage_errors() {
        for wrong in [
            &["--denied", "--verdict=allow"][..],
            &["--follow", "--limit=3"],
            &["--kind=nothing"],
            &["--since=tomorrow"],
            &["--path=relative"],
            &["--session=xyz"],
        ] {
            let error = parse(wrong).expect_err("wrong");
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
        let error = parse(&["--path=/x/"]).expect_err("wrong").to_string();
        assert!(error.contains("/x/**"), "what to write instead: {error}");
    }
}
