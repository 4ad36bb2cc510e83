//! `treeline policy check`.

pub(super) mod host;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use treeline_event::{AttachMode, Level, PolicyPart, RuleState, RuleStatus};
use treeline_policy::{
    Classed, Code, Diagnostics, Host, Loader, MountTable, Policy, Tables, Target, compile,
    compile::Usage,
    diagnostic::{Diagnostic, Report},
    explain::Of,
    lint,
    lint::{Linted, Silenced},
    parse_with,
    policy::{Adoption, Mode, Rule},
    source::{Source, Span},
};

use super::{
    super::output::print_error,
    files::{Below, read},
    homes,
    lower::{Lower, LowerFile, composed},
    now, print_diagnostics,
};
use crate::{
    backend::linux,
    config::ModeChoice,
    daemon::policy::{
        bundle::{Bundle, File, Recorder},
        set::sha256_of,
    },
    view::text::safe,
};

/// Arguments of `treeline policy check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Policies
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    lower: Lower,
    /// Check for an attach mode, whatever this machine offers: a rule in `enforce` that the mode cannot enforce is an error
    #[arg(long, value_enum, value_name = "MODE")]
    mode: Option<ModeChoice>,
    /// Look at this machine, too: patterns that begin with a symbolic link, executables of exceptions that others than root
    /// can write or that have another content, no home
    #[arg(long)]
    host: bool,
    /// Warnings count: exit status 1 when there is one
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `check --json` says of one file.
#[derive(Debug, Default, Serialize)]
struct Checked {
    file: String,
    valid: bool,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    /// Digest of all files, as the log and `status` have it.
    sha256: String,
    /// The policy's own file, and what it includes.
    files: Vec<File>,
    /// It and those that hold together with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PolicyPart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<OfRule>,
    diagnostics: Vec<Report>,
    /// What was found and is silenced in the policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silenced: Vec<Silenced>,
}

/// What is said of one rule.
#[derive(Debug, Serialize)]
struct OfRule {
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adopts: Option<Adoption>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    allows: bool,
    /// Where it is written, of several policies that hold together.
    #[serde(flatten)]
    of: Option<Of>,
    #[serde(flatten)]
    classed: Classed,
    /// What it amounts to in the attach mode that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<RuleStatus>,
}

/// A policy that is in order, and what is said of it.
struct Sound {
    policy: Policy,
    usage: Usage,
    rules: Vec<OfRule>,
    silenced: Vec<Silenced>,
    /// Names of the policies that hold together, that of the organisation first and the others as they were named.
    names: Vec<String>,
}

impl Checked {
    fn unreadable(file: &Path, error: &anyhow::Error) -> Self {
        let file = file.display().to_string();
        Self { file, error: Some(format!("{error:#}")), ..Self::default() }
    }
}

