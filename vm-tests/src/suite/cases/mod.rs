//! Everything that a subject tries inside a session, and what has to come of it.

mod aliases;
mod connect;
mod exceptions;
mod exec;
mod files;
mod lineage;
mod network;
mod permitted;

use std::io;

/// One thing that is tried.
pub(crate) struct Case {
    /// Unique, `kebab-case`.
    pub(crate) name: &'static str,
    /// The executable that tries it: a copy of this program.
    pub(crate) program: &'static str,
    pub(crate) act: fn() -> io::Result<()>,
    pub(crate) expect: Expect,
}

/// What has to come of a case.
pub(crate) enum Expect {
    /// In `enforce` it fails with `EPERM`, in `monitor` it works; the log says so and names this rule.
    Denied(&'static str),
    /// It works and no rule matched.
    Works,
}

/// In the order in which they run: what changes files comes after what only reads them, so that all of them work
/// where nothing is refused.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [
        aliases::CASES,
        exceptions::CASES,
        exec::CASES,
        connect::CASES,
        network::CASES,
        lineage::CASES,
        permitted::CASES,
        files::CASES,
    ]
    .into_iter()
    .flatten()
}

const fn denied(name: &'static str, rule: &'static str, act: fn() -> io::Result<()>) -> Case {
    Case { name, program: super::stage::ACT, act, expect: Expect::Denied(rule) }
}

const fn works(name: &'static str, act: fn() -> io::Result<()>) -> Case {
    Case { name, program: super::stage::ACT, act, expect: Expect::Works }
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
                assert!(crate::suite::stage::RULES.contains(&format!("id: {rule}\n")), "{}", case.name);
            }
        }
    }
}
