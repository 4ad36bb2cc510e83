//! What the daemon puts in force outlives it: however it ends, its sessions stay guarded until it is back, or until root
//! takes everything away.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use super::attach::Attach;
use super::daemon::{self, Daemon};
use super::subject::{self, finish};
use super::{Group, stage};
use crate::guest::group::Report;

const NAME: &str = "pins";
const PATIENCE: Duration = Duration::from_secs(60);

const WATCHED: &str = "denied-while-the-daemon-runs";
const KILLED: &str = "after-kill-9";
const ADOPTED: &str = "denied-when-the-daemon-is-back";
const KEPT: &str = "what-happened-meanwhile-is-in-the-log";
const UNREAD: &str = "the-log-says-how-long-nobody-read";
const SESSION: &str = "the-session-goes-on";
const STOPPED: &str = "after-a-stop-with-a-live-session";
const IN_VAIN: &str = "denied-after-another-build-started-in-vain";
const REPLACED: &str = "denied-by-another-build-of-the-daemon";
const REMOVED: &str = "one-set-of-pins-is-left-by-it";
const TOTALS: &str = "totals-go-on-with-another-build";
const ANEW: &str = "totals-begin-anew-when-counters-differ";
const ALL: &str = "nothing-is-said-to-be-taken-and-lost";
const TAKEN: &str = "what-was-taken-and-lost-by-kill-9-is-counted";
const RING: &str = "no-command-starts-with-a-ring";
const DETACHED: &str = "allowed-after-detach-all";
const EMPTY: &str = "nothing-is-left-after-detach-all";

const SAID: &str = "the-log-says-that-everything-was-detached";

const CASES: [&str; 18] = [
    RING, WATCHED, KILLED, ADOPTED, STOPPED, IN_VAIN, REPLACED, REMOVED, TOTALS, KEPT, UNREAD, SESSION, ANEW,
    ALL, TAKEN, DETACHED, SAID, EMPTY,
];

pub(super) const GROUP: Group = Group {
    name: "pins",
    cases: || CASES.map(str::to_owned).into(),
    run,
    needs_sensor: true,
    timeout_s: 1800,
};

/// Where the subject is told what to do. It waits without a process of its own: each would be work for the sensor.
const STEPS: &str = "/home/dev/work/steps";

/// Reads the key whenever it is told to, and leaves the exit status of `cat`.
const SUBJECT: &str = "exec 3<>/home/dev/work/steps; while read -r step <&3; do \
    cat /home/dev/.ssh/id_ed25519 >/dev/null 2>&1; echo $? >/home/dev/work/$step.tmp; \
    mv /home/dev/work/$step.tmp /home/dev/work/$step.status; test $step = detached && exit; done";

/// Starts programs until it is told to stop, so that something happens at every moment of a start; not so much that a
/// ring fills meanwhile.
const BUSY: &str = "
import os, subprocess, sys, time
open('/home/dev/work/begun', 'w').close()
while not os.path.exists('/home/dev/work/enough'):
    subprocess.run(['/usr/bin/true'])
    time.sleep(float(sys.argv[1]))
";

/// Executes its arguments with an io_uring among its descriptors: io_uring_setup(2) makes one that would be closed.
const WITH_A_RING: &str = "
import ctypes, os, sys
ring = ctypes.CDLL(None, use_errno=True).syscall(425, 4, ctypes.create_string_buffer(120))
if ring < 0: sys.exit(f'no ring: {os.strerror(ctypes.get_errno())}')
os.set_inheritable(ring, True)
os.execv(sys.argv[1], sys.argv[1:])
";

/// Is there when it has begun, and when it is to stop.
const BEGUN: &str = "/home/dev/work/begun";
const ENOUGH: &str = "/home/dev/work/enough";

/// Kinds of records that are one entry each.
const SINGLE: [&str; 2] = ["exec", "exit"];

/// Prints how many kernel programs there are: bpf(BPF_PROG_GET_NEXT_ID).
const COUNT: &str = "
import ctypes, struct
libc, last, count = ctypes.CDLL(None), 0, 0
while True:
    attributes = ctypes.create_string_buffer(struct.pack('III', last, 0, 0), 64)
    if libc.syscall(321, 11, attributes, 64) != 0: break
    last, count = struct.unpack_from('II', attributes)[1], count + 1
print(count)
";

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    mknodat(CWD, STEPS, FileType::Fifo, Mode::from_raw_mode(0o644), 0)
        .context("making the pipe to the subject")?;
    let (before, attach) = (programs()?, Attach::of_guest()?);
    let daemon = start(attach)?;
    let mut subject = daemon
        .verb(&["run", "--", "/usr/bin/bash", "-c", SUBJECT])
        .stderr(Stdio::null())
        .spawn()
        .context("starting the subject")?;
    let result = phases(report, daemon, attach, before);
    finish(&mut subject);
    result
}

