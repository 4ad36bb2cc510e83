//! `treeline log`: verify, read and prove the evidence log. Needs no daemon.

use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde::Serialize;
use treeline_tlog::VerifierKey;

use crate::log::key::{PUBLIC_KEY, fingerprint};
use crate::log::{self, Extent, LogReader, Options, Remark, Report, SoftwareKey};

/// Arguments of `treeline log`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The log directory
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/treeline/log",
        global = true,
        env = "TREELINE_LOG"
    )]
    log: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check every entry, hash and signature; exit status 1 if anything is wrong
    Verify {
        /// The last checkpoint that you know of this log: shows if the log was rolled back or rewritten since
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// The log's public key as you noted it, or a file with it [default: the log directory's own]
        #[arg(long, value_name = "VKEY")]
        key: Option<String>,
    },
    /// Print entries, one a line
    Cat {
        /// Index of the first entry
        #[arg(long, value_name = "N", default_value_t = 0)]
        from: u64,
        /// How many entries [default: all]
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Entries that no checkpoint covers yet, too
        #[arg(long)]
        unsigned: bool,
        /// Wait for more at the end
        #[arg(long, short)]
        follow: bool,
    },
    /// Print a proof (.tlog-proof) that an entry is in the log, for somebody who has the entry and the public key
    Prove {
        /// Index of the entry
        index: u64,
    },
    /// Print the log's public key
    Key,
    /// Measure append and verify rates in an empty directory
    #[command(hide = true)]
    Bench {
        /// An empty directory, filled and left
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value_t = 400_000)]
        entries: u64,
        #[arg(long, default_value_t = 600)]
        entry_bytes: usize,
        /// Entries of recorded sessions, for what reads them, instead of bytes
        #[arg(long, conflicts_with = "entry_bytes")]
        recorded: bool,
    },
}

/// Runs `treeline log`.
///
/// # Errors
/// What keeps the answer from being given; a log that is not whole is an answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { log, json, verb } = args;
    match verb {
        Verb::Verify { checkpoint, key } => verify(&log, checkpoint.as_deref(), key.as_deref(), json),
        Verb::Cat { from, count, unsigned, follow } => {
            let extent = if unsigned { Extent::WithUnsigned } else { Extent::Signed };
            match cat(&log, from, count.unwrap_or(u64::MAX), extent, follow) {
                // Whoever read has seen enough (`| head`).
                Err(e) if is_broken_pipe(&e) => Ok(ExitCode::SUCCESS),
                result => result.map(|()| ExitCode::SUCCESS),
            }
        }
        Verb::Prove { index } => prove(&log, index, json),
        Verb::Key => key(&log, json),
        Verb::Bench { dir, entries, recorded: true, .. } => {
            bench(&dir, entries, &mut log::bench::Recorded, json)
        }
        Verb::Bench { dir, entries, entry_bytes, .. } => {
            bench(&dir, entries, &mut log::bench::Bytes(entry_bytes), json)
        }
    }
}

