//! Brokers: each is asked from inside a session, with a rule that refuses it, with one that records it, and without one.
//!
//! What was done shows by a mark, which also says whether who left it could read what sessions cannot; the log shows what
//! the sensor saw. Cron needs a minute, so everything is judged at the end, when a job of the suite's own has run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use treeline_vm_tests::DISTRIBUTION_SUITE_PATH;

use super::cases::{self, Case, Effect, Phase, User, Way};
use super::machine::{self, command, mark, shell};
use crate::guest::group::Report;
use crate::suite::Group;
use crate::suite::attach::Attach;
use crate::suite::session::{Entry, TREELINE};

pub(super) const GROUP: Group =
    Group { name: "brokers", cases: names, run, needs_sensor: true, timeout_s: 3600 };

/// What the suite itself has cron do last.
const OWN_JOB: &str = "cron-of-the-suite";

/// How `dev` does something with what a login would have given it.
const AS_DEV: &[&str] = &[
    "setpriv",
    "--reuid=1000",
    "--regid=1000",
    "--init-groups",
    "env",
    "-C",
    "/home/dev",
    "HOME=/home/dev",
    "USER=dev",
    "LOGNAME=dev",
    "SHELL=/bin/bash",
    "TERM=linux",
    "XDG_RUNTIME_DIR=/run/user/1000",
    "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus",
];

/// What is there before the sessions, made by root.
const OF_THE_MACHINE: &str = "\
    printf '[Service]\\nType=oneshot\\nExecStart=/usr/lib/treeline-guest/mark %%i\\n' \
        >/etc/systemd/system/treeline-mark@.service && \
    mkdir -p /etc/containers/systemd && \
    systemctl start podman.socket && \
    podman --events-backend=none import /var/lib/treeline-guest/image.tar guest";

/// And by the developer: servers that run, a key that opens the way in.
const OF_THE_DEVELOPER: &str = "\
    mkdir -p -m 700 ~/.ssh && mkdir -p ~/.config/systemd/user ~/.local/share/dbus-1/services && \
    for phase in free record deny; do \
        printf '[D-BUS Service]\\nName=org.treeline.Guest.%s\\nExec=/usr/lib/treeline-guest/mark bus-activation-%s\\n' \
            $phase $phase >~/.local/share/dbus-1/services/org.treeline.Guest.$phase.service; \
    done && \
    busctl --user call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig && \
    ssh-keygen -q -t ed25519 -N '' -f ~/identity && cp ~/identity.pub ~/.ssh/authorized_keys && \
    ssh -o StrictHostKeyChecking=accept-new -o BatchMode=yes -i ~/identity localhost true && \
    ssh -o StrictHostKeyChecking=accept-new -o BatchMode=yes -i ~/identity .host true && \
    tmux new-session -d -s outside && screen -dmS outside sh";

fn names() -> Vec<String> {
    let attach = Attach::of_guest().unwrap_or(Attach::Lsm);
    tries(attach).map(|(phase, case)| name(case, phase)).collect()
}

/// What is tried in this mode.
fn tries(attach: Attach) -> impl Iterator<Item = (Phase, &'static Case)> {
    Phase::of(attach).flat_map(|phase| {
        cases::ALL.iter().filter(move |case| case.is_of(phase)).map(move |case| (phase, case))
    })
}

fn name(case: &Case, phase: Phase) -> String {
    format!("{}/{}", case.name, phase.word())
}

fn run(report: &Report) -> Result<()> {
    machine::prepare()?;
    shell(OF_THE_MACHINE)?;
    as_dev(OF_THE_DEVELOPER)?;
    let attach = Attach::of_guest()?;
    let mut said = BTreeMap::new();
    for phase in Phase::of(attach) {
        machine::put_policy(&phase.rules())?;
        for user in User::ALL {
            said.insert((phase.word(), user.word()), ask(phase, user)?);
        }
    }
    wait_for_cron()?;
    let entries = machine::entries()?;
    for (phase, case) in tries(attach) {
        let told = said.get(&(phase.word(), case.user.word())).map_or("", String::as_str);
        let result = judge(case, phase, attach, &entries);
        report.case(&name(case, phase), result.with_context(|| words(told, &case.id(phase))));
    }
    Ok(())
}

