//! One simple command: its program, and the programs that this one is told to run.

use treeline_policy::tool::{Command, Opaque, Place};

use crate::{
    builtins,
    dialect::Dialect,
    directories::Directories,
    git, operands, options,
    programs::{Interpreter, Kind, kind},
    sed,
    walk::Walk,
    word::Word,
    wrapper,
};

/// Builtins that change the working directory.
pub(crate) const MOVING: [&str; 4] = ["cd", "chdir", "pushd", "popd"];
/// Wrappers within wrappers.
const WRAPPERS_MAX: usize = 16;

/// What is left to be run of a command.
pub(crate) enum Next {
    /// Nothing.
    Done,
    /// Another command.
    Run(Vec<Word>),
    /// Another command, in whatever directory.
    RunAnywhere(Vec<Word>),
    /// Nothing that can be told.
    Opaque(Opaque),
}

/// Runs a command, and whatever it runs.
pub(crate) fn run(walk: &mut Walk, words: &[Word]) {
    let home = walk.home().map(str::to_owned);
    let mut before = None;
    unfold(walk, words.to_vec(), &mut before);
    if let Some(before) = before {
        walk.restore(before);
    }
    walk.change_home(home);
}

/// Runs a command and what it runs; `before` is to be the directory that it was run in, if that is not known within it.
fn unfold(walk: &mut Walk, mut words: Vec<Word>, before: &mut Option<Directories>) {
    for _ in 0..WRAPPERS_MAX {
        if !walk.visit() {
            return;
        }
        match step(walk, &words) {
            Next::Done => return,
            Next::Run(next) => words = next,
            Next::RunAnywhere(next) => {
                before.get_or_insert(walk.directories());
                walk.restore(Directories::ANYWHERE);
                words = next;
            }
            Next::Opaque(why) => return walk.opaque(why),
        }
    }
    walk.opaque(Opaque::Bounds);
}

fn step(walk: &mut Walk, words: &[Word]) -> Next {
    let Some((name, arguments)) = words.split_first() else { return Next::Done };
    // `time -- a` runs `a`, though to the parser it is called `--`.
    let is_name =
        |written: &&str| !written.is_empty() && !written.ends_with('/') && !written.starts_with('-');
    let Some(written) = name.text().filter(is_name) else {
        return Next::Opaque(Opaque::Program);
    };
    let program = written.rsplit('/').next().unwrap_or(written);
    if !walk.fits(words) {
        return Next::Done;
    }
    let (command, opaque) = (walk.features.commands.len(), walk.features.opaque.len());
    record(walk, written, program, arguments);
    let builtin = if program == written { builtins::run(walk, program, arguments) } else { None };
    let (next, is_complete) = match builtin {
        // `history -w FILE`.
        Some(next) => (next, program != "history" || arguments.is_empty()),
        None => follow(walk, program, arguments),
    };
    // What was not followed may use whatever it likes.
    let is_followed = walk.features.opaque.len() == opaque && !matches!(next, Next::Opaque(_));
    walk.features.commands[command].is_complete = is_complete && is_followed;
    next
}

