//! Work that leaves a session's tree and is taken into the session again, because the kernel can tell whose it is; and
//! that nothing else is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::attach::Attach;
use super::daemon::{self, Daemon};
use super::session::Entry;
use super::{Group, session, stage, subject};
use crate::guest::group::Report;

const NAME: &str = "adoption";
const SCRIPT: &str = include_str!("adoption.py");
const SCRIPT_PATH: &str = "/usr/lib/adoption.py";
const PYTHON: &str = "/usr/bin/python3";
/// How long a file may take to appear, in the guest's own time.
const PATIENCE: Duration = Duration::from_secs(300);

const POLICY: &str = "version: 1
name: guest
rules:
  - {id: keys, kind: file, paths: [\"/home/dev/.ssh/**\"], reason: Keys are for people}
  - {id: elsewhere, kind: broker, action: adopt, brokers: [at, ptrace, ssh], reason: It stays the session's}
";

/// How reading the key ends.
const READ: &str = "0";
const REFUSED: &str = "1";

const STATED: &str = "the-rules-are-in-force";
const CONNECTION: &str = "connection-by-ipv4";
const CONNECTION6: &str = "connection-by-ipv6";
const MAPPED: &str = "connection-by-mapped-address";
const OUTSIDER: &str = "connection-of-an-outsider-at-the-same-time";
const AFTER: &str = "the-listener-stays-outside";
const WORKER: &str = "a-worker-of-the-server-stays-outside";
const DROPPED: &str = "a-dropped-connection-adopts-nobody";
const JOB: &str = "job";
const OTHER_JOB: &str = "job-of-an-outsider";
const REWRITTEN: &str = "job-that-an-outsider-writes-anew";
const TRACED: &str = "a-traced-process-with-its-threads";
const READ_OUT: &str = "a-process-whose-memory-is-read";
const WRITTEN: &str = "a-process-whose-memory-is-written";
const OPENED: &str = "a-process-whose-memory-is-opened-for-writing";
const TAKEN_FROM: &str = "a-process-whose-descriptor-is-taken";
const LOOKED_AT: &str = "a-process-that-is-looked-at";
const RECORDED: &str = "every-adoption-is-recorded-and-no-other";
const SHOWN: &str = "the-tree-shows-who-was-adopted";

const CASES: [&str; 19] = [
    STATED,
    CONNECTION,
    CONNECTION6,
    MAPPED,
    OUTSIDER,
    AFTER,
    WORKER,
    DROPPED,
    JOB,
    OTHER_JOB,
    REWRITTEN,
    TRACED,
    READ_OUT,
    WRITTEN,
    OPENED,
    TAKEN_FROM,
    LOOKED_AT,
    RECORDED,
    SHOWN,
];

/// What a session does to a process outside, what comes of it when both of that one's threads then read the key, and what
/// it finds done to itself. Reading asks the kernel for as much as writing does, so that it adopts, too.
const BYSTANDERS: [(&str, &str, &str); 6] = [
    (TRACED, "seize", "1 1"),
    (READ_OUT, "read_memory", "1 1"),
    (WRITTEN, "write_memory", "1 1 written"),
    (OPENED, "open_memory", "1 1 opened"),
    (TAKEN_FROM, "take_descriptor", "1 1 taken"),
    (LOOKED_AT, "look", "0 0"),
];

pub(super) const GROUP: Group = Group {
    name: NAME,
    cases: || if adopts() { CASES.map(str::to_owned).into() } else { Vec::new() },
    run,
    needs_sensor: true,
    timeout_s: 1500,
};

/// Whether there is anything to try: in mode `fallback` nobody is adopted, and coverage says so (see `coverage`).
fn adopts() -> bool {
    Attach::of_guest().is_ok_and(Attach::judges_all)
}

fn run(report: &Report) -> Result<()> {
    if !adopts() {
        report.note(NAME, "not in this mode".to_owned());
        return Ok(());
    }
    stage::prepare()?;
    fs::write(SCRIPT_PATH, SCRIPT).context("writing the programs")?;
    let daemon = Daemon::start(NAME, POLICY, Attach::of_guest()?)?;
    let mut servers = Servers::start()?;
    let result = cases(report, &daemon, &mut servers);
    drop(servers);
    drop(daemon);
    daemon::detach_all(NAME)?;
    result
}

fn cases(report: &Report, daemon: &Daemon, servers: &mut Servers) -> Result<()> {
    for path in ["/run/sshd-ready", "/run/sshd-worker", "/run/atd-ready"] {
        servers.explain(wait_for(path))?;
    }
    let mut tell = |case, result| report.case(case, servers.explain(result));
    tell(STATED, stated(daemon));
    tell(CONNECTION, answer(daemon, "127.0.0.1/22", REFUSED));
    tell(CONNECTION6, answer(daemon, "::1/22", REFUSED));
    tell(MAPPED, answer(daemon, "::ffff:127.0.0.1/22", REFUSED));
    tell(OUTSIDER, at_the_same_time(daemon));
    tell(AFTER, outside(&["ask", "127.0.0.1/22"]).and_then(|said| is_answer(&said, READ)));
    tell(WORKER, answer(daemon, "127.0.0.1/2222", READ));
    tell(DROPPED, dropped(daemon));
    tell(JOB, job(daemon, "a0000101aaaaaa", true, REFUSED));
    tell(OTHER_JOB, job(daemon, "a0000201aaaaaa", false, READ));
    tell(REWRITTEN, rewritten(daemon));
    for (case, how, expect) in BYSTANDERS {
        tell(case, bystander(daemon, how, expect));
    }
    let adopted = BYSTANDERS.iter().filter(|(.., expect)| expect.starts_with(REFUSED)).count();
    // Connections of sessions to port 22: three, one beside an outsider's; the dropped one adopts nobody.
    let entries = entries(&[("connection", 4), ("job", 1), ("trace", adopted)]);
    let recorded = entries.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"));
    tell(RECORDED, recorded.and_then(|entries| accesses(entries)));
    tell(SHOWN, entries.and_then(|entries| shown(&entries)));
    Ok(())
}

/// The programs that take up what sessions and others ask for, as long as the group runs.
struct Servers([(&'static str, Child); 2]);

impl Servers {
    fn start() -> Result<Self> {
        Ok(Self([("sshd", server("sshd")?), ("atd", server("atd")?)]))
    }

    /// Says of what went wrong that a server has ended by itself, if one has: who waits for it waits in vain.
    fn explain<T>(&mut self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match self.ended() {
            Some(news) => error.context(news),
            None => error,
        })
    }

    fn ended(&mut self) -> Option<String> {
        self.0.iter_mut().find_map(|(name, server)| {
            let status = server.try_wait().ok().flatten()?;
            Some(format!("`{name}` of this group has ended by itself with {status}"))
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|(_, server)| subject::finish(server));
    }
}

/// Starts this interpreter as the system's program of that name.
fn server(name: &str) -> Result<Child> {
    let path = format!("/usr/sbin/{name}");
    fs::create_dir_all("/usr/sbin").context("creating /usr/sbin")?;
    let python = fs::canonicalize(PYTHON).context("looking for python3")?;
    fs::copy(python, &path).with_context(|| format!("copying {PYTHON} to {path}"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("chmod of {path}"))?;
    let mut command = Command::new(&path);
    command.args([SCRIPT_PATH, name]).env("PYTHONHOME", "/usr").stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().with_context(|| format!("starting {path}"))
}

fn outside(words: &[&str]) -> Result<String> {
    said(Command::new(PYTHON).arg(SCRIPT_PATH).args(words))
}

fn inside(daemon: &Daemon, words: &[&str]) -> Result<String> {
    said(daemon.verb(&["run", "--", PYTHON, SCRIPT_PATH]).args(words))
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = output.context("starting the asking program")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it ended with {}: {}", output.status, errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn is_answer(said: &str, expect: &str) -> Result<()> {
    let answers: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("answer ")).collect();
    ensure!(answers == [expect], "the server's process ended with {answers:?}, expected {expect}");
    Ok(())
}

fn answer(daemon: &Daemon, server: &str, expect: &str) -> Result<()> {
    inside(daemon, &["ask", server]).and_then(|said| is_answer(&said, expect))
}

fn wait_for(path: &str) -> Result<String> {
    subject::wait_for(path, PATIENCE)?;
    // Written by a shell: the text follows the name.
    thread::sleep(Duration::from_millis(200));
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

/// A program outside that says a line and then waits for a file; what it says later follows.
fn waiting(words: &[&str]) -> Result<(Child, BufReader<ChildStdout>, String)> {
    let mut child = Command::new(PYTHON)
        .arg(SCRIPT_PATH)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting a program outside")?;
    let mut said = BufReader::new(child.stdout.take().context("its output")?);
    let mut line = String::new();
    said.read_line(&mut line).context("waiting for its word")?;
    Ok((child, said, line))
}

/// An outsider's connection is there before the session's, and is used after it.
fn at_the_same_time(daemon: &Daemon) -> Result<()> {
    let (mut outsider, mut said, _) = waiting(&["hold", "127.0.0.1", "22", "/run/go-on"])?;
    let adopted = answer(daemon, "127.0.0.1/22", REFUSED);
    fs::write("/run/go-on", "").context("telling the outsider to go on")?;
    let mut line = String::new();
    said.read_line(&mut line).context("reading the outsider's answer")?;
    outsider.wait().context("waiting for the outsider")?;
    adopted?;
    is_answer(&line, READ).context("the outsider")
}

/// The server closes a session's connection and then creates a process for something else.
fn dropped(daemon: &Daemon) -> Result<()> {
    fs::write("/run/sshd-drop", "").context("telling the server to drop")?;
    let asked = inside(daemon, &["ask", "127.0.0.1/22"]);
    let result = wait_for("/run/sshd-dropped");
    fs::remove_file("/run/sshd-drop").context("telling the server to go on")?;
    let result = result.with_context(|| format!("the session said {asked:?}"))?;
    ensure!(result == READ, "the process ended with {result}");
    Ok(())
}

fn job(daemon: &Daemon, name: &str, by_session: bool, expect: &str) -> Result<()> {
    let result = format!("/run/{name}");
    let words = ["at", name, &result, "700"];
    if by_session {
        inside(daemon, &words)?
    } else {
        outside(&words)?
    };
    let found = wait_for(&result)?;
    ensure!(found == expect, "the job's program ended with {found}, expected {expect}");
    Ok(())
}

/// A job of the session that somebody else opens for writing before it runs is no longer the session's alone.
fn rewritten(daemon: &Daemon) -> Result<()> {
    let name = "a0000301aaaaaa";
    inside(daemon, &["at", name, "/run/rewritten", "600"])?;
    outside(&["rewrite", name, "700"])?;
    let found = wait_for("/run/rewritten")?;
    ensure!(found == READ, "the job's program ended with {found}");
    Ok(())
}

fn bystander(daemon: &Daemon, how: &str, expect: &str) -> Result<()> {
    let (go, result) = (format!("/run/{how}-go"), format!("/run/{how}-result"));
    let (mut process, _, ready) = waiting(&["bystander", &go, &result])?;
    let pid = process.id().to_string();
    let places = ready.split_whitespace().skip(1);
    let done = inside(daemon, &[how, &pid].into_iter().chain(places).collect::<Vec<_>>());
    fs::write(&go, "").context("telling the bystander to go on")?;
    let found = wait_for(&result);
    process.wait().context("waiting for the bystander")?;
    let said = done?;
    let found = found?;
    ensure!(found == expect, "the bystander says `{found}`, expected `{expect}`; the session said `{said}`");
    Ok(())
}

fn stated(daemon: &Daemon) -> Result<()> {
    let status = daemon.status()?;
    let rules = status["policy"]["rules"].as_array().context("the status has no rules")?;
    for rule in ["elsewhere/at-files", "elsewhere/ptrace", "elsewhere/ssh"] {
        let found = rules.iter().find(|status| status["rule"] == rule).context("the rule has no status")?;
        ensure!(found["state"] == "enforced", "`{rule}`: {found}");
    }
    Ok(())
}

fn link(entry: &Entry) -> &str {
    entry.field("/action/adopt/link")
}

/// The log, when it has as many adoptions by each link.
fn entries(expect: &[(&str, usize)]) -> Result<Vec<Entry>> {
    let started = Instant::now();
    loop {
        let entries = session::entries_of(&format!("{}/log", daemon::home(NAME)))?;
        let count = |wanted: &str| entries.iter().filter(|entry| link(entry) == wanted).count();
        let found: Vec<(&str, usize)> = expect.iter().map(|(link, _)| (*link, count(link))).collect();
        let refused = entries.iter().any(|adopted| {
            let is_it = |entry: &Entry| entry.verdict() == "deny" && entry.session() == adopted.session();
            link(adopted) == "connection" && entries.iter().any(is_it)
        });
        if found == expect && refused {
            let by_rule = entries.iter().filter(|entry| !link(entry).is_empty());
            let strange = by_rule.filter(|entry| !entry.field("/rule/rule").starts_with("elsewhere/"));
            ensure!(strange.count() == 0, "an adoption is by another rule");
            return Ok(entries);
        }
        if started.elapsed() > Duration::from_secs(60) {
            bail!(
                "adoptions in the log: {found:?}, expected {expect:?}; a denial of an adopted process: {refused}"
            );
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Whoever was adopted by an access is the target of one that the rule is about, of the same session.
fn accesses(entries: &[Entry]) -> Result<()> {
    for adopted in entries.iter().filter(|entry| link(entry) == "trace") {
        let who = adopted.field("/process/key");
        let is_it = |entry: &&Entry| {
            entry.is_by("elsewhere/ptrace")
                && entry.session() == adopted.session()
                && entry.field("/action/trace/target") == who
        };
        let access = entries.iter().find(is_it).with_context(|| format!("no access to process {who}"))?;
        ensure!(access.verdict() == "audit", "the access to process {who} is {}", access.verdict());
    }
    Ok(())
}

fn shown(entries: &[Entry]) -> Result<()> {
    for wanted in ["connection", "job", "trace"] {
        let entry = entries.iter().find(|entry| link(entry) == wanted).context("no such adoption")?;
        let text = session::verb_on(&format!("{}/log", daemon::home(NAME)), &["tree", entry.session()])?;
        ensure!(text.contains(&format!("adopted by {wanted}")), "the tree is {text}");
    }
    Ok(())
}
