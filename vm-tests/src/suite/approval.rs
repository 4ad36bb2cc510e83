//! What somebody has approved of goes through, for that session, program, object and operation, and for that time, whether or
//! not a daemon runs; and nobody approves from inside of a session.

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::attach::Attach;
use super::daemon::{self, Daemon};
use super::lineage::reload;
use super::session::{self, TREELINE};
use super::stage::{self, FORBIDDEN, KEY, KEYS, WORK};
use super::subject::{self, CAN_PAUSE, PAUSE, finish};
use super::{Group, guard::LeftOut};
use crate::guest::group::Report;

const NAME: &str = "approval";
const PATIENCE: Duration = Duration::from_secs(180);

const APPROVED: &str = "what-is-approved-goes-through";
const OTHER_SESSION: &str = "another-session-is-refused";
const OTHER_PROGRAM: &str = "another-program-is-refused";
const OTHER_FILE: &str = "another-file-is-refused";
const OTHER_OPERATION: &str = "another-operation-is-refused";
const EACH_OPERATION: &str = "each-operation-that-is-approved";
const OTHER_RULE: &str = "another-rule-by-a-link-still-refuses";
const OTHER_NAME: &str = "a-file-put-in-its-place-is-refused";
const OTHER_CODE: &str = "other-code-in-the-program-is-refused";
const ADDRESS: &str = "an-address-and-no-other-port";
const EXECUTION: &str = "an-execution";
const NEW_NAME: &str = "a-name-to-be-created-and-no-other";
const SOCKET: &str = "a-socket-by-path";
const ABSTRACT: &str = "a-socket-by-abstract-name";
const RESTARTED: &str = "it-goes-on-under-another-daemon";
const KILLED: &str = "it-goes-on-while-no-daemon-runs";
const EXPIRED: &str = "it-ends-by-itself-while-no-daemon-runs";
const INSIDE: &str = "no-session-approves";
const UNAUTHORISED: &str = "nobody-approves-whom-the-policy-does-not-name";
const POLICY: &str = "it-ends-with-the-policy-that-let-it";
const RECORDED: &str = "the-log-says-all-of-it";

/// What has to be refused for a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Needs {
    Opens,
    Connects,
    /// Everything, with or without a daemon.
    All,
}

impl Needs {
    fn are_met(self, attach: Attach) -> bool {
        match self {
            Self::Opens => true,
            Self::Connects => attach.judges_connects(),
            Self::All => attach.judges_all(),
        }
    }
}

const CASES: [(&str, Needs); 21] = [
    (APPROVED, Needs::Opens),
    (OTHER_SESSION, Needs::Opens),
    (OTHER_PROGRAM, Needs::Opens),
    (OTHER_FILE, Needs::Opens),
    (OTHER_OPERATION, Needs::Opens),
    (EACH_OPERATION, Needs::Opens),
    (OTHER_RULE, Needs::Opens),
    (OTHER_NAME, Needs::Opens),
    (OTHER_CODE, Needs::Opens),
    (ADDRESS, Needs::Connects),
    (EXECUTION, Needs::All),
    (NEW_NAME, Needs::All),
    (SOCKET, Needs::All),
    (ABSTRACT, Needs::All),
    (RESTARTED, Needs::Opens),
    (KILLED, Needs::All),
    (EXPIRED, Needs::All),
    (INSIDE, Needs::Opens),
    (UNAUTHORISED, Needs::Opens),
    (POLICY, Needs::Connects),
    (RECORDED, Needs::Opens),
];

pub(super) const GROUP: Group = Group {
    name: NAME,
    cases: || CASES.map(|(case, _)| case.to_owned()).into(),
    run,
    needs_sensor: true,
    timeout_s: 1800,
};

/// What a shell is to do: whatever it finds in files, and to say whether it went well.
fn serve(name: &str) -> String {
    format!(
        "{CAN_PAUSE} while ! test -e {WORK}/stop; do for go in {WORK}/{name}-*.go; do step=${{go%.go}}; \
        if test -e $go && ! test -e $step.said; then . $go >$step.out 2>&1 && said=done || said=refused; \
        echo $said >$step.tmp; mv $step.tmp $step.said; fi; done; {PAUSE}; done"
    )
}