fn start(attach: Attach) -> Result<Daemon> {
    Daemon::start(NAME, &stage::policy("enforce"), attach)
}

fn phases(report: &Report, daemon: Daemon, attach: Attach, before: usize) -> Result<()> {
    report.case(RING, ring(&daemon, attach));
    report.case(WATCHED, is_denied("watched"));
    // What a daemon has taken from the rings and not written when it is killed is lost: so that the log can be compared with
    // the counters, it is killed when all is written.
    thread::sleep(Duration::from_secs(3));
    daemon.kill()?;
    report.case(KILLED, without_a_daemon("killed", attach));
    let daemon = start(attach)?;
    report.case(ADOPTED, is_denied("adopted"));
    let mut busy = busy(&daemon, "1")?;
    report.case(STOPPED, daemon.stop().and_then(|()| without_a_daemon("stopped", attach)));
    disguise(true)?;
    // Its programs are attached, and then its policy turns out to be too much: what was there before guards still.
    let in_vain = Daemon::start_in_vain(NAME, &too_much(), attach);
    report.case(IN_VAIN, in_vain.and_then(|()| without_a_daemon("in-vain", attach)));
    let daemon = start(attach)?;
    report.case(REPLACED, is_denied("replaced"));
    report.case(REMOVED, is_one_set());
    fs::write(ENOUGH, "").context("telling the busy subject to stop")?;
    ensure!(busy.wait().context("waiting for the busy subject")?.success(), "the busy subject failed");
    let totals = Totals::of(&daemon)?;
    daemon.stop()?;
    let entries = entries()?;
    report.case(TOTALS, totals.are_those_of(&entries));
    let is_key = |entry: &&Value| {
        let is_refusal = text(entry, "/verdict") == "deny" && text(entry, "/rule/rule") == "keys";
        // The ring is refused by the same rule, to another session.
        is_refusal && text(entry, "/kind") != "receive"
    };
    let denied: Vec<&Value> = entries.iter().filter(is_key).collect();
    // One for each time, whoever ran; in mode `fallback` nothing was refused while no daemon did.
    report.case(KEPT, is_count(denied.len(), if attach.judges_all() { 6 } else { 3 }, "denials"));
    let unread: Vec<&Value> =
        entries.iter().filter(|entry| text(entry, "/notice/lost/site") == "unread").collect();
    report.case(
        UNREAD,
        is_count(unread.len(), 3, "entries about the time in between").and_then(|()| said(&unread, attach)),
    );
    let first = denied.first().map(|entry| text(entry, "/session"));
    let same = denied.iter().all(|entry| Some(text(entry, "/session")) == first);
    report.case(SESSION, same.then_some(()).context("the denials are of several sessions"));
    report.case(ANEW, anew(attach, &totals));
    report.case(
        ALL,
        said_to_be_taken().and_then(|count| is_count(count as usize, 0, "records taken and lost")),
    );
    report.case(TAKEN, taken(attach));
    daemon::detach_all(NAME)?;
    let read = ask("detached").and_then(|status| {
        ensure!(status == "0", "`cat` ended with {status}");
        Ok(())
    });
    report.case(DETACHED, read);
    report.case(SAID, detached_is_said());
    report.case(EMPTY, is_empty(before));
    Ok(())
}

/// A policy with more names that have a `*` in them than there is room for, which shows when it is compiled.
fn too_much() -> String {
    let names: String = (0..65).map(|number| format!("      - /srv/name-{number}-*\n")).collect();
    format!(
        "version: 1\nname: too-much\nmode: enforce\nrules:\n  - id: names\n    kind: file\n    reason: test\n    paths:\n{names}"
    )
}

fn is_denied(step: &str) -> Result<()> {
    let status = ask(step)?;
    ensure!(status != "0", "it could read the key");
    Ok(())
}

