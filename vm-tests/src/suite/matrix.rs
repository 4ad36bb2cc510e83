//! Every alias of a protected file with every operation: what of it is stopped, what recorded, what not seen.
//!
//! Each cell is tried twice, by a Python program that makes system calls which no library has: without the sensor,
//! to know that it works on this kernel at all, and inside a session. The oracle is the result: the content that was
//! had, or the file, its names and its attributes as somebody outside of the session finds them afterwards.

mod cell;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use self::cell::{Cell, Fate};
use super::Group;
use super::attach::{self, Attach};
use super::session::{self, Entry};
use super::stage;
use crate::guest::group::Report;

const PROGRAM: &str = concat!(
    include_str!("matrix/calls.py"),
    include_str!("matrix/aliases.py"),
    include_str!("matrix/operations.py"),
    include_str!("matrix/matrix.py")
);
const PROGRAM_PATH: &str = "/run/matrix.py";
const POLICY_PATH: &str = "/run/matrix.yaml";
/// What the rule about keys protects beside them: on filesystems that only this group mounts, and below directories that
/// it does not name.
const MORE_KEYS: &[&str] = &[
    "/home/disk/keys/**",
    "/home/folding/any-case/keys/**",
    "/home/dev/projects/*/secrets/**",
    "/home/shown/**",
];
/// Behind the one about keys by name, which is to be the first.
const MORE_RULES: &str = "  - id: settings
    kind: file
    paths: [\"/home/disk/settings/**\"]
    operations: [write, create, delete, rename, link]
    reason: What may be read is not to be changed
";
/// The whole policy about programs by path: what opens and renames a file is not refused by it.
const PROGRAMS: &str = "version: 1
name: programs
mode: enforce
rules:
  - id: programs
    kind: exec
    paths: [\"/home/dev/.programs/**\", \"/home/disk/programs/**\", \"/home/folding/any-case/programs/**\",
      \"/home/dev/projects/*/programs/**\", \"/home/shown/**\"]
    reason: What is here is not executed
";
/// A program that must not be executed, by its content, and the beginning of the policy that says so. With such a rule,
/// what is not known is refused, too, and nothing would be known of what those by path do.
const DENIED: &str = "/usr/local/lib/matrix-denied";
const BY_CONTENT: &str = "version: 1
name: content
mode: enforce
rules:
  - id: content
    kind: exec
    reason: This program is not executed anywhere
    sha256: ";
/// The rules about the files of cells.
const RULES: &[&str] = &["content", "keys", "programs", "settings"];
/// What every alias comes to in modes `lsm` and `fmod_ret`, but for known holes.
const STOPPED: &str = "everything-is-stopped";
/// Every cell has to have an outcome.
const OUTCOME: &str = "every-cell-has-an-outcome";
/// The protected file that a command is given as its standard input.
const INHERITED: &str = "/home/dev/.ssh/inherited-descriptor.read";
const INHERITED_ALIAS: &str = "inherited-descriptor";
/// What `treeline run` ends with when it does not start the command.
const NOT_STARTED: i32 = 2;

/// A session in which the kernel left out runs of programs says too little of some cells: they are tried again, in so
/// many sessions, and the one that did the most counts.
const SESSIONS_MAX: usize = 3;

pub(super) const GROUP: Group = Group {
    name: "matrix",
    cases: || [OUTCOME, STOPPED].map(str::to_owned).into(),
    run: |report| {
        let attach = Attach::of_guest()?;
        let fates = run(report, attach)?;
        report.case(OUTCOME, check_outcomes(&fates));
        // In mode `fallback` the document is all that is expected.
        report.case(STOPPED, if attach.judges_all() { check(&fates) } else { Ok(()) });
        Ok(())
    },
    needs_sensor: true,
    timeout_s: 1800,
};

/// A cell that does not work without the sensor says nothing about it, so that has to be known of the kernel.
fn check_outcomes(fates: &BTreeMap<Cell, Fate>) -> Result<()> {
    ensure!(!fates.is_empty(), "there are no cells");
    let release = attach::release();
    ensure!(release > (0, 0), "the kernel's release has no numbers");
    let unknown: Vec<String> = fates
        .iter()
        .filter_map(|(cell, fate)| match fate {
            Fate::NotApplicable(errno) if !cell::is_absent(cell, *errno, release) => Some(format!(
                "{} {}: {}",
                cell.alias,
                cell.operation,
                std::io::Error::from_raw_os_error((*errno).cast_signed())
            )),
            _ => None,
        })
        .collect();
    ensure!(unknown.is_empty(), "without the sensor it does not work either:\n{}", unknown.join("\n"));
    Ok(())
}

fn check(fates: &BTreeMap<Cell, Fate>) -> Result<()> {
    let holes: Vec<String> = fates
        .iter()
        .filter(|(cell, fate)| !cell::is_expected(cell, **fate))
        .map(|(cell, fate)| format!("{} {}: {fate}", cell.alias, cell.operation))
        .collect();
    ensure!(holes.is_empty(), "{}", holes.join("\n"));
    Ok(())
}

fn run(report: &Report, attach: Attach) -> Result<BTreeMap<Cell, Fate>> {
    fs::write(PROGRAM_PATH, PROGRAM).with_context(|| format!("writing {PROGRAM_PATH}"))?;
    python(&["prepare"])?;
    let _server = Server::start()?;
    let free = attempts(python_command("try").stdin(inherited_file()?))?;
    let changed = changed()?;
    let works: BTreeSet<Cell> = free
        .iter()
        .filter(|(cell, tried)| tried.works(cell, &changed))
        .map(|(cell, _)| cell.clone())
        .collect();

    let mut fates: BTreeMap<Cell, Fate> = inherited(attach, &free, &works)?;
    for part in [Part::Files, Part::Programs, Part::Contents] {
        fates.extend(in_sessions(report, attach, part, &free, &works)?);
    }
    for (alias, text) in cell::rows(&fates) {
        report.note(&format!("matrix {} {alias}", attach.word()), text);
    }
    Ok(fates)
}

/// The cells that one policy is for.
#[derive(Clone, Copy)]
enum Part {
    Files,
    Programs,
    Contents,
}

impl Part {
    /// Which cells, as the program is told.
    fn word(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Programs => "programs",
            Self::Contents => "contents",
        }
    }

    fn policy(self) -> Result<String> {
        Ok(match self {
            Self::Files => format!("{}{MORE_RULES}", stage::policy_with_keys("enforce", MORE_KEYS)),
            Self::Programs => PROGRAMS.to_owned(),
            Self::Contents => format!("{BY_CONTENT}[{}]\n", session::sha256_of(DENIED)?),
        })
    }
}

fn in_sessions(
    report: &Report,
    attach: Attach,
    part: Part,
    free: &BTreeMap<Cell, cell::Tried>,
    works: &BTreeSet<Cell>,
) -> Result<BTreeMap<Cell, Fate>> {
    let mut fates: BTreeMap<Cell, Fate> = BTreeMap::new();
    for session in 1..=SESSIONS_MAX {
        let log = format!("/var/lib/treeline-guest-matrix-{}-{session}", part.word());
        let (of_session, left_out) = guarded(report, attach, (part, &log), free, works)?;
        for (cell, fate) in of_session {
            fates.entry(cell).and_modify(|other| *other = fate.min(*other)).or_insert(fate);
        }
        if left_out == 0 {
            break;
        }
        report.note("runs-left-out", format!("{left_out} in session {session}"));
        // More sessions could only better it.
        if fates.iter().all(|(cell, fate)| cell::is_expected(cell, *fate)) {
            break;
        }
    }
    Ok(fates)
}

/// What comes of a command that is given a protected file: it is not started, so that no cell of that alias is tried.
fn inherited(
    attach: Attach,
    free: &BTreeMap<Cell, cell::Tried>,
    works: &BTreeSet<Cell>,
) -> Result<BTreeMap<Cell, Fate>> {
    const LOG: &str = "/var/lib/treeline-guest-matrix-inherited";
    python(&["prepare"])?;
    let output = session_command(attach, Part::Files, LOG)?
        .stdin(inherited_file()?)
        .output()
        .context("starting the subject")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let is_started = !cell::tried(&String::from_utf8_lossy(&output.stdout)).is_empty();
    ensure!(
        output.status.code() == Some(NOT_STARTED) && !is_started,
        "a command with a protected file as its standard input ended with {}: {said}",
        output.status
    );
    ensure!(said.contains(INHERITED), "it does not say which file: {said}");
    let entries = session::entries_of(LOG)?;
    let is_refusal =
        |entry: &Entry| entry.is_by("keys") && entry.verdict() == "deny" && entry.text().contains(INHERITED);
    let refused = if entries.iter().any(is_refusal) { Fate::Stopped } else { Fate::Silent(0) };
    let fate = |(cell, tried): (&Cell, &cell::Tried)| {
        let fate = if works.contains(cell) { refused } else { Fate::NotApplicable(tried.status) };
        (cell.clone(), fate)
    };
    Ok(free.iter().filter(|(cell, _)| cell.alias == INHERITED_ALIAS).map(fate).collect())
}

fn inherited_file() -> Result<File> {
    let mut options = File::options();
    options.read(true).write(true).open(INHERITED).with_context(|| format!("opening {INHERITED}"))
}

/// What came of the cells in a session, and how many runs of programs the kernel left out meanwhile (THREATS.md).
fn guarded(
    report: &Report,
    attach: Attach,
    (part, log): (Part, &str),
    free: &BTreeMap<Cell, cell::Tried>,
    works: &BTreeSet<Cell>,
) -> Result<(BTreeMap<Cell, Fate>, u64)> {
    python(&["prepare"])?;
    let tried = attempts(&mut session_command(attach, part, log)?)?;
    let changed = changed()?;
    let entries = session::entries_of(log)?;
    // Few of many thousands, and each cell looks through them.
    let by_rule: Vec<&Entry> =
        entries.iter().filter(|entry| RULES.iter().any(|rule| entry.is_by(rule))).collect();
    let mut fates = BTreeMap::new();
    for (cell, tried) in tried.iter().filter(|(cell, _)| cell.alias != INHERITED_ALIAS) {
        let fate = if works.contains(cell) {
            fate(cell, tried, &changed, &by_rule)
        } else {
            Fate::NotApplicable(free.get(cell).map_or(0, |free| free.status))
        };
        if attach.judges_all() && !cell::is_expected(cell, fate) {
            report.note(&format!("{} {}", cell.alias, cell.operation), evidence(tried, &entries));
        }
        fates.insert(cell.clone(), fate);
    }
    Ok((fates, entries.iter().map(Entry::left_out).sum()))
}

/// What the log has of a cell's process, and what was lost: for whoever asks why it was not stopped.
fn evidence(tried: &cell::Tried, entries: &[Entry]) -> String {
    let about = entries.iter().filter(|entry| entry.is_of_process(tried.pid) || entry.kind() == "lost");
    let about: Vec<String> = about
        .map(|entry| format!("{} {} {}", entry.kind(), entry.verdict(), entry.field("/rule/rule")))
        .collect();
    format!("process {}: {}", tried.pid, about.join(", "))
}

fn fate(cell: &Cell, tried: &cell::Tried, changed: &BTreeSet<Cell>, by_rule: &[&Entry]) -> Fate {
    let name = format!("{}.{}", cell.alias, cell.operation);
    let of_cell = |entry: &&Entry| entry.is_of_process(tried.pid) || entry.text().contains(&name);
    let about: Vec<&Entry> = by_rule.iter().copied().filter(of_cell).collect();
    if !tried.works(cell, changed) && !changed.contains(cell) {
        return if about.iter().any(|entry| entry.is_match()) {
            Fate::Stopped
        } else {
            Fate::Silent(tried.status)
        };
    }
    if about.is_empty() { Fate::NotSeen } else { Fate::Recorded }
}

fn session_command(attach: Attach, part: Part, log: &str) -> Result<Command> {
    fs::write(POLICY_PATH, part.policy()?).with_context(|| format!("writing {POLICY_PATH}"))?;
    let mut command = Command::new(session::TREELINE);
    command.args(["run", "--standalone", "--policy", POLICY_PATH, "--log", log]);
    command.args(attach.asked().iter().flat_map(|mode| ["--mode", mode]));
    command.args(["--unenforceable", "observe", "--", "/usr/bin/python3", "-I", "-S", PROGRAM_PATH]);
    command.args(["try", part.word()]);
    command.stdin(Stdio::null());
    Ok(command)
}

fn python_command(verb: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-I", "-S", PROGRAM_PATH, verb]).stdin(Stdio::null());
    command
}

fn python(words: &[&str]) -> Result<String> {
    let output = python_command(words[0]).stderr(Stdio::inherit()).output().context("starting python3")?;
    ensure!(output.status.success(), "matrix.py {} ended with {}", words.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn attempts(command: &mut Command) -> Result<BTreeMap<Cell, cell::Tried>> {
    let output = command.stderr(Stdio::inherit()).output().context("starting the subject")?;
    ensure!(output.status.success(), "the subject ended with {}", output.status);
    let tried = cell::tried(&String::from_utf8_lossy(&output.stdout));
    ensure!(!tried.is_empty(), "the subject tried nothing");
    Ok(tried)
}

fn changed() -> Result<BTreeSet<Cell>> {
    Ok(cell::changed(&python(&["check"])?))
}

/// Sends descriptors of protected files and makes new ones, outside of the session.
struct Server(Child);

impl Server {
    fn start() -> Result<Self> {
        let mut child =
            python_command("serve").stdout(Stdio::piped()).spawn().context("starting the server")?;
        let output = child.stdout.take().context("the server's output is piped")?;
        let server = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("waiting for the server")?;
        ensure!(line == "ready\n", "the server said {line:?}");
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the cells then show.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