/// Takes up what a program other than a builtin does. Whether that is all that it is told to do.
fn follow(walk: &mut Walk, program: &str, arguments: &[Word]) -> (Next, bool) {
    let has_word = |word: &str| {
        arguments.iter().any(|argument| match argument.text() {
            Some(text) => text == word,
            None => argument.is_many && !argument.is_glob || word.starts_with(&argument.prefix),
        })
    };
    match kind(program, has_word) {
        Kind::Wrapper(wrapper) => wrapper::run(walk, wrapper, arguments),
        Kind::OtherWrapper => (Next::Opaque(Opaque::Wrapper), false),
        Kind::Remote => {
            operands::run(walk, program, arguments);
            (Next::Opaque(Opaque::Remote), false)
        }
        Kind::Shell(dialect) => shell(walk, dialect, program, arguments),
        Kind::OtherShell => (Next::Opaque(Opaque::Shell), false),
        // What a script does is not in the text.
        Kind::Interpreter(interpreter) => (interpret(walk, interpreter, arguments), false),
        Kind::OtherInterpreter => {
            operands::run(walk, program, arguments);
            (Next::Opaque(Opaque::Interpreter), false)
        }
        Kind::Plain => {
            let is_complete = operands::run(walk, program, arguments);
            (plain(walk, program, arguments), is_complete)
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
        command.arguments.push(match argument.text() {
            Some(text) => text.to_owned(),
            None => format!("{}...", argument.prefix),
        });
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

/// A shell: a command of its own, a script, or what it reads. Whether it is told no more than was followed.
fn shell(walk: &mut Walk, dialect: Dialect, program: &str, arguments: &[Word]) -> (Next, bool) {
    const UNKNOWN: (Next, bool) = (Next::Opaque(Opaque::Shell), false);
    let mut rest = arguments;
    let (mut has_code, mut reads_profile) = (false, false);
    while let Some((first, behind)) = rest.split_first() {
        let Some(text) = first.text() else { return UNKNOWN };
        let Some(letters) = text.strip_prefix(['-', '+']).filter(|letters| !letters.is_empty()) else {
            break;
        };
        rest = behind;
        // `-o` is followed by the name of an option.
        let (letters, has_name) =
            letters.strip_suffix('o').map_or((letters, false), |letters| (letters, true));
        match letters {
            "-" => break,
            "-version" | "-help" => return (Next::Done, true),
            "-login" => reads_profile = true,
            "-norc" | "-noprofile" | "-posix" => {}
            _ if letters.contains(|c: char| !"abcefhilmnuvxBCEHPT".contains(c)) => return UNKNOWN,
            _ => {
                has_code |= letters.contains('c');
                reads_profile |= letters.contains(['i', 'l']);
            }
        }
        if has_name {
            let name =
                rest.split_first().filter(|(name, _)| name.text().is_some_and(builtins::is_harmless_option));
            let Some((_, behind)) = name else { return UNKNOWN };
            rest = behind;
        }
    }
    let Some((first, behind)) = rest.split_first() else { return UNKNOWN };
    let Some(text) = first.text().map(str::to_owned) else { return UNKNOWN };
    if has_code {
        let before = walk.directories();
        walk.text_of(dialect, &text);
        walk.restore(before);
    } else if is_stream(walk, &text) {
        return UNKNOWN;
    } else {
        let places = operands::places(first, &walk.directories());
        walk.features.reads.extend(places);
    }
    // What the text or the script is told: files and hosts, whatever it does with them.
    operands::run(walk, program, behind);
    // What a script does is not in the text.
    (Next::Done, has_code && !reads_profile)
}

/// Whether a file is what the program is given, and no file.
fn is_stream(walk: &Walk, path: &str) -> bool {
    let is_device = |path: &str| path.starts_with("/dev/") || path.starts_with("/proc/");
    // In a directory that is not known, a name tells.
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_name = ["stdin", "stdout", "stderr", "tty", "console"].contains(&name)
        || name.bytes().all(|byte| byte.is_ascii_digit());
    path == "-"
        || walk.directories().places(path, Place::At).iter().any(|place| match place {
            Place::At(path) => is_device(path),
            _ => is_name,
        })
}

/// An interpreter: a program among its arguments, a script, or what it reads.
fn interpret(walk: &mut Walk, interpreter: &Interpreter, arguments: &[Word]) -> Next {
    const UNKNOWN: Next = Next::Opaque(Opaque::Interpreter);
    const LONG: [&str; 6] = ["--eval", "--print", "--command", "--require", "--import", "--run"];
    let holds_code =
        |option: &str| !option.starts_with('-') && option.contains(|c| interpreter.code.contains(c));
    // Of an option that is not known to have none, the next argument can be the value, and not the script.
    let mut are_plain = true;
    let mut rest = arguments;
    let script = loop {
        let Some((argument, behind)) = rest.split_first() else { return UNKNOWN };
        let Some(text) = argument.text() else { return UNKNOWN };
        let is_word = matches!(text, "eval" | "repl" | "exec" | "x");
        if is_word || is_stream(walk, text) || LONG.iter().any(|long| text.starts_with(long)) {
            return UNKNOWN;
        }
        rest = behind;
        let Some(option) = text.strip_prefix('-') else { break Some(argument) };
        match option {
            "-version" | "-help" | "V" | "v" | "h" => return Next::Done,
            "-" => {}
            _ if !interpreter.modules.is_empty() && !option.starts_with('-') && option.contains('m') => {
                let (letters, attached) = option.split_once('m').unwrap_or_default();
                let module =
                    if attached.is_empty() { rest.first().and_then(Word::text) } else { Some(attached) };
                let is_known = module.is_some_and(|module| !interpreter.modules.contains(&module));
                let is_plain = letters.chars().all(|letter| interpreter.plain.contains(letter));
                if !is_known || !is_plain || !are_plain {
                    return UNKNOWN;
                }
                break None;
            }
            _ if holds_code(option) => return UNKNOWN,
            _ => are_plain &= option.chars().all(|letter| interpreter.plain.contains(letter)),
        }
    };
    let is_later = |word: &Word| match word.text() {
        Some(text) => {
            text == "-"
                || text.strip_prefix('-').is_some_and(|option| holds_code(option) || option.starts_with('m'))
                || LONG.iter().any(|long| text.starts_with(long))
        }
        None => true,
    };
    if !are_plain && rest.iter().any(is_later) {
        return UNKNOWN;
    }
    if let Some(script) = script {
        let places = operands::places(script, &walk.directories());
        walk.features.reads.extend(places);
    }
    operands::run(walk, interpreter.name, rest);
    Next::Done
}

/// What of other programs' arguments is a program.
fn plain(walk: &Walk, program: &str, arguments: &[Word]) -> Next {
    let (is_harmless, why) = match program {
        "find" => return find(arguments),
        "awk" | "gawk" | "mawk" | "nawk" | "bawk" | "original-awk" => {
            (is_awk_harmless(walk, arguments), Opaque::Interpreter)
        }
        "sed" | "gsed" => {
            let is_given = file_options(arguments, 'f', &["--file"]).iter().any(|file| is_given(walk, file));
            (!is_given && sed::is_harmless(arguments), Opaque::Interpreter)
        }
        "make" | "gmake" => {
            let files = file_options(arguments, 'f', &["--file", "--makefile"]);
            let is_given = files.iter().any(|file| is_given(walk, file));
            (!is_given && options::are_harmless(program, arguments), Opaque::Wrapper)
        }
        "git" => (git::is_harmless(arguments), Opaque::Wrapper),
        _ => (options::are_harmless(program, arguments), Opaque::Wrapper),
    };
    if is_harmless { Next::Done } else { Next::Opaque(why) }
}

/// Whether what a program reads its own program from is not a file, or cannot be told.
fn is_given(walk: &Walk, file: &Word) -> bool {
    file.text().is_none_or(|path| is_stream(walk, path))
}

/// The values of an option that names a file, by its letter and by how its long form begins.
fn file_options(arguments: &[Word], letter: char, long: &[&str]) -> Vec<Word> {
    let mut files = Vec::new();
    for (index, word) in arguments.iter().enumerate() {
        let next = || arguments.get(index + 1).cloned();
        let text = word.text().unwrap_or(&word.prefix);
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let of_value = |value: &str| if word.text().is_some() { Word::of(value) } else { Word::unknown() };
        if name.len() > 2 && long.iter().any(|long| long.starts_with(name)) {
            files.extend(value.map(of_value).or_else(next));
        } else if let Some(letters) = text.strip_prefix('-').filter(|letters| !letters.starts_with('-'))
            && let Some((_, attached)) = letters.split_once(letter)
        {
            files.extend(if attached.is_empty() && word.text().is_some() {
                next()
            } else {
                Some(of_value(attached))
            });
        }
    }
    files
}

/// Whether `awk` only computes, by its program and its options.
fn is_awk_harmless(walk: &Walk, arguments: &[Word]) -> bool {
    const RUNNING: [&str; 6] = ["system", "|", "getline", ">", "@", "/inet"];
    let is_code = |word: &Word| word.text().is_none_or(|text| RUNNING.iter().any(|word| text.contains(word)));
    let is_option = |word: &Word| {
        let Some(option) = word.text().and_then(|text| text.strip_prefix('-')) else { return false };
        !option.is_empty() && !option.starts_with(['F', 'v', 'f']) && option != "-"
    };
    let is_given = file_options(arguments, 'f', &["--file"]).iter().any(|file| is_given(walk, file));
    !is_given && !arguments.iter().any(|word| is_code(word) || is_option(word))
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
            let words = behind[..end].iter().map(found).collect();
            let is_elsewhere = matches!(arguments[start].text(), Some("-execdir" | "-okdir"));
            if is_elsewhere { Next::RunAnywhere(words) } else { Next::Run(words) }
        }
        _ => Next::Opaque(Opaque::Wrapper),
    }
}
