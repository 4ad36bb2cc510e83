//! Everything that a subject tries inside a session, and what has to come of it.

mod aliases;
mod connect;
mod descendants;
mod exceptions;
mod exec;
mod files;
pub(crate) mod globs;
mod lineage;
mod network;
mod permitted;
mod processes;

use std::io;

use super::attach::Attach;

/// One thing that is tried.
pub(crate) struct Case {
    /// Unique, `kebab-case`.
    pub(crate) name: &'static str,
    /// The executable that tries it: a copy of this program.
    pub(crate) program: &'static str,
    pub(crate) act: fn() -> io::Result<()>,
    pub(crate) expect: Expect,
    /// What is different in mode `fallback`.
    in_fallback: InFallback,
}

/// What has to come of a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expect {
    /// In `enforce` it fails with `EPERM`, in `monitor` it works; the log says so and names this rule.
    Denied(&'static str),
    /// It works; the log says that this rule would have refused it.
    Recorded(&'static str),
    /// It works in the end, though the log has the refusal of one of its steps by this rule.
    RefusedInPart(&'static str),
    /// It works and no rule matched.
    Works,
}

/// How much of what is refused elsewhere mode `fallback` refuses (README.md, "Attach modes").
#[derive(Clone, Copy)]
enum InFallback {
    Refused,
    /// It is seen when the system call has returned.
    Recorded,
    /// One of its steps is refused, and another leads to the same end.
    RefusedInPart,
    /// Refused where the kernel lets cgroup programs look for labels, else neither refused nor recorded.
    RefusedByCgroup,
    /// Neither refused nor recorded.
    Unseen,
}

impl Case {
    /// What has to come of it in this attach mode.
    pub(crate) fn expect(&self, attach: Attach) -> Expect {
        match (self.expect, self.in_fallback) {
            (expect, _) if attach.judges_all() => expect,
            (Expect::Denied(rule), InFallback::Recorded) => Expect::Recorded(rule),
            (Expect::Denied(rule), InFallback::RefusedInPart) => Expect::RefusedInPart(rule),
            (Expect::Denied(_), InFallback::Unseen) => Expect::Works,
            (Expect::Denied(_), InFallback::RefusedByCgroup) if !attach.judges_connects() => Expect::Works,
            (expect, _) => expect,
        }
    }

    /// Who tries it.
    const fn by(self, program: &'static str) -> Self {
        Self { program, ..self }
    }

    /// What mode `fallback` does instead of refusing it.
    const fn in_fallback(self, in_fallback: InFallback) -> Self {
        Self { in_fallback, ..self }
    }
}

/// In the order in which they run: what changes files comes after what only reads them, so that all of them work
/// where nothing is refused.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [
        aliases::CASES,
        exceptions::CASES,
        descendants::CASES,
        exec::CASES,
        connect::CASES,
        network::CASES,
        processes::CASES,
        lineage::CASES,
        permitted::CASES,
        globs::CASES,
        files::CASES,
    ]
    .into_iter()
    .flatten()
}

const fn denied(name: &'static str, rule: &'static str, act: fn() -> io::Result<()>) -> Case {
    Case {
        name,
        program: super::stage::ACT,
        act,
        expect: Expect::Denied(rule),
        in_fallback: InFallback::Refused,
    }
}

const fn works(name: &'static str, act: fn() -> io::Result<()>) -> Case {
    Case { name, program: super::stage::ACT, act, expect: Expect::Works, in_fallback: InFallback::Refused }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_rules_exist() {
        let mut names = BTreeSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{} is there twice", case.name);
            assert!(
                case.name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte.is_ascii_digit())
            );
            if let Expect::Denied(rule) = case.expect {
                let id = rule.split('/').next().unwrap_or(rule);
                assert!(crate::suite::stage::RULES.contains(&format!("id: {id}\n")), "{}", case.name);
            }
        }
    }
}
