//! One simple command: its program, and the programs that this one is told to run.

use treeline_policy::tool::{Command, Opaque, Place};

use crate::{
    builtins, operands,
    programs::{Kind, kind},
    sed,
    walk::Walk,
    word::Word,
    wrapper,
};

/// Builtins that change the working directory.
pub(crate) const MOVING: [&str; 3] = ["cd", "pushd", "popd"];
/// Wrappers within wrappers.
const WRAPPERS_MAX: usize = 16;

/// What is left to be run of a command.
pub(crate) enum Next {
    /// Nothing.
    Done,
    /// Another command.
    Run(Vec<Word>),
    /// Nothing that can be told.
    Opaque(Opaque),
}

/// Runs a command, and whatever it runs.
pub(crate) fn run(walk: &mut Walk, words: &[Word]) {
    let mut words = words.to_vec();
    for _ in 0..WRAPPERS_MAX {
        if !walk.visit() {
            return;
        }
        match step(walk, &words) {
            Next::Done => return,
            Next::Run(next) => words = next,
            Next::Opaque(why) => return walk.opaque(why),
        }
    }
    walk.opaque(Opaque::Bounds);
}

fn step(walk: &mut Walk, words: &[Word]) -> Next {
    let Some((name, arguments)) = words.split_first() else { return Next::Done };
    let Some(written) = name.text().filter(|written| !written.is_empty() && !written.ends_with('/')) else {
        return Next::Opaque(Opaque::Program);
    };
    let program = written.rsplit('/').next().unwrap_or(written);
    let command = walk.features.commands.len();
    record(walk, written, program, arguments);
    if program == written
        && let Some(next) = builtins::run(walk, program, arguments)
    {
        // `history -w FILE`.
        walk.features.commands[command].is_complete = program != "history" || arguments.is_empty();
        return next;
    }
    let (next, is_complete) = follow(walk, program, arguments);
    walk.features.commands[command].is_complete = is_complete;
    next
}

/// Takes up what a program other than a builtin does. Whether that is all that it is told to do.
fn follow(walk: &mut Walk, program: &str, arguments: &[Word]) -> (Next, bool) {
    let has_word =
        |word: &str| arguments.iter().any(|argument| argument.text().is_none_or(|text| text == word));
    match kind(program, has_word) {
        Kind::Wrapper(wrapper) => wrapper::run(walk, wrapper, arguments),
        Kind::OtherWrapper => (Next::Opaque(Opaque::Wrapper), false),
        Kind::Remote => {
            operands::run(walk, program, arguments);
            (Next::Opaque(Opaque::Remote), false)
        }
        Kind::Shell => shell(walk, arguments),
        Kind::OtherShell => (Next::Opaque(Opaque::Shell), false),
        // What a script does is not in the text.
        Kind::Interpreter(letters) => (interpreter(walk, letters, arguments), false),
        Kind::Plain => {
            let is_complete = operands::run(walk, program, arguments);
            (plain(program, arguments), is_complete)
        }
    }
}

/// Notes a program with its arguments.
fn record(walk: &mut Walk, written: &str, program: &str, arguments: &[Word]) {
    let mut command = Command { program: program.to_owned(), ..Command::default() };
    if written.contains('/') {
        let places = walk.directories().places(written, Place::At);
        command.path = Some(match places.as_slice() {
            [place] => place.clone(),
            _ => Place::Unknown,
        });
    }
    let mut are_words = false;
    for argument in arguments {
        match argument.text() {
            Some("--") if !are_words => are_words = true,
            Some(text) if !are_words && text.len() > 1 && text.starts_with('-') => {
                flags(text, &mut command.flags);
            }
            Some(text) => command.words.push(text.to_owned()),
            None => {
                command.is_vague = true;
                if let Some((flag, _)) =
                    argument.prefix.split_once('=').filter(|_| argument.prefix.starts_with("--"))
                {
                    command.flags.push(flag.to_owned());
                }
            }
        }
    }
    walk.features.commands.push(command);
}

