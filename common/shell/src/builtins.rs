//! The builtins of bash.

use treeline_policy::tool::Opaque;

use crate::{command::Next, directories::Directories, operands, walk::Walk, word::Word};

/// Builtins that change nothing which matters here.
const HARMLESS: [&str; 27] = [
    ":", "true", "false", "echo", "pwd", "exit", "return", "break", "continue", "shift", "wait", "jobs",
    "fg", "bg", "kill", "times", "umask", "ulimit", "dirs", "logout", "suspend", "disown", "caller", "help",
    "type", "unalias", "history",
];
/// Builtins that change what the rest means, or run something later.
const CHANGING: [&str; 8] = ["alias", "enable", "bind", "complete", "compgen", "compopt", "fc", "coproc"];
/// Options of the shell that change nothing of how a text is read.
const OPTIONS: [&str; 11] = [
    "errexit",
    "nounset",
    "pipefail",
    "xtrace",
    "verbose",
    "noglob",
    "noclobber",
    "nullglob",
    "globstar",
    "dotglob",
    "failglob",
];
const DONE: Option<Next> = Some(Next::Done);

fn opaque(why: Opaque) -> Option<Next> {
    Some(Next::Opaque(why))
}

/// Runs a builtin; none if there is none of this name, or it is one that runs a program.
pub(crate) fn run(walk: &mut Walk, name: &str, arguments: &[Word]) -> Option<Next> {
    match name {
        "eval" => opaque(Opaque::Eval),
        "source" | "." => {
            if let Some(file) = arguments.first() {
                let places = operands::places(file, &walk.directories());
                walk.features.reads.extend(places);
            }
            opaque(Opaque::Source)
        }
        "cd" | "pushd" | "popd" => {
            change_directory(walk, name, arguments);
            DONE
        }
        "test" | "[" => test(arguments),
        "printf" => printf(walk, arguments),
        "read" => read(walk, arguments),
        "mapfile" | "readarray" => {
            match arguments.iter().any(|word| word.text().is_none_or(|text| text.contains(['[', 'C']))) {
                true => opaque(Opaque::Builtin),
                false => DONE,
            }
        }
        "getopts" => {
            arguments.iter().skip(1).take(1).for_each(|word| walk.assign(&word.prefix, &Word::unknown()));
            DONE
        }
        "export" | "readonly" | "declare" | "typeset" | "local" => declare(walk, name, arguments),
        "unset" => match arguments.iter().any(|word| word.text().is_none_or(|text| text.contains('['))) {
            true => opaque(Opaque::Arithmetic),
            false => DONE,
        },
        "let" => {
            for word in arguments {
                match word.text().map(str::to_owned) {
                    Some(code) => walk.arithmetic(&code),
                    None => walk.opaque(Opaque::Arithmetic),
                }
            }
            DONE
        }
        "set" | "shopt" => set(name, arguments),
        "trap" => trap(walk, arguments),
        "hash" => match arguments.iter().all(|word| matches!(word.text(), Some("-r" | "-l" | "-t"))) {
            true => DONE,
            false => opaque(Opaque::Builtin),
        },
        "command" if arguments.first().is_some_and(|word| matches!(word.text(), Some("-v" | "-V"))) => DONE,
        "time" => None,
        _ if HARMLESS.contains(&name) => DONE,
        _ if CHANGING.contains(&name) => opaque(Opaque::Builtin),
        _ => None,
    }
}

fn change_directory(walk: &mut Walk, name: &str, arguments: &[Word]) {
    let flags = ["-P", "-L", "-e", "--"];
    let mut words = arguments.iter().skip_while(|word| word.text().is_some_and(|text| flags.contains(&text)));
    let target = match (name, words.next()) {
        ("cd", None) => walk.home().map(str::to_owned),
        ("popd", _) | (_, None) => None,
        (_, Some(word)) => {
            word.text().filter(|text| !text.is_empty() && !text.starts_with(['-', '+'])).map(str::to_owned)
        }
    };
    walk.go(target.as_deref());
}

