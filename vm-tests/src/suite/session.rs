//! One session of the sensor under test, and what its log says afterwards.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use treeline_vm_tests::{Hook, Started};

use super::attach::Attach;
use super::cases::interpreters;
use super::stage;
use crate::act::{self, Tried};

pub(crate) const TREELINE: &str = "/usr/bin/treeline";
const POLICY_PATH: &str = "/etc/treeline-guest/policy.yaml";
/// What the sensor and the subjects said, beyond results.
const ERRORS: &str = "/tmp/session.stderr";

/// Whether the policy of a session refuses or only records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Enforce,
    Monitor,
}

impl Mode {
    /// The word of the policy language.
    fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
        }
    }

    /// The verdict of a rule that matches.
    pub(crate) fn verdict(self) -> &'static str {
        match self {
            Self::Enforce => "deny",
            Self::Monitor => "audit",
        }
    }

    /// The log of such a session.
    fn log(self) -> String {
        format!("/var/lib/treeline-guest-{}", self.word())
    }
}

/// Writes the policy of a session in `mode` and returns its path.
pub(crate) fn write_policy(mode: Mode) -> Result<&'static str> {
    let policy = [stage::policy(mode.word()).as_str(), interpreters::RULES].concat();
    fs::write(POLICY_PATH, policy).with_context(|| format!("writing {POLICY_PATH}"))?;
    Ok(POLICY_PATH)
}

/// A session that runs.
pub(crate) struct Session {
    child: Child,
}

impl Session {
    /// Starts `command` under `treeline run --standalone`.
    pub(crate) fn start(mode: Mode, attach: Attach, command: &[&str]) -> Result<Self> {
        let policy = write_policy(mode)?;
        let errors = fs::File::create(ERRORS).with_context(|| format!("creating {ERRORS}"))?;
        let child = Command::new(TREELINE)
            .args(["run", "--standalone", "--policy", policy, "--log", &mode.log()])
            .args(attach.asked().iter().flat_map(|mode| ["--mode", mode]))
            // What mode `fallback` cannot refuse, it records.
            .args((!attach.judges_all()).then_some("--unenforceable=observe"))
            .arg("--")
            .args(command)
            .env("TREELINE_LOG_FILTER", "warn,treeline::start=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {TREELINE}"))?;
        Ok(Self { child })
    }

    /// Collects the subject's results; `at_first` runs when the first is there, so while the session lasts.
    pub(crate) fn results(&mut self, at_first: impl FnOnce()) -> Result<Vec<Tried>> {
        let stdout = self.child.stdout.take().context("the results have been collected")?;
        let mut at_first = Some(at_first);
        let mut tried = Vec::new();
        // Bounded: a subject that prints without end is killed with its group.
        for line in BufReader::new(stdout.take(1 << 20)).lines() {
            let line = line.context("reading the subject's results")?;
            let Some(one) = act::read(&line) else { continue };
            tried.push(one);
            if let Some(at_first) = at_first.take() {
                at_first();
            }
        }
        Ok(tried)
    }

    /// Waits for the end.
    pub(crate) fn end(&mut self) -> Result<ExitStatus> {
        self.child.wait().with_context(|| format!("waiting for {TREELINE}"))
    }
}

/// What the session wrote on its standard error.
pub(crate) fn errors() -> String {
    fs::read_to_string(ERRORS).unwrap_or_default()
}

/// What the sensor says that its start took.
pub(crate) fn started() -> Result<Started> {
    let errors = errors();
    let report = errors.lines().find_map(|line| line.split_once("report=").map(|(_, report)| report));
    let report = report.context("the sensor said nothing about its start")?;
    // It is printed as a quoted string.
    let report: String = serde_json::from_str(report).unwrap_or_else(|_| report.to_owned());
    serde_json::from_str(&report).with_context(|| format!("the sensor said of its start: {report}"))
}

/// Runs another verb on a session's log and returns what it printed.
pub(crate) fn verb(mode: Mode, words: &[&str]) -> Result<String> {
    verb_on(&mode.log(), words)
}

pub(crate) fn verb_on(log: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(TREELINE)
        .args(words)
        .args(["--log", log])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {TREELINE}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("treeline {} ended with {}: {} {}", words.join(" "), output.status, text.trim(), errors.trim());
    }
    Ok(text)
}

/// An entry of the log.
pub(crate) struct Entry {
    text: String,
    value: Value,
}

impl Entry {
    pub(crate) fn field(&self, pointer: &str) -> &str {
        self.value
            .pointer("/unmapped/treeline")
            .and_then(|own| own.pointer(pointer)?.as_str())
            .unwrap_or_default()
    }