/// The options that an argument is.
fn flags(text: &str, flags: &mut Vec<String>) {
    let whole = text.split('=').next().unwrap_or(text);
    flags.push(whole.to_owned());
    if !whole.starts_with("--") && whole.chars().count() > 2 {
        flags.extend(whole.chars().skip(1).map(|letter| format!("-{letter}")));
    }
}

/// A shell: a command of its own, a script, or what it reads. Whether it was followed.
fn shell(walk: &mut Walk, arguments: &[Word]) -> (Next, bool) {
    const UNKNOWN: (Next, bool) = (Next::Opaque(Opaque::Shell), false);
    let mut rest = arguments;
    let mut has_code = false;
    while let Some((first, behind)) = rest.split_first() {
        let Some(text) = first.text() else { return UNKNOWN };
        let Some(letters) = text.strip_prefix(['-', '+']).filter(|letters| !letters.is_empty()) else {
            break;
        };
        rest = behind;
        match letters {
            "-" => break,
            "-version" | "-help" => return (Next::Done, true),
            "-login" | "-norc" | "-noprofile" | "-posix" => {}
            _ if letters.contains(|c: char| !"abcefhilmnuvxBCEHPT".contains(c))
                && letters != "o"
                && letters != "eo"
                && letters != "euo"
                && letters != "euxo" =>
            {
                return UNKNOWN;
            }
            _ => {
                has_code |= letters.contains('c');
                if letters.ends_with('o') {
                    let Some((_, behind)) = rest.split_first().filter(|(name, _)| name.text().is_some())
                    else {
                        return UNKNOWN;
                    };
                    rest = behind;
                }
            }
        }
    }
    let Some(first) = rest.first() else { return UNKNOWN };
    let Some(text) = first.text().map(str::to_owned) else { return UNKNOWN };
    if has_code {
        let before = walk.directories();
        walk.text(&text);
        walk.restore(before);
        return (Next::Done, true);
    }
    if is_stream(&text) {
        return UNKNOWN;
    }
    let places = operands::places(first, &walk.directories());
    walk.features.reads.extend(places);
    // What a script does is not in the text.
    (Next::Done, false)
}

/// Whether a file is what the program is given, and no file.
fn is_stream(path: &str) -> bool {
    path == "-" || path.starts_with("/dev/") || path.starts_with("/proc/")
}

/// An interpreter: a program among its arguments, a script, or what it reads.
fn interpreter(walk: &mut Walk, letters: &str, arguments: &[Word]) -> Next {
    const UNKNOWN: Next = Next::Opaque(Opaque::Interpreter);
    if arguments.iter().any(|word| word.is_many) {
        return UNKNOWN;
    }
    let mut script = None;
    for argument in arguments {
        let Some(text) = argument.text() else { return UNKNOWN };
        let is_word = matches!(text, "eval" | "repl" | "exec" | "x") && script.is_none();
        let long = ["--eval", "--print", "--command", "--require", "--import", "--run"];
        if is_word || is_stream(text) || long.iter().any(|long| text.starts_with(long)) {
            return UNKNOWN;
        }
        match text.strip_prefix('-') {
            Some("-version" | "-help" | "V" | "v" | "h") => return Next::Done,
            Some("m") => return Next::Done,
            Some(option) if !option.starts_with('-') && option.contains(|c| letters.contains(c)) => {
                return UNKNOWN;
            }
            Some(_) => {}
            None => {
                script = Some(argument);
                break;
            }
        }
    }
    let Some(script) = script else { return UNKNOWN };
    let places = operands::places(script, &walk.directories());
    walk.features.reads.extend(places);
    Next::Done
}