/// `test`, whose `-v` evaluates the index of an array.
fn test(arguments: &[Word]) -> Option<Next> {
    let is_unknown = |word: &Word| word.text().is_none();
    let mut pairs = arguments.iter().zip(arguments.iter().skip(1));
    let evaluates = |(first, second): (&Word, &Word)| {
        let may_be = first.text().is_none_or(|text| matches!(text, "-v" | "-R"))
            && (first.text().is_some() || first.prefix.is_empty());
        may_be && second.text().is_none_or(|text| text.contains('['))
    };
    let splits = arguments.iter().any(|word| word.is_many && is_unknown(word) && !word.is_glob);
    if splits || pairs.any(evaluates) { opaque(Opaque::Arithmetic) } else { DONE }
}

fn printf(walk: &mut Walk, arguments: &[Word]) -> Option<Next> {
    let first = arguments.first()?;
    match (first.text(), arguments.get(1)) {
        (Some(text), Some(name)) if text.starts_with("-v") => match name.text() {
            Some(name) if text == "-v" && !name.contains('[') => {
                walk.assign(name, &Word::unknown());
                DONE
            }
            _ => opaque(Opaque::Arithmetic),
        },
        (Some(text), _) if text.starts_with("-v") => opaque(Opaque::Arithmetic),
        (None, Some(_)) if first.prefix.is_empty() => opaque(Opaque::Arithmetic),
        _ => DONE,
    }
}

fn read(walk: &mut Walk, arguments: &[Word]) -> Option<Next> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(text) = word.text() else { return opaque(Opaque::Arithmetic) };
        match text.strip_prefix('-') {
            // The value is a word of its own if the letter is the last.
            Some(option) => match option.find(|c| "adinNptu".contains(c)) {
                Some(at) if &option[at..=at] == "a" => {
                    _ = words.next().map(|name| walk.assign(&name.prefix, &Word::unknown()));
                }
                Some(at) if at + 1 == option.len() => _ = words.next(),
                _ => {}
            },
            None if text.contains('[') => return opaque(Opaque::Arithmetic),
            None => walk.assign(text, &Word::unknown()),
        }
    }
    DONE
}

fn declare(walk: &mut Walk, name: &str, arguments: &[Word]) -> Option<Next> {
    for word in arguments {
        match (word.text(), word.prefix.split_once('=')) {
            // Integers are evaluated, and references name another variable.
            (Some(text), _) if text.starts_with('-') => {
                if name != "export" && name != "readonly" && text.contains(['i', 'n']) {
                    return opaque(Opaque::Arithmetic);
                }
            }
            _ if word.prefix.split('=').next().is_some_and(|name| name.contains('[')) => {
                return opaque(Opaque::Arithmetic);
            }
            (Some(_), Some((variable, value))) => {
                walk.assign(variable.trim_end_matches('+'), &Word::of(value));
            }
            (None, Some((variable, _))) => walk.assign(variable.trim_end_matches('+'), &Word::unknown()),
            (Some(_), None) => {}
            (None, None) => return opaque(Opaque::Environment),
        }
    }
    DONE
}

fn set(name: &str, arguments: &[Word]) -> Option<Next> {
    for word in arguments {
        let Some(text) = word.text() else { return opaque(Opaque::Builtin) };
        let is_known = match text.strip_prefix(['-', '+']) {
            Some("-" | "") if name == "set" => return DONE,
            Some(letters) if name == "set" => letters.chars().all(|letter| "euxvfhnmCEo".contains(letter)),
            Some(letters) => letters.chars().all(|letter| "suqpo".contains(letter)),
            None => {
                OPTIONS.contains(&text)
                    || (name == "shopt" && arguments[0].text() == Some("-u") && text == "extglob")
            }
        };
        if !is_known {
            return opaque(Opaque::Builtin);
        }
    }
    DONE
}

fn trap(walk: &mut Walk, arguments: &[Word]) -> Option<Next> {
    let mut words = arguments.iter().skip_while(|word| word.text() == Some("--"));
    let Some(first) = words.next() else { return DONE };
    match first.text().map(str::to_owned) {
        None => return opaque(Opaque::Builtin),
        Some(text) if matches!(text.as_str(), "" | "-" | "-l" | "-p") => {}
        Some(code) => {
            // It runs whenever, so wherever.
            let before = walk.directories();
            walk.restore(Directories::ANYWHERE);
            walk.text(&code);
            walk.restore(before);
        }
    }
    DONE
}
