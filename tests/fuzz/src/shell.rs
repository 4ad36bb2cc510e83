//! Commands for a shell.

use treeline_policy::tool::{Features, Opaque};
use treeline_shell::{COMMAND_LEN_MAX, Context, features, secrets};

/// Whatever the command is, it is answered, the same each time; of one that can be followed every program has a name, and every
/// place is one that a rule can be matched against.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(command) = std::str::from_utf8(bytes) else { return false };
    let at = |path: &str| Some(path.to_owned());
    let context = Context { cwd: at("/work"), home: at("/home/u"), repository: at("/work") };
    let found = features(command, &context);
    assert_eq!(found, features(command, &context));
    assert!(command.len() <= COMMAND_LEN_MAX || found.opaque == [Opaque::Bounds]);
    check(&found);
    for secret in secrets::find(command) {
        assert!(command.get(secret.range()).is_some_and(|secret| !secret.is_empty()), "{secret:?}");
    }
    true
}

/// Has the parser's panics caught, where the engine would end the program. They are expected: it is run in a process of its own.
pub fn catch_panics_of_the_parser() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|location| location.file().contains("brush-parser")) {
            report(panic);
        }
    }));
}

fn check(found: &Features) {
    use treeline_policy::tool::Place::{At, Below};
    for place in [&found.reads, &found.writes, &found.touches].into_iter().flatten() {
        if let At(path) | Below(path) = place {
            assert!(path.starts_with('/') && !path.split('/').any(|name| name == ".."), "{path}");
        }
    }
    for command in &found.commands {
        assert!(!command.program.is_empty() && !command.program.contains('/'), "{command:?}");
    }
}

/// One of each construct, and what parsers of shells are known to hang on, to end on, or to take memory without bound for.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let crashers = [
        "<<E$[\t\t\t\t\t\t\t\t".to_owned(),
        "{\u{31860}".to_owned(),
        "a 99999999999999999999>b".to_owned(),
        "[[ x -eq {99999999999999999999..1} ]]".to_owned(),
        "a[~99999999999999999999]=1".to_owned(),
        "case x in x) ".repeat(40),
        "((".repeat(500),
        "a | ".to_owned() + &"( ".repeat(12),
        "$(".repeat(500),
        "\"${a:-".repeat(500),
        "[[ ( ".repeat(500),
        "! ".repeat(2_000),
        format!("[[ {}a ]]", "! ".repeat(10_000)),
        format!("[[ {}a ]]", "a && ".repeat(10_000)),
        "coproc ".repeat(9_000),
        format!("cd /{}; cat {}", "a".repeat(30_000), "b ".repeat(15_000)),
        "if a; then ".repeat(500),
        "a|".repeat(2_000),
    ];
    FOLLOWED.into_iter().map(Vec::from).chain(crashers.map(String::into_bytes)).collect()
}

const FOLLOWED: [&str; 9] = [
    "a -b 'c d' \"e\" | f && g; h &",
    "cd x && rm -rf y > z 2>&1",
    "if a; then b; else c; fi; while d; do e; done; for i in 1 2; do f; done",
    "case $x in a) b;; *) c;; esac; f() { d; }; f",
    "git commit -m \"$(cat <<'EOF'\nfix: it's\nEOF\n)\"",
    "cat <<-E | a\n\t$(b) `c` ${d:-$(e)}\n\tE\n",
    "x=1; x=$((x+1)); [[ -f a && b == c* ]]; ((1))",
    "env A=b sudo -u c timeout 5 xargs -I{} d {}; find . -exec e {} +; bash -c 'f \"$1\"'",
    "a <(b) >(c) {d,e} $'f\\x41' ~/g *.h",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_followed_to_their_end() {
        for command in FOLLOWED {
            let found = features(command, &Context::default());
            assert_eq!(found.opaque, [], "{command}");
        }
    }
}