/// What of other programs' arguments is a program.
fn plain(program: &str, arguments: &[Word]) -> Next {
    match program {
        "find" => find(arguments),
        "awk" | "gawk" | "mawk" | "nawk" | "bawk" => {
            let is_code = |word: &Word| {
                word.text().is_none_or(|text| {
                    ["system", "|", "getline", ">", "@"].iter().any(|word| text.contains(word))
                })
            };
            if arguments.iter().any(is_code) { Next::Opaque(Opaque::Interpreter) } else { Next::Done }
        }
        "sed" | "gsed" => {
            if sed::is_harmless(arguments) {
                Next::Done
            } else {
                Next::Opaque(Opaque::Interpreter)
            }
        }
        "vi" | "vim" | "nvim" | "ex" | "ed" | "emacs" | "make" | "gmake" | "tar" | "rsync" | "zip"
        | "git" => options(program, arguments),
        _ => Next::Done,
    }
}

/// Programs that only some options tell to run another.
fn options(program: &str, arguments: &[Word]) -> Next {
    let runs: &[&str] = match program {
        "tar" => &[
            "--to-command",
            "--checkpoint-action",
            "--use-compress-program",
            "-I",
            "--info-script",
            "--new-volume-script",
            "-F",
            "--rsh-command",
        ],
        "rsync" => &["-e", "--rsh", "--rsync-path"],
        "zip" => &["-TT", "--unzip-command"],
        "make" | "gmake" => &["--eval", "-E"],
        "git" => &[
            "-c",
            "--config-env",
            "--exec",
            "--upload-pack",
            "--receive-pack",
            "-x",
            "--extcmd",
            "--exec-path",
        ],
        _ => &["-c", "--cmd", "-S", "-s", "--eval", "--batch", "-l", "-f"],
    };
    let is_run = |word: &Word| {
        let text = word.text().unwrap_or(&word.prefix);
        runs.iter().any(|run| text.starts_with(run)) || (text.starts_with('+') && program != "git")
    };
    // `git rebase -x`, `git bisect run`, `git submodule foreach`, `git filter-branch`.
    let words = ["foreach", "filter-branch"];
    let is_word = |word: &Word| program == "git" && word.text().is_some_and(|text| words.contains(&text));
    let bisects = program == "git"
        && ["bisect", "run"].iter().all(|wanted| arguments.iter().any(|word| word.text() == Some(wanted)));
    let is_many = arguments.iter().any(|word| word.is_many && !word.is_glob && word.prefix.is_empty());
    if arguments.iter().any(|word| is_run(word) || is_word(word)) || bisects || is_many && program != "git" {
        return Next::Opaque(Opaque::Wrapper);
    }
    Next::Done
}

/// `find`, which runs what is between `-exec` and `;` or `+`.
fn find(arguments: &[Word]) -> Next {
    const ACTIONS: [&str; 4] = ["-exec", "-execdir", "-ok", "-okdir"];
    let is_action = |word: &Word| word.text().is_some_and(|text| ACTIONS.contains(&text));
    let ends = |word: &Word| matches!(word.text(), Some(";" | "+"));
    let count = arguments.iter().filter(|word| is_action(word)).count();
    let is_hidden = arguments
        .iter()
        .any(|word| word.text().is_none() && (word.prefix.is_empty() || word.prefix.starts_with('-')));
    let is_many = arguments.iter().any(|word| word.is_many && !word.is_glob);
    match count {
        // An action needs an end; without one, and with single words alone, there is none.
        0 if is_many || (is_hidden && arguments.iter().any(ends)) => Next::Opaque(Opaque::Wrapper),
        0 => Next::Done,
        1 if !is_many && !is_hidden => {
            let Some(start) = arguments.iter().position(is_action) else { return Next::Done };
            let behind = &arguments[start + 1..];
            let Some(end) = behind.iter().position(ends) else { return Next::Opaque(Opaque::Wrapper) };
            let found = |word: &Word| match word.text() {
                Some(text) if text.contains("{}") => Word { is_many: text == "{}", ..Word::unknown() },
                _ => word.clone(),
            };
            Next::Run(behind[..end].iter().map(found).collect())
        }
        _ => Next::Opaque(Opaque::Wrapper),
    }
}
