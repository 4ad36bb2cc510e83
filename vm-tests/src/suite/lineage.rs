//! What labels know of their lineage is right whatever happens to policies; what they do not know counts
//! against whoever asks.

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Group;
use super::attach::Attach;
use super::daemon::{self, Daemon};
use super::guard::LeftOut;
use super::stage::{self, TRUSTED_SHELL, WORK};
use super::subject::{self, finish};
use crate::guest::group::Report;

const NAME: &str = "lineage";
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

const FIRST: &str = "below-is-denied-and-beside-is-not";
const RELOADED: &str = "the-same-after-a-reload-that-would-number-anew";
const UNKNOWN: &str = "a-condition-that-is-new-is-unknown-of-who-ran-before";
const FRESH: &str = "a-condition-that-is-new-is-known-of-a-session-that-begins";
const REUSED: &str = "a-number-that-is-used-anew-means-nothing-to-who-had-it";

const UNLEARNED: &str = "a-condition-that-comes-back-is-unknown-of-who-ran-meanwhile";

const CASES: [&str; 6] = [FIRST, RELOADED, UNKNOWN, FRESH, REUSED, UNLEARNED];

pub(super) const GROUP: Group = Group {
    name: "lineage",
    cases: || CASES.map(str::to_owned).into(),
    run,
    needs_sensor: true,
    timeout_s: 1800,
};

/// One file for descendants of the shell that is trusted, one for all but them.
const BELOW: &str = "
  - id: b-below
    kind: file
    paths: [\"/home/dev/.aws/**\"]
    reason: Below it nobody reads this
    only:
      - descendant_of: {executable: /usr/local/bin/trusted-shell}
";
const EXCEPTED: &str = "
  - id: c-excepted
    kind: file
    paths: [\"/home/dev/.state/**\"]
    reason: Below it everybody reads this
    except:
      - descendant_of: {executable: /usr/local/bin/trusted-shell}
";
/// A condition that comes first in every order, and that nobody in the session meets; a rule of each direction.
const ANOTHER: &str = "
  - id: a-another
    kind: file
    paths: [\"/home/dev/.ssh/id_ed25519\"]
    reason: Only for descendants of a program that nobody executes
    only:
      - descendant_of: {executable: /bin/aaa}
";
/// A condition that takes the number of the one in `BELOW` when that is gone; nobody in the session meets it.
const INSTEAD: &str = "
  - id: d-instead
    kind: file
    paths: [\"/home/dev/.state/**\"]
    reason: Not for descendants of a program that nobody executes
    except:
      - descendant_of: {executable: /usr/local/bin/nobody-executes-this}
";

/// `serve PLACE SESSION` reads the three files whenever the session is told to, and leaves what came of each.
const SERVE: &str = "serve() { while ! test -e /home/dev/work/stop; do for go in /home/dev/work/$2-*.go; do step=${go%.go}; \
    if test -e $go && ! test -e $step.$1; then said=; \
    for file in /home/dev/.aws/credentials /home/dev/.state/file /home/dev/.ssh/id_ed25519; do \
    /usr/bin/cat $file >/dev/null 2>&1 && said=${said}r || said=${said}d; done; \
    echo $said >$step.tmp-$1; mv $step.tmp-$1 $step.$1; fi; done; sleep 0.2; done; }; ";

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    let attach = Attach::of_guest()?;
    let daemon = Daemon::start(NAME, &policy(&[BELOW, EXCEPTED]), attach)?;
    let mut subject = start_session(&daemon, "first")?;
    let result = phases(&daemon).and_then(|results| tell(report, NAME, results));
    // What is below the sessions' roots ends by itself; then nothing is left to be guarded, and the pins can go.
    fs::write(format!("{WORK}/stop"), "").context("telling the sessions to end")?;
    thread::sleep(Duration::from_secs(3));
    finish(&mut subject);
    drop(daemon);
    daemon::detach_all(NAME)?;
    result
}

/// Starts a session that serves beside the trusted shell and below it.
fn start_session(daemon: &Daemon, name: &str) -> Result<Child> {
    let script = format!("{SERVE} {TRUSTED_SHELL} -c '{SERVE} serve below {name}' & serve beside {name}");
    let mut command = daemon.verb(&["run", "--", "/usr/bin/bash", "-c", &script]);
    command.stderr(Stdio::null()).spawn().context("starting a session")
}

fn policy(rules: &[&str]) -> String {
    format!("version: 1\nname: lineage\nmode: enforce\nrules:{}", rules.concat())
}

/// Reports what came of the cases of the group with this daemon. An exec whose program the kernel left out is of nobody's
/// lineage, and an access nobody's (THREATS.md).
pub(super) fn tell(report: &Report, daemon: &str, results: Vec<(&str, Result<()>)>) -> Result<()> {
    if results.iter().any(|(_, result)| result.is_err()) {
        // The sensor asks the kernel once a second what it left out.
        thread::sleep(Duration::from_secs(3));
    }
    let mut left_out = LeftOut::of_daemon(daemon, report)?;
    results.into_iter().for_each(|(case, result)| left_out.report(report, case, result));
    Ok(())
}

fn phases(daemon: &Daemon) -> Result<Vec<(&'static str, Result<()>)>> {
    let mut results = vec![(FIRST, expect("first", "start", "rdr", "drr"))];
    reload(daemon, &policy(&[ANOTHER, BELOW, EXCEPTED]))?;
    // The first two are answered as before; of the third file nobody is known not to be meant.
    results.push((RELOADED, expect("first", "reloaded", "rdd", "drd")));
    results.push((UNKNOWN, expect("first", "unknown", "rdd", "drd")));
    results.push((FRESH, fresh(daemon)));
    reload(daemon, &policy(&[INSTEAD]))?;
    results.push((REUSED, expect("first", "reused", "rdr", "rdr")));
    reload(daemon, &policy(&[BELOW, EXCEPTED]))?;
    // Nobody kept track meanwhile.
    results.push((UNLEARNED, expect("first", "unlearned", "ddr", "ddr")));
    Ok(results)
}

/// Has a session read the three files, and compares what it could beside the trusted shell and below it.
fn expect(session: &str, step: &str, beside: &str, below: &str) -> Result<()> {
    let step = format!("{WORK}/{session}-{step}");
    fs::write(format!("{step}.go"), "").context("telling the session to go on")?;
    for (place, expect) in [("beside", beside), ("below", below)] {
        let said = subject::answer(&format!("{step}.{place}"), PATIENCE)?;
        ensure!(said == expect, "{place}: {said}, expected {expect}");
    }
    Ok(())
}

/// Has the daemon take another policy. It takes longer in an emulated guest than `treeline reload` waits for.
pub(super) fn reload(daemon: &Daemon, policy: &str) -> Result<()> {
    let generation = |daemon: &Daemon| {
        let status = daemon.status()?;
        status.pointer("/policy/generation").and_then(Value::as_u64).context("no policy is in force")
    };
    let before = generation(daemon)?;
    daemon.write_policy(policy)?;
    daemon.signal("HUP")?;
    let started = Instant::now();
    while generation(daemon).map_or(true, |now| now == before) {
        ensure!(started.elapsed() < PATIENCE, "the daemon has not taken the policy");
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

fn fresh(daemon: &Daemon) -> Result<()> {
    let mut session = start_session(daemon, "fresh")?;
    let result = expect("fresh", "start", "rdr", "drr");
    finish(&mut session);
    result
}
