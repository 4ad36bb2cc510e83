//! `treeline policy`: check a policy, explain its decisions, and replay it over what was recorded.

mod explain;
mod files;
mod replay;

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde::Serialize;
use treeline_policy::{
    Code, Diagnostics, Home, Host, Moment, MountTable, Policy, Tables, Target, compile, compile::Usage,
    diagnostic::Report, parse_with, policy::Mode,
};

use self::files::{Below, read};
use super::{Globals, entries::Asked};
use crate::daemon::homes::Homes;

/// Arguments of `treeline policy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Check policies: syntax, meaning, and whether the kernel's tables can hold them
    ///
    /// What a policy includes is read, too. Exit status: 0 when all are valid, 1 when one is not, 2 when one cannot be read.
    Check {
        /// Policies
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say what a policy decides for one operation, and how each rule came into it
    ///
    /// Or for an event, as the daemon or a log directory has it. Exit status: 0 for allow and audit, 1 for deny, 2 when the
    /// question or the policy is not valid.
    Explain(Box<Asked<explain::Args>>),
    /// Say what a policy would have decided in recorded sessions, by rule, and what of that the log cannot tell
    ///
    /// Reads what the daemon has, as far as you may see it, or a log directory. Exit status: 0 when nothing would be denied,
    /// 1 when something would, 2 when the policy is not valid or the entries cannot be read.
    Replay(Asked<replay::Args>),
}

/// Runs `treeline policy`.
///
/// # Errors
/// A file that cannot be read, a question that makes no sense, an output that cannot be written: exit status 2.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let code = match args.verb {
        Verb::Check { files, json } => check(&files, json, &mut out)?,
        Verb::Explain(asked) if asked.args().event.is_some() => {
            drop(out);
            return asked.run(globals, |_| false, |args, source, out| explain::run_event(args, source, out));
        }
        Verb::Explain(asked) => explain::run(asked.args(), &mut out)?,
        Verb::Replay(asked) => {
            drop(out);
            return asked.run(globals, |_| false, |args, source, out| replay::run(args, source, out));
        }
    };
    out.flush().context("cannot write to standard output")?;
    Ok(code)
}

/// A policy that is valid, with those of its rules that have expired. What is wrong with another one is printed.
///
/// # Errors
/// It cannot be read, or is not valid.
fn valid(file: &Path) -> anyhow::Result<Policy> {
    parse_with(&Below::directory_of(file), read(file)?, None).map_err(|diagnostics| {
        print_diagnostics(&diagnostics);
        anyhow::anyhow!("`{}` is not a valid policy; `treeline policy check` says why", file.display())
    })
}

/// What `check --json` says of one file.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    diagnostics: Vec<Report>,
}

