//! While one policy takes the place of another, what both allow goes on, and what both refuse stays refused.

use std::fs;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};

use super::attach::Attach;
use super::daemon::{self, Daemon};
use super::guard::LeftOut;
use super::lineage::reload;
use super::stage::{self, KEY, KEYS, WORK};
use super::subject::{self, finish};
use super::{Group, lineage::PATIENCE};
use crate::guest::group::Report;

const NAME: &str = "replaced";
const ALLOWED: &str = "what-both-allow-goes-on";
const REFUSED: &str = "what-both-refuse-stays-refused";
/// How often. Each takes a second or more where the guest is emulated.
const TIMES: usize = 24;

pub(super) const GROUP: Group = Group {
    name: NAME,
    cases: || vec![ALLOWED.into(), REFUSED.into()],
    run,
    needs_sensor: true,
    timeout_s: 1800,
};

/// What a shell is to do all the time: programs that make, rename, read and remove files on two filesystems, and one that reads
/// the key. What should not have come of it is left in a file each.
fn script() -> String {
    format!(
        "exec 2>>{WORK}/errors; rounds=0; while ! test -e {WORK}/stop; do for d in {WORK} /run; do \\
        echo text >$d/one && /usr/bin/mv $d/one $d/two && /usr/bin/cat $d/two >/dev/null && /usr/bin/rm $d/two \\
        || echo $d in round $rounds >>{WORK}/failed; done; \\
        /usr/bin/cat {KEY} 2>/dev/null && echo round $rounds >>{WORK}/read; \\
        rounds=$((rounds + 1)); echo $rounds >{WORK}/rounds; done; echo over >{WORK}/over"
    )
}

fn policy(number: usize) -> String {
    format!(
        "version: 1\nname: replaced\nmode: enforce\nrules:\n  - {{id: keys, kind: file, paths: [\"{KEYS}/**\"], reason: Keys}}\n  \
         - {{id: another, kind: file, paths: [/srv/{number}/**], reason: Of number {number}}}\n"
    )
}

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    let daemon = Daemon::start(NAME, &policy(0), Attach::of_guest()?)?;
    let mut command = daemon.verb(&["run", "--", "/usr/bin/bash", "-c", &script()]);
    let mut child = command.stdout(Stdio::null()).spawn().context("starting a session")?;
    let result = replace(&daemon, &mut child);
    let read = |name: &str| fs::read_to_string(format!("{WORK}/{name}")).unwrap_or_default();
    let rounds: u64 = read("rounds").trim().parse().context("the session has done nothing")?;
    let replaced = result.and_then(|()| {
        ensure!(rounds > 1, "{rounds} rounds");
        Ok(())
    });
    report.note("replaced/rounds", rounds.to_string());
    let mut left_out = LeftOut::of_daemon(NAME, report)?;
    let nothing = |name: &str| {
        let text = read(name);
        ensure!(text.is_empty(), "{}: {}", text.trim(), read("errors").trim());
        Ok(())
    };
    left_out.report(report, ALLOWED, replaced.and_then(|()| nothing("failed")));
    left_out.report(report, REFUSED, nothing("read"));
    daemon.stop()?;
    daemon::detach_all(NAME)
}

fn replace(daemon: &Daemon, child: &mut Child) -> Result<()> {
    subject::wait_for(&format!("{WORK}/rounds"), PATIENCE)?;
    let replaced = (1..=TIMES).try_for_each(|number| reload(daemon, &policy(number)));
    fs::write(format!("{WORK}/stop"), "").context("telling the session to end")?;
    let over = subject::wait_for(&format!("{WORK}/over"), PATIENCE);
    finish(child);
    replaced.and(over)
}
