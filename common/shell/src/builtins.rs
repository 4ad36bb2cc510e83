//! The builtins of bash.

use treeline_policy::tool::Opaque;

use crate::{arithmetic::is_number, command::Next, dialect::Dialect, operands, walk::Walk, word::Word};

/// Builtins that change nothing which matters here.
const HARMLESS: [&str; 24] = [
    ":", "true", "false", "echo", "pwd", "exit", "return", "break", "continue", "shift", "fg", "bg", "kill",
    "times", "umask", "ulimit", "dirs", "logout", "suspend", "disown", "caller", "help", "type", "unalias",
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
        // Others have no such builtin, and stay where they are.
        "pushd" | "popd" if walk.dialect() == Dialect::Posix => opaque(Opaque::Shell),
        "cd" | "pushd" | "popd" | "chdir" => {
            change_directory(walk, name, arguments);
            DONE
        }
        "jobs" => match arguments.iter().any(|word| may_be_option(word, 'x')) {
            true => opaque(Opaque::Builtin),
            false => DONE,
        },
        "wait" => wait(walk, arguments),
        "history" => match arguments.iter().all(|word| word.text().is_some_and(is_number)) {
            true => DONE,
            false => opaque(Opaque::Builtin),
        },
        "test" | "[" => test(walk, arguments),
        "printf" => printf(walk, arguments),
        "read" => read(walk, arguments),
        "mapfile" | "readarray" => mapfile(walk, arguments),
        "getopts" => getopts(walk, arguments),
        "export" | "readonly" | "declare" | "typeset" | "local" => declare(walk, name, arguments),
        "unset" => unset(walk, arguments),
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
        ("chdir", _) => None,
        ("popd", _) | (_, None) => None,
        (_, Some(word)) => {
            word.text().filter(|text| !text.is_empty() && !text.starts_with(['-', '+'])).map(str::to_owned)
        }
    };
    walk.go(target.as_deref());
}

/// Whether a word is, or can be, an option with such a letter.
fn may_be_option(word: &Word, letter: char) -> bool {
    match word.text() {
        Some(text) => text.starts_with('-') && text.contains(letter),
        None => word.is_many || word.prefix.is_empty() || word.prefix.starts_with('-'),
    }
}

/// Notes that a word has to be the number that a variable has; whether that is all that it can be.
fn is_a_number(walk: &mut Walk, word: &Word) -> bool {
    match &word.variable {
        // Without blanks in it, it stays one word.
        Some(name) if walk.splits_as_usual() => {
            walk.uses_number(name);
            true
        }
        _ => false,
    }
}

/// `wait`, whose `-p` assigns what it is told to.
fn wait(walk: &mut Walk, arguments: &[Word]) -> Option<Next> {
    let assigns = |word: &Word| may_be_option(word, 'p') && !is_a_number(walk, word);
    if arguments.iter().any(assigns) { opaque(Opaque::Arithmetic) } else { DONE }
}

/// `test`, whose `-v` evaluates the index of an array.
fn test(walk: &mut Walk, arguments: &[Word]) -> Option<Next> {
    const EVALUATING: [&str; 2] = ["-v", "-R"];
    let mut pairs = arguments.iter().zip(arguments.iter().skip(1));
    let evaluates = |(first, second): (&Word, &Word)| {
        let may_be = match first.text() {
            Some(text) => EVALUATING.contains(&text),
            None => EVALUATING.iter().any(|option| option.starts_with(&first.prefix)),
        };
        may_be && second.text().is_none_or(|text| text.contains('['))
    };
    // What is a number is no option, and what is behind it is none's value.
    let evaluates = pairs.any(|(first, second)| evaluates((first, second)) && !is_a_number(walk, first));
    let splits = |word: &&Word| word.is_many && word.text().is_none() && !word.is_glob;
    let all_numbers = arguments.iter().filter(splits).all(|word| is_a_number(walk, word));
    if evaluates || !all_numbers { opaque(Opaque::Arithmetic) } else { DONE }
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
        (None, next) if next.is_some() || first.is_many => {
            let is_option = "-v".starts_with(&first.prefix) || first.prefix.starts_with("-v");
            if is_option { opaque(Opaque::Arithmetic) } else { DONE }
        }
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
                    let attached = &option[at + 1..];
                    let name = if attached.is_empty() { words.next()?.text() } else { Some(attached) };
                    match name.filter(|name| !name.contains('[')) {
                        Some(name) => walk.assign_array(name),
                        None => return opaque(Opaque::Arithmetic),
                    }
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

fn mapfile(walk: &mut Walk, arguments: &[Word]) -> Option<Next> {
    if arguments.iter().any(|word| word.text().is_none_or(|text| text.contains(['[', 'C']))) {
        return opaque(Opaque::Builtin);
    }
    // Whichever of them is the name.
    for name in arguments.iter().map(|word| &word.prefix) {
        walk.assign_array(name);
    }
    DONE
}

fn getopts(walk: &mut Walk, arguments: &[Word]) -> Option<Next> {
    let Some(name) = arguments.get(1) else { return DONE };
    match name.text().filter(|name| !name.contains('[')) {
        Some(name) => {
            walk.assign(name, &Word::unknown());
            DONE
        }
        None => opaque(Opaque::Arithmetic),
    }
}

fn unset(walk: &mut Walk, arguments: &[Word]) -> Option<Next> {
    for name in arguments {
        match name.text().filter(|name| !name.contains('[')) {
            Some(name) => walk.unset(name),
            None => return opaque(Opaque::Arithmetic),
        }
    }
    DONE
}

fn declare(walk: &mut Walk, name: &str, arguments: &[Word]) -> Option<Next> {
    let mut is_array = false;
    for word in arguments {
        match (word.text(), word.prefix.split_once('=')) {
            // Integers are evaluated, and references name another variable.
            (Some(text), _) if text.starts_with(['-', '+']) => {
                if name != "export" && name != "readonly" && text.contains(['i', 'n']) {
                    return opaque(Opaque::Arithmetic);
                }
                is_array |= text.contains(['a', 'A']);
            }
            _ if word.prefix.split('=').next().is_some_and(|name| name.contains('[')) => {
                return opaque(Opaque::Arithmetic);
            }
            // Of an array that is a list, which is expanded once more.
            (_, Some((_, value))) if value.starts_with('(') => return opaque(Opaque::Arithmetic),
            (Some(_), Some((variable, value))) => {
                walk.assign(variable.trim_end_matches('+'), &Word::of(value));
            }
            (None, Some((variable, value))) => {
                let variable = variable.trim_end_matches('+');
                walk.assign(variable, &Word::unknown());
                match value.is_empty() {
                    true if is_array => return opaque(Opaque::Arithmetic),
                    true => walk.assign_list(variable),
                    false => {}
                }
            }
            // Within a function it has no value any more.
            (Some(variable), None) if is_array => walk.assign_array(variable),
            (Some(variable), None) if matches!(name, "local" | "declare" | "typeset") => walk.unset(variable),
            (Some(_), None) => {}
            (None, None) => return opaque(Opaque::Environment),
        }
    }
    DONE
}

/// Whether an option of the shell changes nothing of how a text is read.
pub(crate) fn is_harmless_option(name: &str) -> bool {
    OPTIONS.contains(&name)
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
            // It runs whenever, so wherever, and what is behind it is then anywhere.
            walk.whenever(|walk| walk.text(&code));
        }
    }
    DONE
}
