//! `treeline policy replay`.

mod text;

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use serde::Serialize;
use treeline_event::PathBytes;
use treeline_policy::replay::{Replay, Report};

pub(super) use self::text::words as doubt_words;
use super::{lower::Lower, now, recorded::Recorded, valid};
use crate::view::EntrySource;

/// Arguments of `treeline policy replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    lower: Lower,
    #[command(flatten)]
    recorded: Recorded,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was asked, with what came of it.
#[derive(Debug, Serialize)]
struct Answer {
    /// What `~/` stood for.
    homes: Vec<PathBytes>,
    /// Whether those are of the machine that answers, and not given.
    homes_of_this_machine: bool,
    /// Rules that are not asked.
    expired: Vec<String>,
    #[serde(flatten)]
    report: Report,
}

/// Replays the policy over the entries; exit code 1 when it would deny anything.
///
/// # Errors
/// The policy is not valid, the entries cannot be read, there is no such session, or `out` cannot be written.
pub(super) fn run(
    args: &Args,
    source: &mut dyn EntrySource,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let policy = valid(&args.file, &args.lower)?;
    let now = now();
    let expired = policy.rules.iter().filter(|rule| rule.has_expired(now)).map(|rule| rule.id.clone());
    let expired = expired.collect();
    let policy = policy.at(now);
    let host = args.recorded.host();
    let mut replay = Replay::new(&policy, &host);
    args.recorded.read(source, |entry, is_asked_for| match is_asked_for {
        true => replay.take(entry),
        false => replay.pass(entry),
    })?;
    let homes_of_this_machine = !args.recorded.has_homes();
    let homes = host.home_paths().map(PathBytes::from).collect();
    let answer = Answer { homes, homes_of_this_machine, expired, report: replay.finish() };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &answer).context("cannot write to standard output")?;
        writeln!(out)?;
    } else {
        text::write(&answer, out)?;
    }
    Ok(if answer.report.would_deny.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;
    use treeline_event::{
        Action, AttachMode, Body, Event, FileRef, Image, Meta, Mode, Notice, OpenFlags, Origin, Outcome,
        Process, ProcessKey, Program, RuleHit, SessionId, Subject, Timestamp, Verdict, encode,
    };

    use super::*;
    use crate::view::MemorySource;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    const ROOT: ProcessKey = ProcessKey { pid: 5, start_ticks: 1 };

    fn read_of(path: &str, denied_by: Option<&str>) -> Body {
        let image = Image { path: "/usr/bin/cat".into(), ..Image::default() };
        let program = Program { image, ..Program::default() };
        let process = Process { key: ROOT, uid: 1000, program: program.into(), ..Process::default() };
        let file = FileRef { path: path.into(), ..FileRef::default() };
        let action = Action::Open { file, flags: OpenFlags(0), outcome: Outcome::Ok, count: 2 };
        let rule = denied_by.map(|rule| RuleHit {
            rule: rule.to_owned(),
            reason: "r".to_owned(),
            mode: Mode::Enforce,
            policy: "p".to_owned(),
            generation: 1,
            remedy: None,
            link: None,
            approvable_s: None,
            approved: false,
        });
        Body::Act {
            subject: Subject { process: process.into(), ancestry: vec![] },
            action,
            verdict: if denied_by.is_some() { Verdict::Deny } else { Verdict::Allow },
            rule: rule.map(Into::into),
        }
    }

    /// The log of two sessions that read keys.
    pub(in crate::cli::policy) fn log() -> MemorySource {
        let (hooks, recovery, version) = (vec![], None, String::new());
        let mode = AttachMode::Lsm;
        let started = |session| {
            let (origin, command) = ("run".to_owned(), vec![]);
            Body::Notice(Notice::SessionStarted {
                session,
                root: ROOT,
                uid: 1000,
                origin,
                command,
                attributes: Default::default(),
            })
        };
        let (one, two) = (SessionId(1), SessionId(2));
        let bodies = [
            (None, Body::Notice(Notice::Started { version, mode, kernel: String::new(), hooks, recovery })),
            (Some(one), started(one)),
            (Some(one), read_of("/h/.ssh/id", None)),
            (Some(one), read_of("/h/.aws/key", Some("aws"))),
            (Some(two), read_of("/h/.ssh/id", None)),
            (Some(two), read_of("/h/x", None)),
        ];
        let stored = bodies.into_iter().zip(0u64..).map(|((session, body), index)| {
            let time = Timestamp { boot_ns: 0, wall_ms: index * 1000 };
            let mut bytes = Vec::new();
            let meta = Meta { origin: &Origin::default(), index, generation: 1 };
            encode(&Event { time, session, body }, &meta, &mut bytes);
            (index, bytes)
        });
        MemorySource(stored.collect())
    }

    /// An exit status and parts of the output, or a part of the error.
    pub(in crate::cli::policy) type Expected<'e> = Result<(ExitCode, &'e [&'e str]), &'e str>;

    /// What a verb came to, and what it printed.
    #[track_caller]
    pub(in crate::cli::policy) fn compare(
        result: anyhow::Result<ExitCode>,
        out: Vec<u8>,
        expect: Expected<'_>,
    ) {
        let out = String::from_utf8(out).expect("text");
        match (result, expect) {
            (Ok(code), Ok((expect, parts))) => {
                assert_eq!(code, expect, "{out}");
                for part in parts {
                    assert!(out.contains(part), "{part}\n{out}");
                }
            }
            (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{error:#}"),
            (result, expect) => panic!("{result:?}, expected {expect:?}\n{out}"),
        }
    }

    /// Runs and checks the exit status and parts of the output, or of the error.
    #[track_caller]
    fn check(rules: &str, arguments: &[&str], expect: Expected<'_>) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("p.yaml");
        std::fs::write(&file, format!("version: 1\nname: t\nrules: [{rules}]\n")).expect("a file");
        let all = ["replay".as_ref(), file.as_os_str(), "--home".as_ref(), "/h".as_ref()];
        let all = all.into_iter().chain(arguments.iter().map(AsRef::as_ref));
        let mut out = Vec::new();
        let result = Cli::try_parse_from(all)
            .map_err(anyhow::Error::from)
            .and_then(|cli| run(&cli.args, &mut log(), &mut out));
        compare(result, out, expect);
    }

    const SSH: &str = "{id: ssh, kind: file, paths: [~/.ssh/**], reason: r}";
    const AWS: &str = "{id: aws, kind: file, paths: [~/.aws/**], reason: r}";

    #[test]
    fn what_would_be_denied_is_a_finding() {
        let parts = [
            "would deny 4 actions: 4 that no rule matched then",
            "ssh   enforce        4",
            "read  /h/.ssh/id",
            "in sessions 0000000000000001, 0000000000000002",
            "refused then, and allowed by this policy:",
            "aws: 2, and the policy has no rule of this id",
            "went another way",
            "`~/` stood for /h",
        ];
        check(SSH, &[], Ok((ExitCode::FAILURE, &parts)));
        let both = format!("{SSH}, {AWS}");
        check(
            &both,
            &["--session", "0000000000000001"],
            Ok((ExitCode::FAILURE, &["would deny 4 actions: 2 that no rule"])),
        );
        check(
            &both,
            &["--since", "3000", "--until", "4000"],
            Ok((ExitCode::FAILURE, &["would deny 2 actions"])),
        );
        check(AWS, &["--session", "0000000000000002"], Ok((ExitCode::SUCCESS, &["would deny nothing"])));
        check("", &["--since", "9000"], Ok((ExitCode::SUCCESS, &["0 entries"])));
        let expired = SSH.replace('}', ", expires: 1999-12-31}");
        check(&expired, &[], Ok((ExitCode::SUCCESS, &["expired and were not asked: ssh"])));
    }

    #[test]
    fn what_allows_is_counted_by_what_it_lets_through() {
        let rules = "{id: used, kind: file, action: allow, paths: [~/.ssh/id], reason: r, priority: 1}, \
                     {id: idle, kind: file, action: allow, paths: [/none], reason: r, priority: 1}, \
                     {id: call, kind: tool, tools: [Bash], reason: r}";
        let parts = [
            "would deny nothing",
            "used  allow          4        4",
            "\nnothing would be let through by: idle\n",
            "\nabout calls or the machine, of which no log has anything: call\n",
        ];
        check(&format!("{SSH}, {rules}"), &[], Ok((ExitCode::SUCCESS, &parts)));
    }

    #[test]
    fn as_json() {
        let parts =
            ["\"would_deny\": {\n    \"entries\": 2,\n    \"times\": 4", "\"homes_of_this_machine\": false"];
        check(SSH, &["--json"], Ok((ExitCode::FAILURE, &parts)));
    }

    #[test]
    fn questions_that_make_no_sense() {
        check("{id: a}", &[], Err("is not a valid policy"));
        check(SSH, &["--session", "f"], Err("no session `f`"));
        check(SSH, &["--session", "0"], Err("is the beginning of"));
        check(SSH, &["--home", "h"], Err("no home"));
        check(SSH, &["--since", "x"], Err("not a time"));
    }
}
