//! Rules that ask what a session is: of sessions of two users, under one policy after the other, within each other, and
//! when another sensor takes over.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::attach::Attach;
use super::daemon::{self, Daemon};
use super::lineage::{PATIENCE, reload, tell};
use super::stage::{self, WORK};
use super::subject::{self, CAN_PAUSE, PAUSE, finish};
use super::{Group, session::TREELINE};
use crate::guest::group::Report;

const NAME: &str = "sessions";
/// The developer, of whose groups one is `treeline` (the guest's user database).
const DEV: u32 = 1000;

const KNOWN: &str = "by-user-and-by-group";
const RELOADED: &str = "a-policy-that-is-new-knows-sessions-that-live";
const WITHIN: &str = "who-begins-within-a-session-is-who-that-is";
const TAKEN_OVER: &str = "the-next-sensor-goes-on-with-the-same";
const ASKED_ANEW: &str = "the-next-sensor-knows-for-a-policy-that-is-new";
const LOST: &str = "what-is-known-no-more-allows-nothing";

const CASES: [&str; 6] = [KNOWN, RELOADED, WITHIN, TAKEN_OVER, ASKED_ANEW, LOST];

pub(super) const GROUP: Group =
    Group { name: NAME, cases: || CASES.map(str::to_owned).into(), run, needs_sensor: true, timeout_s: 1800 };

/// What the developer may not read, and what nobody may but who is in a group of the developer's.
const FIRST: [&str; 2] = ["only: [{session: {users: [dev]}}]", "except: [{session: {groups: [treeline]}}]"];
/// The other way round, by number.
const SECOND: [&str; 2] = ["only: [{session: {groups: [0]}}]", "except: [{session: {users: [0, 7]}}]"];

/// What a shell is to do: to read the two files whenever its session is told to, and to leave what came of each.
fn serve(name: &str) -> String {
    format!(
        "{CAN_PAUSE} while ! test -e {WORK}/stop; do for go in {WORK}/{name}-*.go; do step=${{go%.go}}; \
        if test -e $go && ! test -e $step.said; then said=; \
        for file in /home/dev/.aws/credentials /home/dev/.state/file; do \
        /usr/bin/cat $file >/dev/null 2>&1 && said=${{said}}r || said=${{said}}d; done; \
        echo $said >$step.tmp; mv $step.tmp $step.said; fi; done; {PAUSE}; done"
    )
}

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    // Both users write there.
    fs::set_permissions(WORK, Permissions::from_mode(0o777)).context("opening the place for answers")?;
    let attach = Attach::of_guest()?;
    let daemon = Daemon::start(NAME, &policy(FIRST), attach)?;
    let mut subjects = [start(&daemon, "root", 0)?, start(&daemon, "dev", DEV)?];
    let result = phases(daemon, attach).and_then(|(daemon, results)| {
        tell(report, NAME, results)?;
        Ok(daemon)
    });
    // They end by themselves; then nothing is left to be guarded, and the pins can go.
    fs::write(format!("{WORK}/stop"), "").context("telling the sessions to end")?;
    thread::sleep(Duration::from_secs(3));
    subjects.iter_mut().for_each(finish);
    drop(result?);
    daemon::detach_all(NAME)
}

fn policy([only, except]: [&str; 2]) -> String {
    let rule = |id: &str, path: &str, list: &str| {
        format!("  - {{id: {id}, kind: file, paths: [\"{path}\"], reason: Of sessions, {list}}}\n")
    };
    let rules = [rule("a-only", "/home/dev/.aws/**", only), rule("b-except", "/home/dev/.state/**", except)];
    format!("version: 1\nname: sessions\nmode: enforce\nrules:\n{}", rules.concat())
}

/// Starts a session of a user.
fn start(daemon: &Daemon, name: &str, uid: u32) -> Result<Child> {
    let socket = format!("{}/socket", daemon::home(NAME));
    fs::set_permissions(&socket, Permissions::from_mode(0o666))
        .with_context(|| format!("opening {socket}"))?;
    let mut command = daemon.verb(&["run", "--", "/usr/bin/bash", "-c", &serve(name)]);
    command.uid(uid).gid(uid).current_dir("/").stderr(Stdio::null()).spawn().context("starting a session")
}

type Results = Vec<(&'static str, Result<()>)>;

fn phases(daemon: Daemon, attach: Attach) -> Result<(Daemon, Results)> {
    let mut results = vec![(KNOWN, expect("known", "rd", "dr"))];
    reload(&daemon, &policy(SECOND))?;
    results.push((RELOADED, expect("reloaded", "dr", "rd")));
    results.push((WITHIN, within(&daemon)));
    daemon.kill()?;
    let daemon = Daemon::start(NAME, &policy(SECOND), attach)?;
    results.push((TAKEN_OVER, expect("taken-over", "dr", "rd")));
    reload(&daemon, &policy(FIRST))?;
    results.push((ASKED_ANEW, expect("asked-anew", "rd", "dr")));
    daemon.kill()?;
    let kept = format!("{}/state/sessions.json", daemon::home(NAME));
    fs::remove_file(&kept).with_context(|| format!("removing {kept}"))?;
    let daemon = Daemon::start(NAME, &policy(SECOND), attach)?;
    results.push((LOST, expect("lost", "dd", "dd")));
    Ok((daemon, results))
}

/// Has both sessions read the two files, and compares what each could.
fn expect(step: &str, of_root: &str, of_dev: &str) -> Result<()> {
    for (name, expect) in [("root", of_root), ("dev", of_dev)] {
        let step = format!("{WORK}/{name}-{step}");
        fs::write(format!("{step}.go"), "").context("telling a session to go on")?;
        let said = subject::answer(&format!("{step}.said"), PATIENCE)?;
        ensure!(said == expect, "the session of {name}: {said}, expected {expect}");
    }
    Ok(())
}

/// A session of root's in which the developer begins another, and reads what only the developer can.
fn within(daemon: &Daemon) -> Result<()> {
    let read = "for file in /home/dev/.aws/credentials /home/dev/.state/file; do /usr/bin/cat $file >/dev/null 2>&1 \
                && echo -n r || echo -n d; done";
    let dev = DEV.to_string();
    let inner = ["/usr/bin/act", "act", "as", &dev, TREELINE, "run", "--", "/usr/bin/bash", "-c", read];
    let words = [&["run", "--"], &inner[..]].concat();
    let output = daemon.verb(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = output.context("starting a session within another")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said == "dr", "{said}, expected dr: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