/// Checks policies; with `verbose` it says of each rule where it is decided.
pub(super) fn run(args: &Args, verbose: bool, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if !args.lower.is_empty() && args.files.len() > 1 {
        bail!("`--team` and `--local` hold together with one policy: name one FILE");
    }
    let host = Host { homes: homes() };
    let mut checked = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let source = match read(file) {
            Ok(source) => source,
            // The others are checked all the same.
            Err(error) => {
                print_error(&error);
                checked.push(Checked::unreadable(file, &error));
                continue;
            }
        };
        let recorder = Recorder::new(Below::directory_of(file));
        let lower = args.lower.read(Some(now()))?;
        let bundles: Vec<_> = lower.iter().map(|one| (one.level, one.bundle.sha256())).collect();
        let result = check(args, &host, (source.clone(), &recorder), lower);
        let bundle = Bundle::of(file, source.text(), recorder);
        let parts = result.as_ref().map_or_else(|_| Vec::new(), |sound| parts(sound, &bundle, bundles));
        let name = file.display().to_string();
        if !args.json {
            report(&safe(&name), &result, host.homes.len(), out)?;
            if verbose {
                print_files(&bundle, &parts, out)?;
            }
            if let (Ok(sound), true) = (&result, verbose) {
                print_rules(&sound.rules, out)?;
                print_silenced(&sound.silenced, out)?;
            }
        }
        checked.push(checked_one(name, &bundle, parts, result));
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &checked).context("cannot write to standard output")?;
        writeln!(out)?;
    }
    let is_good = |one: &Checked| one.valid && (!args.strict || one.diagnostics.is_empty());
    Ok(if checked.iter().any(|one| one.error.is_some()) {
        ExitCode::from(2)
    } else if checked.iter().all(is_good) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Reads a policy, compiles it, and looks for what is likely not meant.
fn check(
    args: &Args,
    host: &Host,
    (source, loader): (Source, &dyn Loader),
    lower: Vec<LowerFile>,
) -> Result<Sound, Diagnostics> {
    let now = now();
    let own = parse_with(loader, source, Some(now))?;
    let name_of = |one: &LowerFile| one.name().map(str::to_owned);
    let names = [Some(own.name.clone())].into_iter().chain(lower.iter().map(name_of)).flatten().collect();
    let mut policy = composed(own, lower)?.at(now);
    // Where things are mounted changes little; who has a home changes how much room the patterns take.
    let target = Target { seed: 0, generation: 1, slot: 0 };
    let tables = compile(&policy, host, &MountTable::single(1), target)?;
    warn_of_ways(&mut policy, &tables);
    let rules = rules(&policy, args.mode.map(AttachMode::from))?;
    let mut lints = lint(&policy, Some(now));
    if args.host {
        host::look(&mut lints, host);
    }
    let Linted { found, silenced } = lints.finish();
    policy.warnings = found;
    Ok(Sound { policy, usage: tables.usage(), rules, silenced, names })
}

/// The policies that hold together, in their order; none where there is one only.
fn parts(sound: &Sound, own: &Bundle, lower: Vec<(Level, String)>) -> Vec<PolicyPart> {
    if lower.is_empty() {
        return Vec::new();
    }
    let all = [(Level::Organisation, own.sha256())].into_iter().chain(lower).zip(&sound.names);
    let part = |((level, sha256), name): ((Level, String), &String)| PolicyPart {
        name: name.clone(),
        level,
        sha256,
        revision: None,
        signed_by: None,
    };
    let mut parts: Vec<PolicyPart> = all.map(part).collect();
    parts.sort_by(|left, right| (right.level, &left.name).cmp(&(left.level, &right.name)));
    parts
}

fn checked_one(
    file: String,
    bundle: &Bundle,
    parts: Vec<PolicyPart>,
    result: Result<Sound, Diagnostics>,
) -> Checked {
    let sha256 = if parts.is_empty() { bundle.sha256() } else { sha256_of(&parts) };
    let files = bundle.files();
    match result {
        Ok(Sound { policy, usage, rules, silenced, .. }) => Checked {
            file,
            valid: true,
            error: None,
            diagnostics: policy.warnings.reports().collect(),
            policy: Some(policy.name),
            sha256,
            files,
            parts,
            usage: Some(usage),
            rules,
            silenced,
        },
        Err(diagnostics) => Checked {
            file,
            sha256,
            files,
            diagnostics: diagnostics.reports().collect(),
            ..Checked::default()
        },
    }
}

/// What is said of each rule, in the attach mode that was asked for.
///
/// # Errors
/// The mode cannot enforce what is in `enforce`.
fn rules(policy: &Policy, mode: Option<AttachMode>) -> Result<Vec<OfRule>, Diagnostics> {
    let statuses = mode.map(|mode| linux::full_coverage_of(policy, mode));
    if let (Some(mode), Some(statuses)) = (mode, &statuses) {
        refuse_unenforceable(policy, mode, statuses)?;
    }
    let mut statuses = statuses.map(Vec::into_iter);
    let of_rule = |rule: &Rule| OfRule {
        rule: rule.id.clone(),
        mode: (!rule.allows).then_some(rule.mode),
        adopts: rule.adopts,
        allows: rule.allows,
        of: Of::several(policy, rule),
        classed: rule.class(mode.unwrap_or(AttachMode::Lsm)),
        coverage: statuses.as_mut().and_then(Iterator::next),
    };
    Ok(policy.rules.iter().map(of_rule).collect())
}

/// As the daemon does, with the places. The parts of a rule about brokers are one finding.
pub(super) fn refuse_unenforceable(
    policy: &Policy,
    mode: AttachMode,
    statuses: &[RuleStatus],
) -> Result<(), Diagnostics> {
    let mut refused: BTreeMap<Span, (Diagnostic, Vec<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for (rule, status) in
        policy.rules.iter().zip(statuses).filter(|(rule, status)| linux::is_refused(rule, status))
    {
        let new = || (Diagnostic::error(Code::Unenforceable, rule.span, ""), Vec::new(), BTreeSet::new());
        let (found, ids, reasons) = refused.entry(rule.span).or_insert_with(new);
        ids.push(&rule.id);
        reasons.extend(status.reason.as_deref());
        let everywhere = rule.kind.globs().iter().filter(|glob| glob.value.is_everywhere());
        for glob in everywhere.filter(|_| mode == AttachMode::Fallback && !rule.id.contains('/')) {
            *found = found.clone().label(glob.span, "this pattern holds everywhere");
        }
    }
    let mut out = Diagnostics::new(policy.sources.clone());
    for (found, ids, reasons) in refused.into_values() {
        let ids: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        let message = format!("attach mode {mode} cannot enforce {}: {}", ids.join(", "), reasons.join("; "));
        let mend =
            if ids.iter().all(|id| id.starts_with("`default/")) { "action: record" } else { "mode: monitor" };
        let help = format!("set it to `{mend}`, or have it observed only by `--unenforceable observe`");
        out.push(Diagnostic { message, ..found }.help(help));
    }
    if out.is_empty() { Ok(()) } else { Err(out) }
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
    result: &Result<Sound, Diagnostics>,
    homes: usize,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match result {
        Ok(Sound { policy, usage, .. }) => {
            print_diagnostics(&policy.warnings);
            let adopt = policy.rules.iter().filter(|rule| rule.adopts.is_some()).count();
            let adopt = if adopt == 0 { String::new() } else { format!(", {adopt} of them adopt") };
            let enforce = policy.rules.iter().filter(|rule| rule.mode == Mode::Enforce).count();
            let allow = policy.rules.iter().filter(|rule| rule.allows).count();
            let monitor = policy.rules.len() - enforce - allow;
            let allow = if allow == 0 { String::new() } else { format!(", {allow} allow") };
            writeln!(
                out,
                "{name}: valid; policy `{}`, {} rules ({enforce} enforce, {monitor} monitor{adopt}{allow}), {} of {} words, {} of {} tree entries, {} of {} names for {homes} homes",
                policy.name,
                policy.rules.len(),
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

/// The policy's digest, and that of each of its files.
fn print_files(bundle: &Bundle, parts: &[PolicyPart], out: &mut dyn Write) -> anyhow::Result<()> {
    if !parts.is_empty() {
        writeln!(out, "  SHA-256 {}", sha256_of(parts))?;
        for PolicyPart { level, name, sha256, .. } in parts {
            writeln!(out, "  {sha256}  {} {name}", level.name())?;
        }
        return Ok(());
    }
    writeln!(out, "  SHA-256 {}", bundle.sha256())?;
    let files = bundle.files();
    // Of one file it is the same.
    for File { path, sha256 } in files.iter().filter(|_| files.len() > 1) {
        writeln!(out, "  {sha256}  {}", safe(path))?;
    }
    Ok(())
}

/// A line for each finding that the policy keeps quiet.
fn print_silenced(silenced: &[Silenced], out: &mut dyn Write) -> anyhow::Result<()> {
    for Silenced { rule, code, reason } in silenced {
        let of = rule.as_ref().map_or_else(String::new, |rule| format!(" of `{rule}`"));
        writeln!(out, "  silenced: {}{of}: {}", code.name(), safe(reason))?;
    }
    Ok(())
}

/// A line for each rule: where it is decided, and what it amounts to in the mode that was asked for.
fn print_rules(rules: &[OfRule], out: &mut dyn Write) -> anyhow::Result<()> {
    let width = rules.iter().map(|rule| rule.rule.len()).max().unwrap_or(0);
    for OfRule { rule, mode, adopts, allows, of, classed, coverage } in rules {
        let mode = match (mode, adopts) {
            _ if *allows => "allow  ",
            (_, Some(_)) => "adopt  ",
            (Some(Mode::Monitor) | None, None) => "monitor",
            (Some(Mode::Enforce), None) => "enforce",
        };
        let of = of.as_ref().map_or_else(String::new, |of| format!("{:12}  ", of.level.name()));
        write!(out, "  {rule:width$}  {of}{mode}  {}", classed.class)?;
        if !classed.why.is_empty() {
            write!(out, ": {}", classed.why.join("; "))?;
        }
        if let Some(RuleStatus { state, reason, .. }) = coverage {
            write!(out, "  [{}", state_name(*state))?;
            reason.as_ref().map_or(Ok(()), |reason| write!(out, ": {reason}"))?;
            write!(out, "]")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn state_name(state: RuleState) -> &'static str {
    match state {
        RuleState::Enforced => "enforced",
        RuleState::Partly => "partly enforced",
        RuleState::Observed => "observed",
        RuleState::Impossible => "impossible",
        RuleState::Allows => "allows",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sha2::Digest as _;

    use super::*;
    use crate::daemon::policy::signature::Trust;

    const VALID: &str =
        "version: 1\nname: t\nrules:\n  - {id: keys, kind: file, paths: [~/.ssh/**], reason: keys}\n";

    fn args(file: &Path, json: bool) -> Args {
        Args {
            files: vec![file.to_owned()],
            lower: Lower::default(),
            mode: None,
            host: false,
            strict: false,
            json,
        }
    }

    #[test]
    fn what_a_mode_cannot_enforce_is_an_error_with_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("p.yaml");
        let rules = "  - {id: env, kind: file, operations: [read], paths: [\"**/.env\", /x], reason: r}
  - {id: others, kind: broker, brokers: [ptrace, tmux], reason: r}
  - {id: web, kind: connect, to: [10.0.0.1], reason: r}
";
        std::fs::write(&file, format!("version: 1\nname: t\nrules:\n{rules}")).expect("a file");
        let check = |mode: ModeChoice| {
            let mut out = Vec::new();
            let args = Args { mode: Some(mode), ..args(&file, true) };
            let code = run(&args, false, &mut out).expect("a readable file");
            (code, serde_json::from_slice::<serde_json::Value>(&out).expect("JSON")[0].clone())
        };
        for mode in [ModeChoice::Lsm, ModeChoice::FmodRet] {
            let (code, json) = check(mode);
            assert_eq!(code, ExitCode::SUCCESS, "{json}");
            assert_eq!(json["rules"][0]["class"], "kernel");
            assert_eq!(json["rules"][0]["coverage"]["state"], "enforced");
        }
        let (code, json) = check(ModeChoice::Fallback);
        assert_eq!(code, ExitCode::FAILURE);
        let found: Vec<_> = json["diagnostics"].as_array().expect("a list").iter().collect();
        let [env, others] = found.as_slice() else { panic!("{json}") };
        assert_eq!((&env["code"], &env["line"]), (&"unenforceable".into(), &4.into()));
        assert_eq!(env["related"].as_array().map(Vec::len), Some(1), "{env}");
        assert_eq!(env["related"][0]["message"], "this pattern holds everywhere");
        assert_eq!(others["line"], 5);
        let message = others["message"].as_str().expect("words");
        assert!(message.contains("cannot enforce `others/ptrace`, `others/tmux`: "), "{message}");
    }

    #[test]
    fn rules_and_where_they_are_decided() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("p.yaml");
        std::fs::write(&file, VALID).expect("a file");
        let check = |mode: Option<ModeChoice>, expect: &str| {
            let mut out = Vec::new();
            run(&Args { mode, ..args(&file, false) }, true, &mut out).expect("a readable file");
            let out = String::from_utf8(out).expect("text");
            assert!(out.ends_with(expect), "{out}");
        };
        check(None, "\n  keys  enforce  kernel\n");
        check(Some(ModeChoice::Lsm), "\n  keys  enforce  kernel  [enforced]\n");
        check(
            Some(ModeChoice::Fallback),
            "names are seen when the system call returns; permission events come with opens only]\n",
        );
    }

    fn check_text(text: &[u8], json: bool) -> anyhow::Result<(ExitCode, String)> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        let mut out = Vec::new();
        let code = run(&args(file.path(), json), false, &mut out)?;
        let out = String::from_utf8(out)?;
        Ok((code, out.replace(&file.path().display().to_string(), "FILE")))
    }

    #[test]
    fn a_name_does_not_act_on_the_terminal() {
        let dir = tempfile::tempdir().expect("a directory");
        for (text, expect) in [(VALID, ": valid;"), ("a: [", ": not valid")] {
            let file = dir.path().join("\u{1b}[2J.yaml");
            std::fs::write(&file, text).expect("a file");
            let mut out = Vec::new();
            run(&args(&file, false), false, &mut out).expect("a readable file");
            let out = String::from_utf8(out).expect("text");
            assert!(out.contains(&format!("/\\u{{1b}}[2J.yaml{expect}")), "{out:?}");
        }
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
    fn what_allows_is_not_said_to_record() {
        let text = "version: 1\nname: t\ndefaults: {tool: {action: record, reason: r}}\nrules: [{id: a, kind: tool, action: allow, tools: [Read], reason: r}]\n";
        let (_, out) = check_text(text.as_bytes(), false).expect("a readable file");
        assert!(out.contains("2 rules (0 enforce, 1 monitor, 1 allow)"), "{out}");
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
            let code = run(&args(&policy, true), false, &mut out).expect("a readable file");
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
    fn warnings_count_if_that_is_asked_for() {
        let check = |operations: &str, strict: bool, expect: ExitCode| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            let text = VALID.replace("paths:", &format!("operations: [{operations}], paths:"));
            std::fs::write(file.path(), text).expect("a file");
            let mut out = Vec::new();
            let args = Args { strict, ..args(file.path(), true) };
            assert_eq!(run(&args, false, &mut out).expect("a readable file"), expect);
            let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            assert_eq!(json[0]["valid"], true);
            json[0]["diagnostics"][0]["code"].clone()
        };
        assert_eq!(check("read", false, ExitCode::SUCCESS), "renamed-away");
        assert_eq!(check("read", true, ExitCode::FAILURE), "renamed-away");
        assert_eq!(check("read, rename", true, ExitCode::SUCCESS), serde_json::Value::Null);
    }

    #[test]
    fn what_is_silenced_is_listed() {
        let silence = "silence: {renamed-away: it may be moved}, operations: [read], paths:";
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), VALID.replace("paths:", silence)).expect("a file");
        let checked = |json: bool| {
            let mut out = Vec::new();
            let args = Args { strict: true, ..args(file.path(), json) };
            assert_eq!(run(&args, true, &mut out).expect("a readable file"), ExitCode::SUCCESS);
            String::from_utf8(out).expect("text")
        };
        let text = checked(false);
        assert!(text.ends_with("\n  silenced: renamed-away of `keys`: it may be moved\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&checked(true)).expect("JSON");
        let expect =
            serde_json::json!([{"rule": "keys", "code": "renamed-away", "reason": "it may be moved"}]);
        assert_eq!(json[0]["silenced"], expect);
    }

    #[test]
    fn the_digest_and_the_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let (policy, part) = (dir.path().join("p.yaml"), dir.path().join("part.yaml"));
        let checked = |json: bool| {
            let mut out = Vec::new();
            run(&args(&policy, json), true, &mut out).expect("a readable file");
            String::from_utf8(out).expect("text")
        };
        std::fs::write(&policy, VALID).expect("a file");
        let digest = hex::encode(sha2::Sha256::digest(VALID));
        let text = checked(false);
        assert_eq!(text.matches(&digest).count(), 1, "{text}");
        let including = VALID.replace("name: t\n", "name: t\ninclude: [part.yaml]\n");
        std::fs::write(&policy, &including).expect("a file");
        std::fs::write(&part, "version: 1\n").expect("a file");
        let json: serde_json::Value = serde_json::from_str(&checked(true)).expect("JSON");
        let file = |path: &str, text: &str| serde_json::json!({"path": path, "sha256": hex::encode(sha2::Sha256::digest(text))});
        assert_eq!(
            json[0]["files"],
            serde_json::json!([file("p.yaml", &including), file("part.yaml", "version: 1\n")])
        );
        let loaded = crate::daemon::policy::load(&policy, &Trust::default()).expect("a good policy");
        assert_eq!(json[0]["sha256"], loaded.sha256);
        assert!(checked(false).contains(&format!("  SHA-256 {}\n", loaded.sha256)));
        // What is wrong with it does not change what it is.
        std::fs::write(&part, "version: 1\nrules: 1\n").expect("a file");
        let json: serde_json::Value = serde_json::from_str(&checked(true)).expect("JSON");
        assert_eq!(json[0]["files"].as_array().map(Vec::len), Some(2), "{json}");
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
        let dir = tempfile::tempdir().expect("a directory");
        let text = dir.path().join("p.yaml");
        std::fs::write(&text, b"name: \xff").expect("a file");
        for (file, words) in [(Path::new("/nonexistent/p.yaml"), "No such file"), (&text, "byte 6")] {
            let mut out = Vec::new();
            let code = run(&args(file, true), false, &mut out).expect("it is told");
            assert_eq!(code, ExitCode::from(2));
            let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            let error = json[0]["error"].as_str().expect("an error");
            assert!(error.contains(&file.display().to_string()) && error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_policy_that_is_too_long_is_invalid() {
        let (code, _) = check_text("ä".repeat(1 << 20).as_bytes(), false).expect("a readable file");
        assert_eq!(code, ExitCode::FAILURE);
    }
}