fn verify(dir: &Path, checkpoint: Option<&Path>, key: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let (key, is_own) = match key {
        Some(text) => (given_key(text)?, false),
        None => (own_key(dir)?, true),
    };
    let known_checkpoint = checkpoint
        .map(|path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the checkpoint `{}`", path.display()))
        })
        .transpose()?;
    let mut report = log::verify(dir, &key, &Options { known_checkpoint })
        .with_context(|| format!("cannot verify the log `{}`", dir.display()))?;
    if is_own {
        report.remarks.push(Remark::KeyFromLogDirectory);
    }
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write_report(&mut out, dir, &report)?;
    }
    Ok(if report.whole { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn write_report(out: &mut impl io::Write, dir: &Path, report: &Report) -> io::Result<()> {
    for finding in &report.findings {
        writeln!(out, "finding: {finding}")?;
    }
    for remark in &report.remarks {
        writeln!(out, "remark: {remark}")?;
    }
    let known = match report.compared_with_known_checkpoint {
        true => ", and continues the known checkpoint",
        false => "; give a checkpoint that you kept with `--checkpoint` to see that it was not rolled back",
    };
    let dir = dir.display();
    let entries = match report.signed_size {
        1 => "1 entry matches".to_owned(),
        n => format!("{n} entries match"),
    };
    match report.findings.len() {
        0 => writeln!(out, "`{dir}` is whole: {entries} the signed checkpoint{known}"),
        1 => writeln!(
            out,
            "`{dir}` is NOT whole: 1 finding. Keep the directory as it is for whoever looks into it"
        ),
        n => writeln!(
            out,
            "`{dir}` is NOT whole: {n} findings. Keep the directory as it is for whoever looks into it"
        ),
    }
}

/// A key as text, or a file that holds it. A key has `+` and base64 in it and is rarely a file's name.
fn given_key(text: &str) -> anyhow::Result<VerifierKey> {
    match text.parse() {
        Ok(key) => Ok(key),
        Err(e) => match std::fs::read_to_string(text) {
            Ok(content) => content.parse().with_context(|| format!("`{text}` holds no public key")),
            Err(_) => Err(e).with_context(|| format!("`{text}` is neither a public key nor a file with one")),
        },
    }
}

fn own_key(dir: &Path) -> anyhow::Result<VerifierKey> {
    let path = dir.join(PUBLIC_KEY);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.parse().with_context(|| format!("`{}` is not a public key", path.display())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => bail!(
            "there is no log in `{}` (it has no `{PUBLIC_KEY}`): name the log directory with `--log`, or the key with `--key`",
            dir.display()
        ),
        Err(e) => Err(e).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

fn cat(dir: &Path, from: u64, count: u64, extent: Extent, follow: bool) -> anyhow::Result<()> {
    /// How long a new entry waits to be seen. Entries come with checkpoints, once a second.
    const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);
    let reader = LogReader::open(dir);
    if !follow {
        // A directory that is no log is an error, not an empty log.
        reader.checkpoint().with_context(|| format!("cannot read the log `{}`", dir.display()))?;
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let mut entries = reader.entries(from, extent);
    let mut left = count;
    while left > 0 {
        match entries.next_entry()? {
            Some((_, entry)) => {
                out.write_all(entry)?;
                out.write_all(b"\n")?;
                left -= 1;
            }
            None if follow => {
                out.flush()?;
                std::thread::sleep(POLL_INTERVAL);
            }
            None => break,
        }
    }
    Ok(out.flush()?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn prove(dir: &Path, index: u64, json: bool) -> anyhow::Result<ExitCode> {
    #[derive(Serialize)]
    struct Answer {
        index: u64,
        proof: String,
    }
    let proof = LogReader::open(dir)
        .prove(index)
        .with_context(|| format!("cannot prove entry {index} of the log `{}`", dir.display()))?;
    let proof = proof.to_string();
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{}", serde_json::to_string(&Answer { index, proof })?)?,
        false => out.write_all(proof.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn key(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    #[derive(Serialize)]
    struct Answer<'a> {
        vkey: String,
        name: &'a str,
        sha256: String,
        assurance: &'a str,
    }
    let key = own_key(dir)?;
    let answer = Answer {
        vkey: key.to_string(),
        name: key.name(),
        sha256: fingerprint(&key),
        assurance: SoftwareKey::ASSURANCE,
    };
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{}", serde_json::to_string(&answer)?)?,
        false => writeln!(
            out,
            "{}\nassurance: {} (a file signs, so a copy of the file could; note the line above elsewhere for `log verify --key`)",
            answer.vkey, answer.assurance
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

fn bench(
    dir: &Path,
    entries: u64,
    made: &mut dyn log::bench::Entries,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let rates = log::bench::measure(dir, entries, made)?;
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{}", serde_json::to_string(&rates)?)?,
        false => {
            let (append, verify) = (rates.append_per_s, rates.verify_per_s);
            writeln!(out, "append {append:.0}/s, verify {verify:.0}/s on this machine as busy as it is")?;
            let (append, verify) = (rates.append_per_cpu_s, rates.verify_per_cpu_s);
            writeln!(out, "append {append:.0}, verify {verify:.0} in a second of one core's time")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LogWriter, SystemClock};
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn run_in(dir: &Path, words: &[&str]) -> anyhow::Result<ExitCode> {
        let dir = dir.to_str().expect("a temporary directory");
        let words = [&["log", "--log", dir], words].concat();
        run(Command::try_parse_from(words).expect("these arguments are right").args)
    }

    #[test]
    fn the_exit_status_says_whether_the_log_is_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = SoftwareKey::load_or_generate(dir.path()).expect("a key");
        let vkey = key.public().to_string();
        let (mut writer, _) =
            LogWriter::open(dir.path(), Box::new(key), Box::new(SystemClock::new())).expect("opens");
        writer.append(b"entry").expect("appends");
        writer.checkpoint_now().expect("signs");
        let known = dir.path().join("known");
        std::fs::copy(dir.path().join("checkpoint"), &known).expect("there is room");
        let known = known.to_str().expect("a temporary directory");

        let check = |words: &[&str], expect: ExitCode| {
            assert_eq!(run_in(dir.path(), words).expect("answers"), expect, "{words:?}");
        };
        check(&["verify", "--json"], ExitCode::SUCCESS);
        check(&["verify", "--key", &vkey, "--checkpoint", known], ExitCode::SUCCESS);
        check(&["verify", "--key", dir.path().join(PUBLIC_KEY).to_str().expect("text")], ExitCode::SUCCESS);
        check(&["cat", "--from", "0", "--count", "1"], ExitCode::SUCCESS);
        check(&["prove", "0"], ExitCode::SUCCESS);
        check(&["key", "--json"], ExitCode::SUCCESS);
        std::fs::write(dir.path().join("tile/entries/000.p/1"), b"\0\x05other").expect("there is room");
        check(&["verify"], ExitCode::from(1));
    }

    #[test]
    fn what_cannot_be_answered_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |words: &[&str], expect: &str| {
            let error = format!("{:#}", run_in(dir.path(), words).expect_err("there is no log"));
            assert!(error.contains(expect), "{words:?}: {error}");
        };
        check(&["verify"], "name the log directory with `--log`");
        check(&["verify", "--key", "nonsense"], "neither a public key nor a file");
        check(&["cat"], "this is not a log, or it has not signed anything yet");
        check(&["prove", "0"], "cannot prove entry 0");
        check(&["key"], "there is no log in");
    }
}