fn as_dev(script: &str) -> Result<()> {
    let output = command(AS_DEV[0]).args(&AS_DEV[1..]).args(["/bin/sh", "-c", script]).output();
    let output = output.context("doing something as the developer")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{script}` ended with {}: {}", output.status, said.trim());
    Ok(())
}

/// One session of `user`, in which every case of theirs is tried; what their scripts said.
fn ask(phase: Phase, user: User) -> Result<String> {
    let session =
        [TREELINE, "run", "--", DISTRIBUTION_SUITE_PATH, "act", "scripts", phase.word(), user.word()];
    let words: Vec<&str> = match user {
        User::Root => session.to_vec(),
        User::Dev => AS_DEV.iter().copied().chain(session).collect(),
    };
    let output = command(words[0]).args(&words[1..]).stderr(Stdio::inherit()).output();
    let output = output.context("starting a session")?;
    ensure!(output.status.success(), "the session of {} ended with {}", user.word(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The line that the script's end left.
fn words(told: &str, id: &str) -> String {
    let line = told.lines().find(|line| line.starts_with(&format!("{id}: ")));
    line.map_or_else(|| format!("{id} said nothing"), |line| format!("the script, {line}"))
}

/// A job that is there later than those of the sessions does not run earlier.
fn wait_for_cron() -> Result<()> {
    fs::write("/etc/cron.d/suite", format!("* * * * * root {} {OWN_JOB}\n", machine::MARK))
        .context("giving cron a job")?;
    machine::wait_until("cron runs the suite's own job", || Ok(mark(OWN_JOB).is_some()))
}

fn judge(case: &Case, phase: Phase, attach: Attach, entries: &[Entry]) -> Result<()> {
    let (id, expect) = (case.id(phase), case.expect(phase, attach));
    let done = done(case, &id)?;
    ensure!(
        done.as_deref() == expect.done,
        "it was done {}, expected {}",
        done.as_deref().unwrap_or("not at all"),
        expect.done.unwrap_or("not at all")
    );
    let own = own(&id, entries);
    let rule = format!("brokers/{}", case.part);
    let verdicts: Vec<&str> =
        own.iter().filter(|entry| entry.is_by(&rule)).map(|entry| entry.verdict()).collect();
    match expect.verdict {
        Some(verdict) if !verdicts.contains(&verdict) => {
            let others: Vec<String> = own
                .iter()
                .filter(|entry| entry.is_match())
                .map(|entry| format!("{} by {}", entry.verdict(), entry.field("/rule/rule")))
                .collect();
            bail!("no entry has `{verdict}` by {rule}, but: {}", others.join(", "));
        }
        None if !verdicts.is_empty() && case.way != Way::Child => {
            bail!("{rule} matched: {}", verdicts.join(", "))
        }
        _ => {}
    }
    let is_traced = own.iter().any(|entry| entry.text().contains(case.trace));
    ensure!(
        is_traced == expect.is_traced,
        "{} of its {} entries names {}{}",
        if is_traced { "one" } else { "none" },
        own.len(),
        case.trace,
        refusals_of_others(&own, entries)
    );
    Ok(())
}

/// What the processes of one case did. Entries about what no rule matched name their subject and not the arguments of
/// those before it; that of its exec does.
fn own<'e>(id: &str, entries: &'e [Entry]) -> Vec<&'e Entry> {
    let processes: BTreeSet<String> =
        entries.iter().filter(|entry| entry.is_of(id)).filter_map(Entry::process).collect();
    let is_own = |entry: &&Entry| {
        entry.is_of(id) || entry.process().is_some_and(|process| processes.contains(&process))
    };
    entries.iter().filter(is_own).collect()
}

/// The latest refusals that are not among a case's own entries: one of them may be what it lacks.
fn refusals_of_others(own: &[&Entry], entries: &[Entry]) -> String {
    let is_own = |entry: &Entry| own.iter().any(|one| std::ptr::eq(*one, entry));
    let others = entries.iter().rev().filter(|entry| entry.verdict() == "deny" && !is_own(entry));
    others.take(3).map(|entry| format!("\nother: {}", &entry.text()[..entry.text().len().min(600)])).collect()
}

/// Who has done what the case asks for.
fn done(case: &Case, id: &str) -> Result<Option<String>> {
    match case.effect {
        Effect::Mark => Ok(mark(id)),
        Effect::File(path) => {
            let text = fs::read_to_string(path).unwrap_or_default();
            // What runs later from there runs outside.
            Ok(text.contains(&format!("# {id}")).then(|| "outside".to_owned()))
        }
    }
}
