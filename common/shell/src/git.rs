//! `git`, some of whose commands run what they are told to.
//!
//! What the configuration of a repository, its hooks and its aliases run is not in the text.

use crate::{options::Options, word::Word};

const fn command(name: &'static str, runs: &'static str, runs_long: &'static [&'static str]) -> Options {
    Options { name, runs, runs_long, valued: "", attached: "", valued_long: &[] }
}

/// Commands with options that run something. Those of the others are not looked at.
const COMMANDS: [Options; 13] = [
    Options {
        valued: "boj",
        valued_long: &["branch", "depth", "origin", "jobs"],
        ..command("clone", "uc", &["upload-pack", "config", "template"])
    },
    Options { valued: "j", valued_long: &["depth"], ..command("fetch", "", &["upload-pack"]) },
    Options { valued: "jsX", valued_long: &["depth"], ..command("pull", "s", &["upload-pack", "strategy"]) },
    Options { valued: "o", valued_long: &["repo"], ..command("push", "", &["receive-pack", "exec"]) },
    command("ls-remote", "", &["upload-pack", "exec"]),
    command("fetch-pack", "", &["upload-pack", "exec"]),
    command("send-pack", "", &["receive-pack", "exec"]),
    Options { valued: "o", ..command("archive", "", &["exec", "remote"]) },
    Options { valued: "X", valued_long: &["onto"], ..command("rebase", "xs", &["exec", "strategy"]) },
    Options { valued: "mX", ..command("merge", "s", &["strategy"]) },
    command("difftool", "xt", &["extcmd", "tool"]),
    Options { valued: "ABCef", ..command("grep", "O", &["open-files-in-pager"]) },
    Options { valued: "b", ..command("init", "", &["template"]) },
];
/// Commands that run others whatever their options are.
const RUNNING: [&str; 15] = [
    "merge-index",
    "filter-branch",
    "send-email",
    "remote-ext",
    "remote-fd",
    "instaweb",
    "web--browse",
    "for-each-repo",
    "hook",
    "shell",
    "mergetool",
    "daemon",
    "p4",
    "svn",
    "credential",
];
/// Options before the command that have a value of their own.
const VALUED: [&str; 5] = ["-C", "--git-dir", "--work-tree", "--namespace", "--attr-source"];
/// What the configuration can be told without making something run.
const SETTINGS: [&str; 9] = [
    "user.",
    "color.",
    "advice.",
    "init.default",
    "pull.rebase",
    "push.default",
    "branch.",
    "core.autocrlf",
    "fetch.prune",
];

/// Whether a call runs nothing but what git runs by itself.
pub(crate) fn is_harmless(arguments: &[Word]) -> bool {
    // A transport that is a command.
    if arguments.iter().any(|word| word.prefix.contains("ext::")) {
        return false;
    }
    let mut rest = arguments;
    loop {
        let Some((first, behind)) = rest.split_first() else { return true };
        // Without the command, the rest cannot be told either.
        let Some(text) = first.text() else { return false };
        rest = behind;
        match text {
            _ if !text.starts_with('-') => return is_command_harmless(text, rest),
            _ if VALUED.contains(&text) => match rest.split_first() {
                Some((value, behind)) if !value.is_many => rest = behind,
                _ => return rest.is_empty(),
            },
            // An alias, a pager or an editor.
            _ if text.starts_with("-c")
                || ["--config-env", "--exec-path="].iter().any(|o| text.starts_with(o)) =>
            {
                return false;
            }
            _ => {}
        }
    }
}

fn is_command_harmless(command: &str, arguments: &[Word]) -> bool {
    let may_be = |wanted: &str| {
        arguments.iter().any(|word| match word.text() {
            Some(text) => text == wanted,
            None => word.is_many && !word.is_glob || wanted.starts_with(&word.prefix),
        })
    };
    match command {
        "submodule" => !may_be("foreach"),
        "bisect" => !may_be("run"),
        "config" => configures_nothing(arguments),
        _ if RUNNING.contains(&command) => false,
        _ => match COMMANDS.iter().find(|options| options.name == command) {
            Some(options) => options.are_harmless(arguments),
            None => true,
        },
    }
}

/// Whether `git config` only reads, or sets what names no program.
fn configures_nothing(arguments: &[Word]) -> bool {
    const READING: [&str; 6] = ["--get", "--get-all", "--get-regexp", "--list", "-l", "--unset"];
    let is_one = |word: &Word| word.text().is_some() || !word.is_many;
    if arguments.first().and_then(Word::text).is_some_and(|text| READING.contains(&text)) {
        return arguments.iter().all(is_one);
    }
    let mut words = arguments.iter().skip_while(|word| word.prefix.starts_with('-')).take(2);
    let Some(key) = words.next() else { return true };
    let is_setting = |key: &str| SETTINGS.iter().any(|setting| key.starts_with(setting));
    let is_read = arguments.len() == 1 && !matches!(key.text(), None | Some("set" | "edit"));
    is_read || key.text().is_some_and(is_setting) && arguments.iter().all(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: bool) {
        // `x$` is one word that is not known to its end, and `x$$` any number.
        let of = |text: &str| match text.split_once('$') {
            Some((prefix, rest)) => Word { is_many: rest == "$", prefix: prefix.into(), ..Word::default() },
            None => Word::of(text),
        };
        let words: Vec<Word> = line.split(' ').map(of).collect();
        assert_eq!(is_harmless(&words), expect, "{line}");
    }

    #[test]
    fn what_runs_others() {
        for line in [
            "clone --upload-p=a b",
            "clone -qu a b",
            "clone --config a=b c",
            "clone -c a=b c",
            "clone ext::a",
            "clone $",
            "-c alias.a=!b a",
            "-calias.a=!b a",
            "--config-env=a=b c",
            "$$ a",
            "$ a",
            "rebase -ix a",
            "rebase --ex a b",
            "difftool -yx a",
            "grep -nO a",
            "submodule foreach a",
            "submodule $",
            "bisect run a",
            "filter-branch a",
            "merge-index a -a",
            "send-pack --exec=a b",
            "push origin $",
            "push --rece=a b",
            "config alias.a !b",
            "config --global core.pager a",
            "config $ a",
            "merge -s a b",
            "init --template=a",
            "--exec-path=a b",
        ] {
            check(line, false);
        }
    }

    #[test]
    fn what_runs_nothing_else() {
        for line in [
            "log -c",
            "switch -c a",
            "clean -fdx",
            "commit -m $",
            "commit -m $$",
            "-C $ status",
            "push -u origin main",
            "push origin -- $",
            "push -fu origin main",
            "rebase -i HEAD~2",
            "rebase --onto $ a",
            "fetch --depth 1 origin",
            "add $$",
            "config user.name $",
            "config --get core.pager",
            "config core.pager",
            "config --global user.email a",
            "bisect good",
            "grep -n -e $ src",
            "clone --depth 1 -b $ https://a/b",
            "--version",
            "status",
        ] {
            check(line, true);
        }
    }
}
