//! Everything that a subject tries inside a session, and what has to come of it.

mod aliases;
mod connect;
mod descendants;
mod exceptions;
mod exec;
mod files;
pub(crate) mod globs;
pub(crate) mod interpreters;
mod lifts;
mod lineage;
mod network;
mod permitted;
mod processes;

use std::io;
use std::path::Path;

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
    /// What the log has of it, whatever rules say.
    pub(crate) events: &'static [Event],
    /// The file without which it cannot be tried in a guest.
    needs: Option<&'static str>,
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

/// Something that happened and that no rule is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The exec of the program that its arguments name first; `script` is the file that the kernel ran by it, empty when
    /// it was the program itself that was executed.
    Exec { argv: &'static [&'static str], script: &'static str },
    /// The opening of this file, by the process that tries the case.
    Open(&'static str),
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

    /// Why it cannot be tried in this guest, if it cannot.
    pub(crate) fn lacks(&self) -> Option<String> {
        let path = self.needs.filter(|path| !Path::new(path).exists())?;
        Some(format!("there is no `{path}` in this guest"))
    }

    /// Who tries it.
    const fn by(self, program: &'static str) -> Self {
        Self { program, ..self }
    }

    /// What mode `fallback` does instead of refusing it.
    const fn in_fallback(self, in_fallback: InFallback) -> Self {
        Self { in_fallback, ..self }
    }

    /// What the log has to have of it.
    const fn recorded(self, events: &'static [Event]) -> Self {
        Self { events, ..self }
    }

    /// What the guest has to have for it.
    const fn needs(self, path: &'static str) -> Self {
        Self { needs: Some(path), ..self }
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
        interpreters::CASES,
        connect::CASES,
        network::CASES,
        processes::CASES,
        lineage::CASES,
        permitted::CASES,
        lifts::CASES,
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
        events: &[],
        needs: None,
    }
}

const fn works(name: &'static str, act: fn() -> io::Result<()>) -> Case {
    Case { expect: Expect::Works, ..denied(name, "", act) }
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
                let rules = [crate::suite::stage::RULES, interpreters::RULES];
                assert!(rules.iter().any(|text| text.contains(&format!("  - id: {id}\n"))), "{}", case.name);
            }
        }
    }
}
