//! Where a rule is decided: by the kernel programs alone, or with the help of the sensor.

use std::fmt;

use serde::Serialize;
use treeline_event::AttachMode;

use crate::policy::{Kind, Rule, SubjectItem};

/// Where a rule is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// By the kernel programs; it holds while no sensor runs.
    Kernel,
    /// By the kernel programs, by what the sensor found out before, or in part by the sensor.
    KernelAndUser,
    /// By the sensor.
    User,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::KernelAndUser => "kernel + user",
            Self::User => "user",
        })
    }
}

/// A class, and what the sensor has to do with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Classed {
    /// Where the rule is decided.
    pub class: Class,
    /// Why it is not the kernel programs alone; nothing where it is.
    pub why: Vec<&'static str>,
}

const CONTENT: &str = "the sensor reads the content of what is executed";
const SUBJECT: &str = "the sensor reads the content of who acts";
const LINEAGE: &str = "the sensor reads the content of what the lineage executed";
const SESSION: &str = "the sensor tells the kernel what each session is";
const ASKED: &str = "the kernel asks the sensor before a marked file is opened or executed";
const AFTERWARDS: &str = "the sensor judges names when the system call has returned";
const UNIX: &str = "the sensor judges connects to unix sockets when the system call has returned";

const CALLS: &str = "no kernel program sees calls of tools or the state of the machine";

impl Rule {
    /// Where it is decided in an attach mode; what the mode can enforce of it is another question.
    #[must_use]
    pub fn class(&self, mode: AttachMode) -> Classed {
        if self.kind.is_for_the_sensor() {
            return Classed { class: Class::User, why: vec![CALLS] };
        }
        let (in_kernel, mut why) = match mode {
            AttachMode::Lsm | AttachMode::FmodRet => (true, Vec::new()),
            AttachMode::Fallback | AttachMode::Replay => in_fallback(&self.kind),
        };
        let items = || self.items();
        let by_content = |item: &SubjectItem| item.own.sha256.is_some();
        let lineage_by_content = |item: &SubjectItem| {
            item.descendant_of.as_ref().is_some_and(|ancestor| ancestor.sha256.is_some())
        };
        let contents = [
            (matches!(&self.kind, Kind::Exec { sha256, .. } if !sha256.is_empty()), CONTENT),
            (items().any(by_content), SUBJECT),
            (items().any(lineage_by_content), LINEAGE),
            (items().any(|item| item.session.is_some()), SESSION),
        ];
        why.extend(contents.into_iter().filter_map(|(asked, why)| asked.then_some(why)));
        let class = match (in_kernel, why.is_empty()) {
            (true, true) => Class::Kernel,
            (true, false) => Class::KernelAndUser,
            (false, _) => Class::User,
        };
        Classed { class, why }
    }
}

/// Whether kernel programs decide anything of it where there are no hooks for files, and what the sensor does.
fn in_fallback(kind: &Kind) -> (bool, Vec<&'static str>) {
    match kind {
        Kind::File { .. } => {
            let names = kind.operation_names();
            let opens = names.iter().any(|name| matches!(*name, "read" | "write"));
            let others = names.iter().any(|name| !matches!(*name, "read" | "write"));
            let why = [(opens, ASKED), (others, AFTERWARDS)];
            (false, why.into_iter().filter_map(|(so, why)| so.then_some(why)).collect())
        }
        Kind::Exec { .. } => (false, vec![ASKED]),
        Kind::Connect { to, unix, abstracts, .. } => {
            let by_name = !unix.is_empty() || !abstracts.is_empty();
            (!to.is_empty(), by_name.then_some(UNIX).into_iter().collect())
        }
        // Nothing asks there; where something does, it is a kernel program.
        Kind::Trace => (true, Vec::new()),
        Kind::Tool { .. } | Kind::Mcp { .. } | Kind::Posture { .. } => (false, vec![CALLS]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn classes() {
        let check = |rule: &str, mode: AttachMode, class: Class, why: &[&'static str]| {
            let text = format!("version: 1\nname: t\nrules:\n  - {{id: r, reason: r, {rule}}}\n");
            let policy = parse("t", &text).unwrap_or_else(|found| panic!("{found}"));
            for rule in &policy.rules {
                assert_eq!(rule.class(mode), Classed { class, why: why.to_vec() }, "{} in {mode}", rule.id);
            }
        };
        let (lsm, fallback) = (AttachMode::Lsm, AttachMode::Fallback);
        let hash = "1".repeat(64);
        let file = "kind: file, paths: [/x]";
        check(file, lsm, Class::Kernel, &[]);
        check(file, AttachMode::FmodRet, Class::Kernel, &[]);
        check(file, fallback, Class::User, &[ASKED, AFTERWARDS]);
        check(&format!("{file}, operations: [read]"), fallback, Class::User, &[ASKED]);
        check(&format!("{file}, operations: [create]"), fallback, Class::User, &[AFTERWARDS]);
        check(&format!("{file}, only: [{{sha256: \"{hash}\"}}]"), lsm, Class::KernelAndUser, &[SUBJECT]);
        check(
            &format!("{file}, except: [{{descendant_of: {{sha256: \"{hash}\"}}}}]"),
            lsm,
            Class::KernelAndUser,
            &[LINEAGE],
        );
        check(&format!("{file}, except: [{{descendant_of: {{executable: /x}}}}]"), lsm, Class::Kernel, &[]);
        check("kind: exec, paths: [/x]", lsm, Class::Kernel, &[]);
        check(&format!("kind: exec, sha256: [\"{hash}\"]"), lsm, Class::KernelAndUser, &[CONTENT]);
        check(&format!("kind: exec, sha256: [\"{hash}\"]"), fallback, Class::User, &[ASKED, CONTENT]);
        check("kind: connect, to: [10.0.0.1]", fallback, Class::Kernel, &[]);
        check("kind: connect, to: [10.0.0.1], unix: [/x]", fallback, Class::KernelAndUser, &[UNIX]);
        check("kind: connect, unix: [\"@x\"]", fallback, Class::User, &[UNIX]);
        check("kind: broker, brokers: [ptrace]", fallback, Class::Kernel, &[]);
    }
}