    /// What is not OCSF's.
    pub(crate) fn own(&self) -> &Value {
        self.value.pointer("/unmapped/treeline").unwrap_or(&Value::Null)
    }

    pub(crate) fn kind(&self) -> &str {
        self.field("/kind")
    }

    pub(crate) fn session(&self) -> &str {
        self.field("/session")
    }

    pub(crate) fn verdict(&self) -> &str {
        self.field("/verdict")
    }

    /// Whether a rule matched, be it that it refused or that it only recorded.
    pub(crate) fn is_match(&self) -> bool {
        matches!(self.verdict(), "deny" | "audit")
    }

    /// Whether it was this rule.
    pub(crate) fn is_by(&self, rule: &str) -> bool {
        self.field("/rule/rule") == rule
    }

    /// Whether this process is its subject.
    pub(crate) fn is_of_process(&self, pid: u32) -> bool {
        let process = self.value.pointer("/unmapped/treeline/process/key");
        process.is_some_and(|key| key.to_string().trim_matches('"').starts_with(&format!("{pid}:")))
            || process.and_then(|key| key.pointer("/pid")?.as_u64()) == Some(u64::from(pid))
    }

    /// The key of its subject.
    pub(crate) fn process(&self) -> Option<String> {
        self.value.pointer("/unmapped/treeline/process/key").map(Value::to_string)
    }

    /// Whether its subject is, or descends from, the process that tried `case`.
    pub(crate) fn is_of(&self, case: &str) -> bool {
        self.text.contains(&act::mark(case))
    }

    /// The arguments of what its subject runs.
    pub(crate) fn argv(&self) -> Vec<&str> {
        let argv = self.value.pointer("/unmapped/treeline/process/program/argv").and_then(Value::as_array);
        argv.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The hooks of the attach mode, with their states, in an entry of kind `started`.
    pub(crate) fn hooks(&self) -> Result<Vec<Hook>> {
        let hooks =
            find(&self.value, "hooks").and_then(Value::as_array).context("the entry names no hooks")?;
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(hooks.iter().map(|hook| Hook { hook: text(&hook["hook"]), state: text(&hook["state"]) }).collect())
    }

    /// What each rule amounts to, in an entry about a policy that was put in force.
    pub(crate) fn rules(&self) -> Option<&[Value]> {
        let rules = self.value.pointer("/unmapped/treeline/notice/policy_applied/rules")?;
        rules.as_array().map(Vec::as_slice)
    }

    /// How many runs of a program the kernel left out, where the entry says that.
    pub(crate) fn left_out(&self) -> u64 {
        let Some(lost) = self.value.pointer("/unmapped/treeline/notice/lost") else { return 0 };
        if lost["site"] == "recursion" { lost["count"].as_u64().unwrap_or(0) } else { 0 }
    }

    /// The whole entry.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// The first value under this key, however deep.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|inner| find(inner, key))),
        Value::Array(list) => list.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}

/// Every entry of the log, oldest first.
pub(crate) fn entries(mode: Mode) -> Result<Vec<Entry>> {
    entries_of(&mode.log())
}

/// Every entry of the log at a path, oldest first.
pub(crate) fn entries_of(log: &str) -> Result<Vec<Entry>> {
    let entries = entries_with(log, "")?;
    ensure!(!entries.is_empty(), "the log has no entries");
    Ok(entries)
}

/// The entries that have this text in them: of some logs, all would not fit into a guest's memory.
pub(crate) fn entries_with(log: &str, text: &str) -> Result<Vec<Entry>> {
    let mut child = Command::new(TREELINE)
        .args(["log", "cat", "--log", log])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {TREELINE}"))?;
    let stdout = child.stdout.take().context("the output of `log cat` is piped")?;
    let mut entries = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("reading the log")?;
        if line.contains(text) {
            let value = serde_json::from_str(&line).with_context(|| format!("`log cat` printed {line}"))?;
            entries.push(Entry { text: line, value });
        }
    }
    let status = child.wait().context("waiting for `log cat`")?;
    ensure!(status.success(), "`log cat` ended with {status}");
    Ok(entries)
}

/// The SHA-256 of a file, as sha256sum(1) has it.
pub(crate) fn sha256_of(path: &str) -> Result<String> {
    let output = Command::new("/usr/bin/sha256sum").arg(path).output().context("running sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sum = text.split(' ').next().context("sha256sum printed nothing")?;
    ensure!(sum.len() == 64, "sha256sum printed {text}");
    Ok(sum.to_owned())
}

/// Whether the guest has a sensor to test.
pub(crate) fn has_sensor() -> bool {
    Path::new(TREELINE).is_file()
}
