//! Words that must not be there.

use super::{
    finding::Finding,
    source::{Source, words},
};

/// Paths that exist on one machine only. (In two pieces, so that this file does not find itself.)
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/root/.", "cargo"),
    concat!("/root/.", "rustup"),
    concat!("/root/.", "pyenv"),
    concat!("/tmp/", "brief"),
    concat!("/tmp/", "setup"),
];
/// Promises to work later.
const PROMISES: &[&str] = &["TODO", "FIXME", "XXX"];

/// Any text: paths of the machine that it was written on.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for machine in MACHINE_PATHS.iter().filter(|machine| holds_path(line, machine)) {
            findings.push(Finding::new(
                path,
                index + 1,
                format!("`{machine}` is a path of one machine"),
                "the project is built elsewhere, too",
                "take it from the checkout's root, the environment or a temporary folder",
            ));
        }
    }
    findings
}

/// Rust: promises, and tests that do not run.
pub(crate) fn check_source(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.numbered() {
        for promise in PROMISES.iter().filter(|promise| words(&line.comment, promise).next().is_some()) {
            findings.push(Finding::new(
                source.path(),
                number,
                format!("a comment says `{promise}`"),
                "the tree holds what is finished",
                "do it, or say what is so and why",
            ));
        }
        for stub in ["todo!", "unimplemented!"].iter().filter(|stub| line.code.contains(*stub)) {
            findings.push(Finding::new(
                source.path(),
                number,
                format!("`{stub}` is a stub"),
                "a user could meet it",
                "write it, or leave out what leads to it",
            ));
        }
        if line.code.contains("#[ignore") {
            findings.push(Finding::new(
                source.path(),
                number,
                "the test is ignored",
                "an ignored test is not seen to rot",
                "let it skip by name and reason where its conditions are not met, or remove it",
            ));
        }
    }
    findings
}

/// Whether an absolute path that begins with `machine` stands in `line`; the same piece inside a longer path does not count.
fn holds_path(line: &str, machine: &str) -> bool {
    line.match_indices(machine).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || "._-~*}/>".contains(character))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths() {
        let work = MACHINE_PATHS[0];
        let cases = [
            (format!("cd {work}main"), 1),
            (format!("\"{work}main\""), 1),
            (format!("/home/dev{work}main"), 0),
            (format!("~{work}main"), 0),
            ("/workspace/".to_owned(), 0),
            (format!("{}/bin", MACHINE_PATHS[1]), 1),
        ];
        for (text, expect) in cases {
            assert_eq!(check("a.md", &text).len(), expect, "{text}");
        }
    }

    #[test]
    fn promises_and_stubs() {
        let cases = [
            ("// TODO: later", 1),
            ("/// FIXME", 1),
            ("let s = \"TODO\";", 0),
            ("// TODOS", 0),
            ("fn a() { todo!() }", 1),
            ("#[test]\n#[ignore]\nfn a() {}", 1),
            ("#[ignore = \"slow\"]", 1),
            ("// an #[ignore] in a comment", 0),
        ];
        for (text, expect) in cases {
            assert_eq!(check_source(&Source::parse("a.rs", text)).len(), expect, "{text}");
        }
    }
}