fn policy(rules_that_can_be: &str) -> String {
    format!(
        "version: 1
name: approval
approvals:
  - {{rules: [{rules_that_can_be}], by: {{users: ['0']}}, for_at_most: 1h}}
  - {{rules: [theirs], by: {{users: ['4711']}}, for_at_most: 1h}}
rules:
  - {{id: keys, kind: file, paths: [\"{KEYS}/**\"], reason: Keys}}
  - {{id: net, kind: connect, to: [127.0.0.9], reason: Not there}}
  - {{id: program, kind: exec, paths: [{FORBIDDEN}], reason: Not that one}}
  - {{id: sockets, kind: connect, unix: [{}, \"@exactly\"], reason: Not those}}
  - {{id: theirs, kind: file, paths: [{}], reason: Of others}}
  - {{id: a-real, kind: file, paths: [\"{REAL}/**\"], operations: [read], reason: Of the place}}
  - {{id: b-alias, kind: file, paths: [\"{ALIAS}/**\"], operations: [read], reason: Of a link to it}}
",
        stage::FORBIDDEN_SOCKET,
        stage::CLOUD
    )
}

const ALL: &str = "keys, net, program, sockets, a-real";

/// A directory, and a symbolic link to it by which a rule is written that nobody may approve of.
const REAL: &str = "/home/dev/real";
const ALIAS: &str = "/home/dev/alias";

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    // A second name would keep it from being approved of.
    fs::remove_file(format!("{WORK}/hard")).context("removing the second name of the key")?;
    stage::listen()?;
    fs::create_dir(REAL)
        .and_then(|()| fs::write(format!("{REAL}/file"), "text"))
        .context("making a place")?;
    std::os::unix::fs::symlink(REAL, ALIAS).context("making a link to it")?;
    let attach = Attach::of_guest()?;
    let result = phases(report, attach);
    fs::write(format!("{WORK}/stop"), "").context("telling the sessions to end")?;
    thread::sleep(Duration::from_secs(3));
    daemon::detach_all(NAME)?;
    result
}

/// A session, and what it was told last.
struct Subject {
    name: &'static str,
    child: Child,
    count: u32,
    session: String,
}

impl Subject {
    fn start(daemon: &Daemon, name: &'static str) -> Result<Self> {
        let mut command = daemon.verb(&["run", "--", "/usr/bin/bash", "-c", &serve(name)]);
        let child = command.stderr(Stdio::null()).spawn().context("starting a session")?;
        let mut subject = Self { name, child, count: 0, session: String::new() };
        ensure!(subject.does("echo $TREELINE_SESSION")?, "the session does not answer");
        subject.session = subject.said()?.trim().to_owned();
        Ok(subject)
    }

    fn does(&mut self, command: &str) -> Result<bool> {
        self.count += 1;
        let step = format!("{WORK}/{}-{}", self.name, self.count);
        fs::write(format!("{step}.new"), command).context("telling the session what to do")?;
        fs::rename(format!("{step}.new"), format!("{step}.go")).context("telling the session to go on")?;
        Ok(subject::answer(&format!("{step}.said"), PATIENCE)? == "done")
    }

    fn said(&self) -> Result<String> {
        let path = format!("{WORK}/{}-{}.out", self.name, self.count);
        fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    }

    /// Has it do what is to be refused or to go through.
    fn expect(&mut self, command: &str, goes_through: bool) -> Result<()> {
        let went_through = self.does(command)?;
        ensure!(went_through == goes_through, "`{command}`: {}", self.said()?.trim());
        Ok(())
    }

    /// The same of what is refused, with the index of the denial about `what`.
    fn is_refused(&mut self, daemon: &Daemon, command: &str, what: &str) -> Result<String> {
        self.expect(command, false)?;
        let started = Instant::now();
        loop {
            let mut verb = daemon.verb(&["denials", "--json", "--session", &self.session]);
            let output = verb.stdout(Stdio::piped()).output().context("asking for denials")?;
            let denials: Vec<Value> = serde_json::from_slice(&output.stdout).context("reading denials")?;
            if let Some(last) = denials.last().filter(|last| last["action"].to_string().contains(what)) {
                return Ok(last["index"].to_string());
            }
            ensure!(started.elapsed() < PATIENCE, "`{command}` is no denial: {denials:?}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// What `treeline approve` ends with, and says.
fn approve(daemon: &Daemon, denial: &str, time: &str) -> Result<(Option<i32>, String)> {
    let mut verb = daemon.verb(&["approve", denial, "--for", time]);
    let output = verb.stdout(Stdio::piped()).stderr(Stdio::piped()).output().context("approving")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).trim().to_owned()))
}

fn approved(daemon: &Daemon, denial: &str, time: &str) -> Result<()> {
    match approve(daemon, denial, time)? {
        (Some(0), _) => Ok(()),
        (code, said) => bail!("`approve {denial} --for {time}` ended with {code:?}: {said}"),
    }
}

/// What came of the cases; those that were not reached are missing, and count as failed.
struct Results {
    all: Vec<(&'static str, Result<()>)>,
}

impl Results {
    fn push(&mut self, case: &'static str, result: Result<()>) {
        self.all.push((case, result));
    }
}

fn phases(report: &Report, attach: Attach) -> Result<()> {
    let daemon = Daemon::start(NAME, &policy(ALL), attach)?;
    let mut one = Subject::start(&daemon, "one")?;
    let mut two = Subject::start(&daemon, "two")?;
    let mut results = Results { all: Vec::new() };
    files(&daemon, &mut one, &mut two, &mut results)?;
    if attach.judges_connects() {
        results.push(ADDRESS, address(&daemon, &mut one));
    }
    if attach.judges_all() {
        results.push(EXECUTION, execution(&daemon, &mut one));
        results.push(NEW_NAME, new_name(&daemon, &mut one));
        results.push(SOCKET, socket(&daemon, &mut one));
        results.push(ABSTRACT, abstract_name(&daemon, &mut one));
    }
    results.push(INSIDE, inside(&daemon, &mut one));
    results.push(UNAUTHORISED, unauthorised(&daemon, &mut one));
    if attach.judges_connects() {
        results.push(POLICY, other_policy(&daemon, &mut one));
    }
    times(daemon, &mut one, attach, &mut results)?;
    for subject in [&mut one, &mut two] {
        fs::write(format!("{WORK}/stop"), "").context("telling the sessions to end")?;
        finish(&mut subject.child);
    }
    results.push(RECORDED, recorded(attach));
    let mut left_out = LeftOut::of_daemon(NAME, report)?;
    for (case, result) in results.all {
        left_out.report(report, case, result);
    }
    for (case, _) in CASES.into_iter().filter(|(_, needs)| !needs.are_met(attach)) {
        report.skip(case, "this mode refuses nothing of that, or only while a daemon runs");
    }
    Ok(())
}

fn read(path: &str) -> String {
    format!("/usr/bin/cat {path}")
}

fn files(daemon: &Daemon, one: &mut Subject, two: &mut Subject, results: &mut Results) -> Result<()> {
    let other = format!("{KEYS}/config");
    let denial = one.is_refused(daemon, &read(KEY), KEY)?;
    approved(daemon, &denial, "1h")?;
    results.push(APPROVED, one.expect(&read(KEY), true));
    results.push(OTHER_SESSION, two.expect(&read(KEY), false));
    results.push(OTHER_PROGRAM, one.expect(&format!("read line <{KEY}"), false));
    results.push(OTHER_FILE, one.expect(&read(&other), false));
    results.push(OTHER_CODE, one.expect(&format!("LD_PRELOAD=/nothing.so {}", read(KEY)), false));
    // The shell may read the file, and not write it.
    let denial = one.is_refused(daemon, &format!("read line <{other}"), &other)?;
    approved(daemon, &denial, "1h")?;
    let operation = one
        .expect(&format!("read line <{other}"), true)
        .and_then(|()| one.expect(&format!("echo more >>{other}"), false))
        .and_then(|()| one.expect(&format!("read line <>{other}"), false));
    results.push(OTHER_OPERATION, operation);
    results.push(EACH_OPERATION, each_operation(daemon, one, &other));
    results.push(OTHER_RULE, other_rule(daemon, one));
    let moved = format!("{KEYS}/moved");
    fs::rename(&moved, &other).context("putting another file in its place")?;
    // In mode `fallback` an object is judged by the names under which it was marked.
    results.push(OTHER_NAME, one.expect(&format!("read line <{other}"), false));
    Ok(())
}

/// Reading was approved for an hour. That writing is for a minute does not shorten it.
fn each_operation(daemon: &Daemon, one: &mut Subject, file: &str) -> Result<()> {
    let (read, write) = (format!("read line <{file}"), format!("echo more >>{file}"));
    let denial = one.is_refused(daemon, &write, file)?;
    approved(daemon, &denial, "1m")?;
    one.expect(&write, true)?;
    one.expect(&read, true)?;
    // For longer, in the place of the one before.
    approved(daemon, &denial, "1h")?;
    one.expect(&write, true)
}

fn other_rule(daemon: &Daemon, one: &mut Subject) -> Result<()> {
    let read = read(&format!("{REAL}/file"));
    let denial = one.is_refused(daemon, &read, "/real/file")?;
    let _ = approve(daemon, &denial, "1h")?;
    one.expect(&read, false)
}

/// Nobody listens there: what goes through is refused by the other end.
fn connect(port: u16) -> String {
    format!("said=$( (exec 3<>/dev/tcp/127.0.0.9/{port}) 2>&1 ); [[ $said == *refused* ]]")
}

fn address(daemon: &Daemon, one: &mut Subject) -> Result<()> {
    let denial = one.is_refused(daemon, &connect(9), "127.0.0.9")?;
    approved(daemon, &denial, "1h")?;
    one.expect(&connect(9), true)?;
    one.expect(&connect(10), false)
}

fn execution(daemon: &Daemon, one: &mut Subject) -> Result<()> {
    let denial = one.is_refused(daemon, FORBIDDEN, FORBIDDEN)?;
    approved(daemon, &denial, "1h")?;
    one.expect(FORBIDDEN, true)?;
    // By another program.
    one.expect(&format!("/usr/bin/env {FORBIDDEN}"), false)
}

fn new_name(daemon: &Daemon, one: &mut Subject) -> Result<()> {
    let make = |name: &str| format!("/usr/bin/mkdir {KEYS}/{name}");
    let denial = one.is_refused(daemon, &make("new"), "/new")?;
    approved(daemon, &denial, "1h")?;
    one.expect(&make("other"), false)?;
    one.expect(&make("new"), true)?;
    one.expect(&make("new/below"), false)?;
    let python = |call: &str| format!("/usr/bin/python3 -c 'import os; os.{call}'");
    let (file, link) = (format!("mknod(\"{KEYS}/made\")"), format!("symlink(\"/home\", \"{KEYS}/made\")"));
    let denial = one.is_refused(daemon, &python(&file), "/made")?;
    approved(daemon, &denial, "1h")?;
    one.expect(&python(&link), false)?;
    one.expect(&python(&file), true)?;
    one.expect(&format!("/usr/bin/rmdir {KEYS}/new"), false)
}

fn unix(address: &str) -> String {
    format!("/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect({address})'")
}

fn socket(daemon: &Daemon, one: &mut Subject) -> Result<()> {
    let connect = unix(&format!("\"{}\"", stage::FORBIDDEN_SOCKET));
    let denial = one.is_refused(daemon, &connect, stage::FORBIDDEN_SOCKET)?;
    approved(daemon, &denial, "1h")?;
    one.expect(&connect, true)
}

fn abstract_name(daemon: &Daemon, one: &mut Subject) -> Result<()> {
    let connect = unix("b\"\\0exactly\"");
    let denial = one.is_refused(daemon, &connect, "exactly")?;
    approved(daemon, &denial, "1h")?;
    one.expect(&connect, true)
}

fn inside(daemon: &Daemon, one: &mut Subject) -> Result<()> {
    let denial = one.is_refused(daemon, &read(&format!("{KEYS}/removed")), "/removed")?;
    let config = format!("{}/treeline.toml", daemon::home(NAME));
    let command = format!("TREELINE_CONFIG={config} {TREELINE} approve {denial} --for 1h");
    one.expect(&command, false)?;
    let said = one.said()?;
    ensure!(said.contains("only somebody outside of every session"), "{said}");
    one.expect(&read(&format!("{KEYS}/removed")), false)
}

fn unauthorised(daemon: &Daemon, one: &mut Subject) -> Result<()> {
    let denial = one.is_refused(daemon, &read(stage::CLOUD), stage::CLOUD)?;
    let (code, said) = approve(daemon, &denial, "1h")?;
    ensure!(code == Some(1) && said.contains("others than this user"), "{code:?}: {said}");
    one.expect(&read(stage::CLOUD), false)
}

fn other_policy(daemon: &Daemon, one: &mut Subject) -> Result<()> {
    one.expect(&read(KEY), true)?;
    reload(daemon, &policy("keys, program, sockets, a-real"))?;
    one.expect(&connect(9), false)?;
    // What it lets be approved of still is, in the tables of the next policy.
    one.expect(&read(KEY), true)?;
    reload(daemon, &policy(ALL))?;
    one.expect(&connect(9), false)?;
    one.expect(&read(KEY), true)
}

/// How long the last approval lasts: some questions have to be answered before it ends, in an emulated guest.
const LASTS: Duration = Duration::from_secs(90);

fn times(daemon: Daemon, one: &mut Subject, attach: Attach, results: &mut Results) -> Result<()> {
    let judges_all = attach.judges_all();
    daemon.kill()?;
    if judges_all {
        results.push(KILLED, one.expect(&read(KEY), true));
    }
    let daemon = Daemon::start(NAME, &policy(ALL), attach)?;
    results.push(RESTARTED, one.expect(&read(KEY), true));
    if !judges_all {
        return daemon.stop();
    }
    let path = format!("{KEYS}/replaced");
    let denial = one.is_refused(&daemon, &read(&path), "/replaced")?;
    approved(&daemon, &denial, &format!("{}s", LASTS.as_secs()))?;
    // It began before the answer came.
    let answered = Instant::now();
    let before = one.expect(&read(&path), true);
    daemon.kill()?;
    thread::sleep((LASTS + Duration::from_secs(1)).saturating_sub(answered.elapsed()));
    results.push(EXPIRED, before.and_then(|()| one.expect(&read(&path), false)));
    // What waits in the rings is to be in the log.
    Daemon::start(NAME, &policy(ALL), attach)?.stop()
}

fn recorded(attach: Attach) -> Result<()> {
    let entries = session::entries_with(&format!("{}/log", daemon::home(NAME)), "approv")?;
    let count = |is: &dyn Fn(&Value) -> bool| entries.iter().filter(|entry| is(entry.own())).count();
    let let_through = |rule: &str| {
        count(&|one| {
            one["rule"]["approved"] == true && one["verdict"] == "audit" && one["rule"]["rule"] == rule
        })
    };
    let rules =
        [("keys", Needs::Opens), ("net", Needs::Connects), ("sockets", Needs::All), ("program", Needs::All)];
    for (rule, _) in rules.into_iter().filter(|(_, needs)| needs.are_met(attach)) {
        ensure!(let_through(rule) > 0, "nothing says that `{rule}` let through what was approved");
    }
    let said = |kind: &str| count(&|one| one["kind"] == kind);
    ensure!(said("approved") >= 2, "{} approvals", said("approved"));
    let refused = |from_session: bool| {
        count(&|one| {
            one["kind"] == "approval_refused"
                && one["notice"]["approval_refused"]["session"].is_null() != from_session
        })
    };
    ensure!(refused(true) == 1 && refused(false) == 1, "{} and {} refused", refused(true), refused(false));
    let ended = |reason: &str| count(&|one| one["notice"]["approval_ended"]["reason"] == reason);
    let expect = usize::from(attach.judges_connects());
    ensure!(ended("the policy has changed") == expect, "nothing says that the policy ended one");
    Ok(())
}
