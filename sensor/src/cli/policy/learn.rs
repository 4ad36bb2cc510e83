//! `treeline learn`.

use std::{collections::BTreeSet, io::Write, process::ExitCode};

use anyhow::Context as _;
use clap::ValueEnum;
use treeline_policy::{
    Host,
    glob::Glob,
    learn::{Kind, Learned, Learner, NotLearned, Options, Why},
    parse,
};

use super::{check::host::replaceable, compile::made_up, homes, recorded::Recorded};
use crate::{cli::output::print_note, view::EntrySource};

/// What is never learned: what this refuses.
const BASELINE: &str = include_str!("../../../../policies/baseline.yaml");

/// Arguments of `treeline learn`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recorded: Recorded,
    /// Name of the policy
    #[arg(long, default_value = "learned")]
    name: String,
    /// What becomes of what no session did: it is recorded (a trial), or refused
    #[arg(long, value_enum, default_value = "monitor")]
    mode: Mode,
    /// Kinds to learn, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["read", "write", "exec", "connect", "unix"])]
    kinds: Vec<KindWord>,
    /// Entries of a directory that were used from which on the directory stands for them
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    siblings: u32,
    /// Fit machines of so many users, too, who have their homes in /home
    #[arg(long = "homes", value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    users: Option<u32>,
}

/// What becomes of what was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Monitor,
    Enforce,
}

/// The kinds that have a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KindWord {
    /// Reading of files
    Read,
    /// Every other operation on files
    Write,
    /// Execution
    Exec,
    /// Connects to addresses
    Connect,
    /// Connects to unix sockets
    Unix,
}

impl From<KindWord> for Kind {
    fn from(word: KindWord) -> Self {
        match word {
            KindWord::Read => Self::Read,
            KindWord::Write => Self::Write,
            KindWord::Exec => Self::Exec,
            KindWord::Connect => Self::Connect,
            KindWord::Unix => Self::Unix,
        }
    }
}

/// Learns from the entries and prints a policy; exit code 1 when they do not tell enough.
///
/// # Errors
/// The entries cannot be read, there is no such session, the name is none, or `out` cannot be written.
pub fn run(args: &Args, source: &mut dyn EntrySource, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        parse("name", &format!("version: 1\nname: {:?}\nrules: []\n", args.name)).is_ok(),
        "`{}` is no name of a policy: it is a text of 1 to 64 characters",
        args.name.escape_debug()
    );
    let protected = parse("baseline.yaml", BASELINE)
        .map_err(|found| anyhow::anyhow!("the built-in baseline is not valid: {}", found.render(false)))?;
    let options = Options {
        name: args.name.clone(),
        enforces: args.mode == Mode::Enforce,
        kinds: args.kinds.iter().map(|word| Kind::from(*word)).collect::<BTreeSet<_>>(),
        siblings: usize::try_from(args.siblings).unwrap_or(usize::MAX),
    };
    let host = args.recorded.host();
    let mut learner = Learner::new(&options, &protected, &host);
    args.recorded.read(source, |entry, is_asked_for| match is_asked_for {
        true => learner.take(entry),
        false => learner.pass(entry),
    })?;
    let mut hosts = vec![Host { homes: homes() }];
    hosts.extend(args.users.map(|count| Host { homes: made_up(count) }));
    match learner.finish(&hosts, &is_roots) {
        Ok(learned) => {
            out.write_all(learned.text.as_bytes()).context("cannot write to standard output")?;
            print_note(&format!("{}\n", summary(&learned)));
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ NotLearned::Invalid(_)) => Err(error.into()),
        Err(error) => {
            print_note(&format!("nothing was learned: {error}\n"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Whether only root can put a file where this one is.
fn is_roots(path: &[u8]) -> bool {
    let glob = std::str::from_utf8(path).ok().and_then(|path| Glob::parse(path).ok());
    glob.is_some_and(|glob| replaceable(&glob).is_none())
}

fn summary(learned: &Learned) -> String {
    let mut parts = vec![format!("learned {} patterns", learned.patterns)];
    if learned.is_widened {
        parts.push("wider than asked for, because the kernel's tables do not hold more".to_owned());
    }
    for (why, count) in &learned.left {
        parts.push(match why {
            Why::Protected(rule) => format!("left out {count} that `{rule}` of the baseline protects"),
            Why::Refused(rule) => format!("left out {count} that `{rule}` refused then"),
            Why::Approved(rule) => format!("left out {count} approved of against `{rule}` then"),
            Why::Unnameable => format!("left out {count} that no pattern stands for"),
        });
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::policy::replay::tests::{Expected, compare, log};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    /// Runs and checks the exit status and parts of the output, or of the error.
    #[track_caller]
    fn check(arguments: &[&str], expect: Expected<'_>) {
        let all = ["learn", "--home", "/h"].into_iter().chain(arguments.iter().copied());
        let mut out = Vec::new();
        let result = Cli::try_parse_from(all)
            .map_err(anyhow::Error::from)
            .and_then(|cli| run(&cli.args, &mut log(), &mut out));
        compare(result, out, expect);
    }

    #[test]
    fn what_sessions_did_is_a_policy() {
        let parts = [
            "name: learned",
            "read: {action: record",
            "# 2 times in 1 session",
            "- ~/x",
            "# protected by the rule `ssh-keys` of the baseline:\n# read /h/.ssh/id: 4 times, by /usr/bin/cat",
            "# refused when it happened, by the rule `aws`:",
            "- executable: /usr/bin/cat",
        ];
        check(&[], Ok((ExitCode::SUCCESS, &parts)));
        check(
            &["--mode", "enforce", "--name", "agents", "--kinds", "read", "--homes", "11"],
            Ok((ExitCode::SUCCESS, &["name: agents", "defaults:\n  read: {action: deny"])),
        );
    }

    #[test]
    fn a_log_that_tells_nothing_is_a_finding() {
        check(&["--kinds", "connect"], Ok((ExitCode::FAILURE, &[])));
        check(&["--session", "0000000000000001"], Ok((ExitCode::FAILURE, &[])));
        check(&["--since", "9000"], Ok((ExitCode::FAILURE, &[])));
    }

    #[test]
    fn questions_that_make_no_sense() {
        check(&["--name", ""], Err("is no name of a policy"));
        check(&["--kinds", "tool"], Err("invalid value"));
        check(&["--siblings", "1"], Err("1 is not in"));
        check(&["--session", "f"], Err("no session `f`"));
    }
}
