//! Operations on names, and execs, in mode `fallback`: seen when they have happened, judged then, and recorded as
//! `audit`.
//!
//! The name is what the caller gave, so this is a record of what was attempted by name and never a guard.

use std::{fs, os::unix::ffi::OsStringExt};

use treeline_event::{Action, FileRef, Outcome, PathBytes, ProcessKey, Verdict};
use treeline_policy::{
    Host, Object, Policy, Request, Subject, eval, host::normal, policy::FileOperation, replay,
};

use super::{guard::start_ticks, hold::Contents};
use crate::backend::{ExecSeen, Observation, Seen};

/// Gives an allowed operation on a name the verdict `audit` and the rule, if a rule names it. `before` is what the subject
/// executed before an exec, if that is known; `known` is what is known of a process beside its executable.
pub(super) fn judge(
    observation: &mut Observation,
    policy: &Policy,
    host: &Host,
    generation: u64,
    contents: &Contents,
    known: &dyn Fn(ProcessKey) -> Subject,
    before: Option<&PathBytes>,
) {
    if observation.verdict != Verdict::Allow {
        return;
    }
    let objects: Vec<Object> = match &observation.seen {
        Seen::Act(action) => match names(action) {
            Some((files, operation)) => {
                let object = |file: &FileRef| Object::File { path: normal(file.path.as_bytes()), operation };
                files.into_iter().map(object).collect()
            }
            None => return,
        },
        // A rule by content, or in `monitor`: the exec was not held for it.
        Seen::Exec(exec) => {
            let image = Object::Exec {
                path: exec.image.path.as_bytes().to_vec(),
                sha256: contents.sha256(&exec.image.id),
            };
            let script = script(exec).map(|path| Object::Exec { path, sha256: None });
            script.into_iter().chain([image]).collect()
        }
        Seen::Fork { .. } | Seen::Exit { .. } => return,
    };
    let hits = objects.into_iter().filter_map(|object| {
        let executable = match &observation.seen {
            // What it is now is what it executes, not who executed it.
            Seen::Exec(_) => before.map(|path| path.as_bytes().to_vec()).unwrap_or_default(),
            _ => executable(observation.subject),
        };
        let subject = Subject { executable, ..known(observation.subject) };
        let decision = eval(policy, host, &Request { subject, object });
        (decision.verdict != Verdict::Allow).then_some(decision.rule).flatten()
    });
    if let Some(rule) = hits.min() {
        observation.verdict = Verdict::Audit;
        observation.rule = Some(rule as u32);
        observation.generation = generation;
    }
}

/// The file that was executed where another one runs it: a script, or a file of a registered format. By the name that was
/// given, as names are here; what was executed by descriptor has none.
fn script(exec: &ExecSeen) -> Option<Vec<u8>> {
    let name = exec.name_given.as_bytes();
    let is_run_by_another = !exec.interpreter_name.is_empty() && exec.interpreter_name != exec.name_given;
    if !is_run_by_another || name.starts_with(b"/dev/fd/") {
        return None;
    }
    Some(if name.starts_with(b"/") { normal(name) } else { normal(&[exec.cwd.as_bytes(), name].join(&b'/')) })
}

/// The names of an operation that succeeded, and which operation it is.
fn names(action: &Action) -> Option<(Vec<&FileRef>, FileOperation)> {
    let succeeded = match action {
        Action::Create { outcome, .. }
        | Action::Delete { outcome, .. }
        | Action::Modify { outcome, .. }
        | Action::Rename { outcome, .. }
        | Action::Link { outcome, .. } => *outcome == Outcome::Ok,
        _ => false,
    };
    let (files, operation) = replay::names(action).filter(|_| succeeded)?;
    files.iter().all(|file| file.as_named).then_some((files, operation))
}

/// The executable of a process that may still live; empty when it does not.
fn executable(key: ProcessKey) -> Vec<u8> {
    let Ok(link) = fs::read_link(format!("/proc/{}/exe", key.pid)) else { return Vec::new() };
    let same = start_ticks(key.pid as i32).is_ok_and(|ticks| ticks == key.start_ticks);
    if same { link.into_os_string().into_vec() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use treeline_event::{Outcome, SessionId};

    use super::*;
    use crate::backend::FileSeen;

    const POLICY: &str = "version: 1\nname: t\nmode: enforce\nrules:\n  - id: keys\n    kind: file\n    \
                          paths: [\"/h/.ssh/**\"]\n    reason: Keys.\n";

    fn observation(seen: Seen) -> Observation {
        Observation {
            time_ns: 1,
            session: SessionId(1),
            subject: ProcessKey { pid: u32::MAX, start_ticks: 1 },
            subject_start_ns: 1,
            tid: 1,
            verdict: Verdict::Allow,
            rule: None,
            approved: false,
            generation: 0,
            seen,
        }
    }

    fn judged(text: &str, seen: Seen) -> Observation {
        let policy = treeline_policy::parse("t", text).expect("well-formed");
        let mut observation = observation(seen);
        let unknown = |_| Subject::default();
        judge(&mut observation, &policy, &Host::default(), 3, &Contents::default(), &unknown, None);
        observation
    }

    #[test]
    fn names_are_judged_as_given() {
        let check = |path: &str, outcome: Outcome, expect: Verdict| {
            let file = FileRef { path: path.into(), as_named: true, ..FileRef::default() };
            let observation = judged(POLICY, Seen::Act(Box::new(Action::Delete { file, outcome })));
            assert_eq!(observation.verdict, expect, "{path}");
            assert_eq!(observation.rule.is_some(), expect == Verdict::Audit);
        };
        check("/h/.ssh/id", Outcome::Ok, Verdict::Audit);
        check("/h/x/../.ssh//./id", Outcome::Ok, Verdict::Audit);
        check("/h/.ssh/id", Outcome::Errno(2), Verdict::Allow);
        check("/h/ssh/id", Outcome::Ok, Verdict::Allow);
        check("/../h/.ssh", Outcome::Ok, Verdict::Audit);
    }

    #[test]
    fn execs_are_judged_by_script_and_interpreter() {
        const EXECS: &str = "version: 1\nname: t\nmode: monitor\nrules:\n  - id: execs\n    kind: exec\n    \
                             paths: [\"/bin/deploy\", \"/bin/bash\"]\n    reason: People run these.\n";
        let check = |image: &str, interpreter: &str, given: &str, expect: Verdict| {
            let image = FileSeen { path: image.into(), ..FileSeen::default() };
            let exec = ExecSeen {
                image,
                interpreter_name: interpreter.into(),
                name_given: given.into(),
                cwd: "/bin".into(),
                ..ExecSeen::default()
            };
            let observation = judged(EXECS, Seen::Exec(Box::new(exec)));
            assert_eq!(observation.verdict, expect, "{given} by {interpreter}");
        };
        check("/bin/dash", "/bin/sh", "/bin/deploy", Verdict::Audit);
        check("/bin/dash", "/bin/sh", "./deploy", Verdict::Audit);
        check("/bin/dash", "/bin/sh", "../bin/deploy", Verdict::Audit);
        check("/bin/bash", "/bin/bash", "/bin/other", Verdict::Audit);
        check("/bin/dash", "/bin/sh", "/bin/other", Verdict::Allow);
        // The name of what runs itself says nothing: the kernel has its path.
        check("/opt/deploy", "/bin/deploy", "/bin/deploy", Verdict::Allow);
        check("/bin/dash", "/bin/sh", "/dev/fd/3", Verdict::Allow);
        check("/bin/dash", "", "/bin/deploy", Verdict::Allow);
    }
}