fn sets() -> Vec<String> {
    let entries = fs::read_dir(daemon::pins(NAME)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What `status` says of the records of each kind: created, read, lost.
struct Totals(BTreeMap<String, [u64; 3]>);

impl Totals {
    /// When nothing is on its way.
    fn of(daemon: &Daemon) -> Result<Self> {
        thread::sleep(Duration::from_secs(3));
        let status = daemon.status()?;
        let records = status["records"].as_array().context("the status has no records")?;
        let number = |record: &Value, name: &str| record[name].as_u64().unwrap_or(u64::MAX);
        let of = |record: &Value| {
            let kind = record["kind"].as_str().unwrap_or_default().to_owned();
            (kind, ["created", "read", "lost"].map(|name| number(record, name)))
        };
        Ok(Self(records.iter().map(of).collect()))
    }

    fn add_up(&self) -> Result<()> {
        for (kind, [created, read, lost]) in &self.0 {
            ensure!(*created == read.saturating_add(*lost), "{kind}: {created}, {read} read, {lost} lost");
        }
        Ok(())
    }

    /// How many records that were read have no entry. Less than none where there were others before these totals.
    fn lacking(&self, entries: &[Value]) -> i64 {
        let of_kind = |kind: &str| {
            let count = entries.iter().filter(|entry| text(entry, "/kind") == kind).count() as i64;
            self.0.get(kind).map_or(0, |[_, read, _]| *read as i64) - count
        };
        SINGLE.into_iter().map(of_kind).sum()
    }

    /// The log has every record that any of the daemons read.
    fn are_those_of(&self, entries: &[Value]) -> Result<()> {
        self.add_up()?;
        for kind in SINGLE {
            let count = entries.iter().filter(|entry| text(entry, "/kind") == kind).count() as u64;
            let of_kind = self.0.get(kind);
            ensure!(of_kind == Some(&[count, count, 0]), "{kind}: {of_kind:?}, but {count} entries");
        }
        Ok(())
    }
}

/// What another build has counted in another way is not added to, and the log says so.
fn anew(attach: Attach, before: &Totals) -> Result<()> {
    disguise(false)?;
    without_a_daemon("unreadable", attach)?;
    let daemon = start(attach)?;
    is_denied("anew")?;
    let totals = Totals::of(&daemon)?;
    daemon.stop()?;
    totals.add_up()?;
    // `cat` and `mv`.
    let execs = totals.0.get("exec");
    let are_all = execs == Some(&[2, 2, 0]);
    let are_fewer = || execs.is_none_or(|execs| matches!(execs, [0, 0, 0] | [1, 1, 0]));
    ensure!(
        are_all || attach.can_be_left_out() && are_fewer(),
        "{execs:?} execs, {:?} before",
        before.0.get("exec")
    );
    let entries = entries()?;
    let what = |entry: &Value| text(entry, "/notice/malformed/what") == "counters of the sensor before";
    ensure!(entries.iter().any(what), "no entry says that the totals begin anew");
    let lost = |entry: &Value| {
        let lost = entry.pointer("/unmapped/treeline/notice/lost")?;
        (lost["site"] == "unread").then(|| lost["count"].as_u64())?
    };
    let unread = entries.iter().filter_map(lost).next_back();
    ensure!(unread > Some(0), "the log says that {unread:?} records were not read");
    Ok(())
}

/// A session that starts programs at this interval, in seconds.
fn busy(daemon: &Daemon, interval: &str) -> Result<Child> {
    for path in [BEGUN, ENOUGH] {
        let _ = fs::remove_file(path);
    }
    let words = ["run", "--", "/usr/bin/python3", "-c", BUSY, interval];
    let child = daemon.verb(&words).spawn().context("starting the busy subject")?;
    subject::wait_for(BEGUN, PATIENCE)?;
    Ok(child)
}

/// A ring could have files that nobody knows of. Mode `fallback` has no hook for it.
fn ring(daemon: &Daemon, attach: Attach) -> Result<()> {
    let verb = daemon.verb(&["run", "--", "/usr/bin/true"]);
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", WITH_A_RING]).arg(verb.get_program()).args(verb.get_args());
    command.envs(verb.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().context("starting a command with a ring")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let is_refused = !output.status.success() && said.contains("io_uring");
    let is_started = output.status.success();
    ensure!(
        if attach.judges_all() { is_refused } else { is_started },
        "it ended with {}: {}",
        output.status,
        said.trim()
    );
    Ok(())
}

/// Whoever is killed while much happens leaves gaps, and the next one says how large they are: not less than what the log
/// lacks of the records that are one entry each, nor more than could have happened since the one before left word.
fn taken(attach: Attach) -> Result<()> {
    const KILLS: u32 = 2;
    let (mut daemon, before) = (start(attach)?, said_to_be_taken()?);
    let lacking = Totals::of(&daemon)?.lacking(&entries()?);
    let mut busy = busy(&daemon, "0")?;
    for _ in 0..KILLS {
        thread::sleep(Duration::from_secs(2));
        daemon.kill()?;
        daemon = start(attach)?;
    }
    fs::write(ENOUGH, "").context("telling the busy subject to stop")?;
    ensure!(busy.wait().context("waiting for the busy subject")?.success(), "the busy subject failed");
    let totals = Totals::of(&daemon)?;
    daemon.stop()?;
    totals.add_up()?;
    let lost = said_to_be_taken()? - before;
    let lacking = totals.lacking(&entries()?) - lacking;
    ensure!(lacking <= lost as i64, "the log lacks {lacking} records, {lost} are said to be lost");
    let created: u64 = totals.0.values().map(|[created, ..]| created).sum();
    ensure!(lost < created / 4, "{lost} of {created} records are said to be lost");
    Ok(())
}

/// How many records the log says that daemons had taken and not recorded.
fn said_to_be_taken() -> Result<u64> {
    let lost = |entry: &Value| {
        let lost = entry.pointer("/unmapped/treeline/notice/lost")?;
        (lost["site"] == "taken").then(|| lost["count"].as_u64())?
    };
    Ok(entries()?.iter().filter_map(lost).sum())
}

/// Makes the pins look like those of another build, by the fingerprint in their name, and like those of one that lays out
/// records in another way, unless `has_same_records`.
fn disguise(has_same_records: bool) -> Result<()> {
    let sets = sets();
    let [set] = sets.as_slice() else { bail!("{} sets of pins, expected one", sets.len()) };
    let parts: Vec<&str> = set.split('-').collect();
    let [_, records, labels] = parts[..] else {
        bail!("`{set}` is not named after its fingerprint, records and labels")
    };
    let records = if has_same_records { records } else { "records00000000" };
    let root = daemon::pins(NAME);
    fs::rename(format!("{root}/{set}"), format!("{root}/0123456789abcdef-{records}-{labels}"))
        .context("renaming the pins")
}

fn is_one_set() -> Result<()> {
    let sets = sets();
    ensure!(sets.len() == 1 && !sets[0].starts_with("0123456789abcdef"), "the sets are {sets:?}");
    Ok(())
}

/// Kernel programs refuse without a daemon, permission marks do not: mode `fallback` says so.
fn without_a_daemon(step: &str, attach: Attach) -> Result<()> {
    if attach.judges_all() {
        return is_denied(step);
    }
    let status = ask(step)?;
    ensure!(status == "0", "the key could not be read: {status}");
    Ok(())
}

fn detached_is_said() -> Result<()> {
    let reason = |entry: &Value| text(entry, "/notice/stopped/reason").to_owned();
    let is_it = |entry: &Value| {
        let reason = reason(entry);
        reason.starts_with("--detach-all") && reason.contains("asked for by process")
    };
    ensure!(entries()?.iter().any(is_it), "no entry says it");
    Ok(())
}

/// Has the subject read the key.
fn ask(step: &str) -> Result<String> {
    fs::write(STEPS, format!("{step}\n")).context("telling the subject to go on")?;
    subject::answer(&format!("{}/{step}.status", stage::WORK), PATIENCE)
}

fn entries() -> Result<Vec<Value>> {
    let home = daemon::home(NAME);
    let output = daemon::treeline(&home, &["log", "cat", "--log", &format!("{home}/log")])
        .stdout(Stdio::piped())
        .output()
        .context("reading the log")?;
    let text = String::from_utf8(output.stdout).context("the log is UTF-8")?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn text<'e>(entry: &'e Value, pointer: &str) -> &'e str {
    entry.pointer("/unmapped/treeline").and_then(|own| own.pointer(pointer)?.as_str()).unwrap_or_default()
}

fn is_count(count: usize, expect: usize, what: &str) -> Result<()> {
    ensure!(count == expect, "{count} {what}, expected {expect}");
    Ok(())
}

/// Each says a time, and that nothing is missing of it but what the kernel may have left out.
fn said(unread: &[&Value], attach: Attach) -> Result<()> {
    for entry in unread {
        let lost = entry.pointer("/unmapped/treeline/notice/lost").context("the entry is about a loss")?;
        let number =
            |name: &str| lost[name].as_u64().with_context(|| format!("`{name}` is no number in {lost}"));
        let (count, first_ns, last_ns) = (number("count")?, number("first_ns")?, number("last_ns")?);
        ensure!(0 < first_ns && first_ns < last_ns, "the log says {lost}");
        ensure!(count == 0 || attach.has_some_left_out(), "the log says {lost}");
    }
    Ok(())
}

fn programs() -> Result<usize> {
    let output =
        Command::new("/usr/bin/python3").args(["-c", COUNT]).output().context("counting kernel programs")?;
    String::from_utf8_lossy(&output.stdout).trim().parse().context("the count is a number")
}

fn is_empty(before: usize) -> Result<()> {
    let left = sets();
    ensure!(left.is_empty(), "sets of pins are left: {left:?}");
    // Programs are freed some time after their last user is gone.
    let started = Instant::now();
    while programs()? > before {
        ensure!(started.elapsed() < PATIENCE, "{} programs, {before} before", programs()?);
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