fn check(files: &[PathBuf], json: bool, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let host = Host { homes: homes() };
    let mut checked = Vec::with_capacity(files.len());
    for file in files {
        let name = file.display().to_string();
        let now = now();
        let result = parse_with(&Below::directory_of(file), read(file)?, Some(now)).and_then(|policy| {
            let mut policy = policy.at(now);
            // Where things are mounted changes little; who has a home changes how much room the patterns take.
            let target = Target { seed: 0, generation: 1, slot: 0 };
            let tables = compile(&policy, &host, &MountTable::single(1), target)?;
            warn_of_ways(&mut policy, &tables);
            Ok((policy, tables.usage()))
        });
        if !json {
            report(&name, &result, host.homes.len(), out)?;
        }
        checked.push(match result {
            Ok((policy, usage)) => Checked {
                file: name,
                valid: true,
                diagnostics: policy.warnings.reports().collect(),
                policy: Some(policy.name),
                usage: Some(usage),
            },
            Err(diagnostics) => Checked {
                file: name,
                valid: false,
                policy: None,
                usage: None,
                diagnostics: diagnostics.reports().collect(),
            },
        });
    }
    if json {
        serde_json::to_writer_pretty(&mut *out, &checked).context("cannot write to standard output")?;
        writeln!(out)?;
    }
    Ok(if checked.iter().all(|one| one.valid) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Names the rules whose directories can be renamed out of their reach for want of room.
fn warn_of_ways(policy: &mut Policy, tables: &Tables) {
    for index in &tables.ways_left_out {
        let rule = &policy.rules[*index as usize];
        let message = format!(
            "the policy fills the matcher: a directory that a pattern of `{}` names by `*` can be renamed out of its reach",
            rule.id
        );
        let help =
            "fewer patterns that differ before a `*`, or rules that have theirs in common, leave room for it";
        policy.warnings.warning(Code::OpenWay, rule.span, message, Some(help.to_owned()));
    }
}

/// One line for a valid policy; diagnostics go to standard error.
fn report(
    name: &str,
    result: &Result<(Policy, Usage), Diagnostics>,
    homes: usize,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match result {
        Ok((policy, usage)) => {
            print_diagnostics(&policy.warnings);
            let adopt = policy.rules.iter().filter(|rule| rule.adopts.is_some()).count();
            let adopt = if adopt == 0 { String::new() } else { format!(", {adopt} of them adopt") };
            let enforce = policy.rules.iter().filter(|rule| rule.mode == Mode::Enforce).count();
            writeln!(
                out,
                "{name}: valid; policy `{}`, {} rules ({enforce} enforce, {} monitor{adopt}), {} of {} words, {} of {} tree entries, {} of {} names for {homes} homes",
                policy.name,
                policy.rules.len(),
                policy.rules.len() - enforce,
                usage.words,
                treeline_abi::paths::WORDS,
                usage.edges,
                treeline_abi::paths::EDGES_MAX,
                usage.names,
                treeline_abi::paths::NAMES_MAX,
            )?;
        }
        Err(diagnostics) => {
            print_diagnostics(diagnostics);
            writeln!(out, "{name}: not valid")?;
        }
    }
    Ok(())
}

fn print_diagnostics(diagnostics: &Diagnostics) {
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    eprint!("{}", diagnostics.render(colour));
}

/// The time of the machine's clock.
fn now() -> Moment {
    // A clock before 1970 is wrong; by it nothing has expired.
    Moment(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// The homes that `~/` stands for: of root and of people, as /etc/passwd lists them, and of who asks.
fn homes() -> Vec<Home> {
    let mut homes = Homes::of_this_machine();
    homes.learn(uzers::get_current_uid());
    let home = |(uid, path): (u32, PathBuf)| Home { uid, path: path.into_os_string().into_encoded_bytes() };
    homes.list().into_iter().map(home).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str =
        "version: 1\nname: t\nrules:\n  - {id: keys, kind: file, paths: [~/.ssh/**], reason: keys}\n";

    fn check_text(text: &[u8], json: bool) -> anyhow::Result<(ExitCode, String)> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        let mut out = Vec::new();
        let code = check(&[file.path().to_path_buf()], json, &mut out)?;
        let out = String::from_utf8(out)?;
        Ok((code, out.replace(&file.path().display().to_string(), "FILE")))
    }

    #[test]
    fn a_valid_policy() {
        let (code, out) = check_text(VALID.as_bytes(), false).expect("a readable file");
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(
            out.starts_with("FILE: valid; policy `t`, 1 rules (1 enforce, 0 monitor), 0 of 16 words, "),
            "{out}"
        );
    }

    #[test]
    fn what_is_wrong_with_an_included_file_is_said_of_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (policy, part) = (dir.path().join("p.yaml"), dir.path().join("part.yaml"));
        let rules = VALID.split_once("rules:").expect("rules").1;
        std::fs::write(&policy, format!("version: 1\nname: t\ninclude: [part.yaml]\nrules:{rules}"))
            .expect("a file");
        let check_part = |text: &str| {
            std::fs::write(&part, text).expect("a file");
            let mut out = Vec::new();
            let code = check(std::slice::from_ref(&policy), true, &mut out).expect("a readable file");
            let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            (code, json[0]["diagnostics"][0].clone())
        };
        assert_eq!(check_part("version: 1\n"), (ExitCode::SUCCESS, serde_json::Value::Null));
        let (code, found) = check_part(&format!("version: 1\nrules:{rules}"));
        assert_eq!((code, &found["code"]), (ExitCode::FAILURE, &"duplicate-id".into()));
        assert_eq!((&found["file"], &found["line"]), (&part.display().to_string().into(), &3.into()));
        let first = &found["related"][0];
        assert_eq!((&first["file"], &first["line"]), (&policy.display().to_string().into(), &5.into()));
        assert_eq!(first["message"], "the first one is here");
    }

    #[test]
    fn what_has_expired_is_not_compiled() {
        let rule = |id, more: &str| {
            format!("  - {{id: {id}, kind: exec, sha256: [\"{}\"], reason: r{more}}}\n", "1".repeat(64))
        };
        let check = |more: &str, expect: ExitCode, part: &str| {
            let text = format!("version: 1\nname: t\nrules:\n{}{}", rule("new", ""), rule("old", more));
            let (code, out) = check_text(text.as_bytes(), true).expect("a readable file");
            assert_eq!(code, expect, "{out}");
            assert!(out.contains(part), "{out}");
        };
        check("", ExitCode::FAILURE, "\"code\": \"duplicate-content\"");
        check(", expires: 1999-12-31", ExitCode::SUCCESS, "\"code\": \"expired\"");
    }

    #[test]
    fn a_rule_whose_directories_have_no_room_is_named() {
        let rule = |index| {
            format!("  - {{id: r-{index:03}, kind: file, paths: [\"/a-{index}/*/b/**\"], reason: r}}\n")
        };
        let check = |rules: usize, expect: &[&str]| {
            let rules: String = (0..rules).map(rule).collect();
            let text = format!("version: 1\nname: t\nrules:\n{rules}");
            let (code, out) = check_text(text.as_bytes(), true).expect("a readable file");
            assert_eq!(code, ExitCode::SUCCESS);
            let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
            let found = json[0]["diagnostics"].as_array().expect("diagnostics");
            let named = |one: &&serde_json::Value, id: &str| {
                one["message"].as_str().is_some_and(|text| text.contains(&format!("`{id}` names by `*`")))
            };
            assert_eq!(found.len(), expect.len(), "{out}");
            assert!(expect.iter().all(|id| found.iter().any(|one| named(&one, id))), "{out}");
            assert!(found.iter().all(|one| one["code"] == "open-way"), "{out}");
        };
        check(336, &[]);
        check(338, &["r-336", "r-337"]);
    }

    #[test]
    fn an_invalid_policy_as_json() {
        let text = VALID.replace("paths:", "pathes:");
        let (code, out) = check_text(text.as_bytes(), true).expect("a readable file");
        assert_eq!(code, ExitCode::FAILURE);
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(json[0]["valid"], false);
        let diagnostic = json[0]["diagnostics"].as_array().and_then(|all| {
            all.iter().find(|one| one["message"].as_str().is_some_and(|text| text.contains("`pathes`")))
        });
        let diagnostic = diagnostic.expect("a diagnostic for the key");
        assert_eq!((&diagnostic["line"], &diagnostic["column"]), (&4.into(), &28.into()));
        assert_eq!(diagnostic["help"], "did you mean `paths`?");
        assert_eq!((&diagnostic["level"], &diagnostic["code"]), (&"error".into(), &"unknown-key".into()));
    }

    #[test]
    fn what_cannot_be_read_names_the_file() {
        let error =
            check(&[PathBuf::from("/nonexistent/p.yaml")], false, &mut Vec::new()).expect_err("no such file");
        assert!(error.to_string().contains("`/nonexistent/p.yaml`"), "{error}");
        let error = check_text(b"name: \xff", false).expect_err("not UTF-8");
        assert!(error.to_string().contains("byte 6"), "{error}");
    }

    #[test]
    fn a_policy_that_is_too_long_is_invalid() {
        let (code, _) = check_text("ä".repeat(1 << 20).as_bytes(), false).expect("a readable file");
        assert_eq!(code, ExitCode::FAILURE);
    }
}
