//! Files of the programs whose arguments are known: which of them are read, and which are written.

use treeline_policy::tool::Place;

use crate::{
    curl,
    known::{Known, Use},
    operands::{indices_of_operands, is_letters, operands, part, places, values_of},
    walk::Walk,
    word::Word,
};

/// Programs that can be told to run others in ways that are not followed.
const RUN_OTHERS: [&str; 2] = ["less", "more"];
/// Bytes that the names of a directory or of backups can take in front of or behind those of files; of more, only where they are is told.
const MADE_LEN_MAX: usize = 64 << 10;
/// Words of `find` that use no file but those below its directories.
const TESTS_OF_FIND: [&str; 34] = [
    "-a",
    "-and",
    "-atime",
    "-cmin",
    "-ctime",
    "-delete",
    "-depth",
    "-empty",
    "-executable",
    "-false",
    "-group",
    "-iname",
    "-ipath",
    "-iregex",
    "-links",
    "-ls",
    "-maxdepth",
    "-mindepth",
    "-mmin",
    "-mtime",
    "-name",
    "-not",
    "-o",
    "-or",
    "-path",
    "-perm",
    "-print",
    "-print0",
    "-prune",
    "-quit",
    "-regex",
    "-size",
    "-type",
    "-user",
];
/// Options of `find` before its directories.
const OPTIONS_OF_FIND: [&str; 3] = ["-H", "-L", "-P"];
/// Operands of `dd` that are no files.
const OF_DD: [&str; 12] =
    ["bs", "cbs", "conv", "count", "ibs", "if", "iflag", "obs", "of", "oflag", "seek", "status"];

/// Takes up the files of a program. Whether they are all that it is told to use.
pub(crate) fn run(walk: &mut Walk, program: &Known, arguments: &[Word]) -> bool {
    let directories = walk.directories();
    let call = Call { program, arguments, words: words(program, arguments) };
    let (reads, writes) = call.files();
    // Not all of them stand in the command.
    if !walk.fits(&writes) {
        return false;
    }
    let at = |words: Vec<Word>| words.into_iter().flat_map(|word| places(&word, &directories));
    let goes_into = program.goes_into(arguments.iter().filter_map(Word::text));
    let tree = |places: Vec<Place>| if goes_into { with_below(places) } else { places };
    walk.features.reads.extend(tree(at(reads).collect()));
    walk.features.writes.extend(tree(at(writes).collect()));
    call.is_complete()
}

/// The operands of a program.
fn words(program: &Known, arguments: &[Word]) -> Vec<Word> {
    match program.name {
        // Whatever is behind one is another: `xxd a -n`.
        "xxd" => {
            let first = indices_of_operands(arguments, program.valued).first().copied();
            first.map_or(Vec::new(), |first| arguments[first..].to_vec())
        }
        _ => operands(arguments, program.valued),
    }
}

/// Files, and what is in them if they are directories.
fn with_below(places: Vec<Place>) -> Vec<Place> {
    let below = places.iter().filter_map(|place| match place {
        Place::At(path) => Some(Place::Below(path.clone())),
        Place::Below(_) | Place::Unknown => None,
    });
    let below: Vec<Place> = below.collect();
    [places, below].concat()
}

/// A call of a known program.
struct Call<'a> {
    program: &'a Known,
    arguments: &'a [Word],
    /// Its operands.
    words: Vec<Word>,
}

/// What is read, and what is written.
type Files = (Vec<Word>, Vec<Word>);

impl Call<'_> {
    fn files(&self) -> Files {
        let skip = |count: usize| self.words.get(count..).unwrap_or_default().to_vec();
        match self.program.used {
            Use::Nothing | Use::Hosts => (Vec::new(), Vec::new()),
            Use::Transfer => curl::files(self.arguments, self.program.valued),
            Use::Read(count) => (skip(count), Vec::new()),
            Use::Search(count) => (self.searched(count), Vec::new()),
            Use::Filter => (self.words.iter().take(1).cloned().collect(), skip(1)),
            Use::Write(count) => (Vec::new(), skip(if self.has_no_mode() { 0 } else { count })),
            Use::Copy | Use::Move => self.copied(),
            Use::Assigned => (self.assigned("if"), self.assigned("of")),
            Use::Find => self.found(),
            Use::Edit => {
                let has_script = self.has_option(&["-e", "-f", "--expression", "--file"]);
                let files = skip(usize::from(!has_script));
                match self.suffix_in_place() {
                    Some(suffix) => {
                        (Vec::new(), files.iter().cloned().chain(backups(&files, suffix)).collect())
                    }
                    None => (files, Vec::new()),
                }
            }
        }
    }

    fn has_option(&self, options: &[&str]) -> bool {
        !self.values_of(options).is_empty()
    }

    fn values_of(&self, options: &[&str]) -> Vec<Word> {
        values_of(self.arguments, options, self.program.valued)
    }

    /// Whether one of its options of one letter can be this one.
    fn has_letter(&self, letter: char) -> bool {
        self.arguments.iter().any(|word| is_letters(&word.prefix) && word.prefix.contains(letter))
    }

    fn searched(&self, count: usize) -> Vec<Word> {
        // With `-e` and `-f` there is no pattern among the operands.
        let takes_pattern = count > 0
            && (self.has_letter('e') || self.has_letter('f') || self.has_option(&["--regexp", "--file"]));
        let count = if takes_pattern { 0 } else { count };
        let words = self.words.get(count..).unwrap_or_default();
        let is_here = self.program.used == Use::Search(0)
            || self.program.goes_into(self.arguments.iter().filter_map(Word::text));
        match words {
            [] if is_here => vec![Word::of(".")],
            words => words.iter().cloned().chain(self.values_of(&["-f", "--file"])).collect(),
        }
    }

    /// Whether the mode or the owner is not the first operand: `chmod -x FILE`, `--reference=FILE`.
    fn has_no_mode(&self) -> bool {
        let is_mode =
            |text: &str| is_letters(text) && text.chars().skip(1).all(|c| "rwxXstugo,+-=".contains(c));
        let is_it = |word: &Word| is_mode(&word.prefix) || word.prefix.starts_with("--ref");
        self.arguments.iter().any(is_it)
    }

    fn copied(&self) -> Files {
        // `install -d DIRECTORY...`
        if self.program.name == "install" && self.has_letter('d') {
            return (Vec::new(), self.words.clone());
        }
        // `cp -t DIRECTORY FILE...`
        let target = self.values_of(&["-t", "--target-directory"]).into_iter().next();
        let (target, from) = match (target, self.words.split_last()) {
            (Some(target), _) => (target, self.words.as_slice()),
            // `ln FILE`
            (None, Some((last, []))) if self.program.name == "ln" => {
                (Word::of("."), std::slice::from_ref(last))
            }
            (None, Some((last, others))) => (last.clone(), others),
            (None, None) => return (Vec::new(), Vec::new()),
        };
        let mut writes: Vec<Word> = match from.len() * target.prefix.len() {
            0..=MADE_LEN_MAX => from.iter().map(|from| within(&target, from)).collect(),
            _ => vec![within(&target, &Word::unknown())],
        };
        writes.push(target);
        match self.program.used {
            Use::Move => (Vec::new(), [writes, from.to_vec()].concat()),
            _ => (from.to_vec(), writes),
        }
    }

    fn assigned(&self, key: &str) -> Vec<Word> {
        let value = |word: &Word| Some(part(word, word.prefix.strip_prefix(key)?.strip_prefix('=')?));
        self.arguments.iter().filter_map(value).collect()
    }

    /// The directories of `find`, and what it writes.
    fn found(&self) -> Files {
        let is_option = |word: &Word| OPTIONS_OF_FIND.contains(&word.prefix.as_str());
        let expression = self
            .arguments
            .iter()
            .position(|word| word.prefix.starts_with(['-', '(', '!']) && !is_option(word));
        let (starts, expression) = self.arguments.split_at(expression.unwrap_or(self.arguments.len()));
        let mut starts: Vec<Word> = starts.iter().filter(|word| !is_option(word)).cloned().collect();
        if starts.is_empty() {
            starts.push(Word::of("."));
        }
        let deletes = expression.iter().any(|word| word.text() == Some("-delete"));
        let mut writes = if deletes { starts.clone() } else { Vec::new() };
        let prints = ["-fprint", "-fprint0", "-fprintf", "-fls"];
        let behind = expression.iter().zip(expression.iter().skip(1));
        writes.extend(
            behind
                .filter(|(word, _)| word.text().is_some_and(|text| prints.contains(&text)))
                .map(|(_, file)| file.clone()),
        );
        (starts, writes)
    }

    /// What `sed` appends to the names of backups of what it writes, if it does: `-i`, `-Ei`, `--in-place=.bak`.
    fn suffix_in_place(&self) -> Option<&str> {
        self.arguments.iter().find_map(|word| {
            let text = word.prefix.as_str();
            if let Some(behind) = text.strip_prefix("--in-place") {
                return Some(behind.trim_start_matches('='));
            }
            if text.len() > 3 && "--in-place".starts_with(text.split('=').next().unwrap_or(text)) {
                return Some(text.split_once('=').map_or("", |(_, suffix)| suffix));
            }
            let letters = text.strip_prefix('-')?.trim_start_matches(|letter| "nrEsuz".contains(letter));
            letters.strip_prefix('i')
        })
    }

    /// Whether each argument is known, and is one of which it is known what the program does with it.
    fn is_complete(&self) -> bool {
        match self.program.used {
            Use::Nothing => true,
            Use::Find => self.is_simple_search(),
            Use::Assigned => self.arguments.iter().all(|word| {
                word.text().and_then(|text| text.split_once('=')).is_some_and(|(key, _)| OF_DD.contains(&key))
            }),
            _ => !RUN_OTHERS.contains(&self.program.name) && self.are_known(),
        }
    }

    fn are_known(&self) -> bool {
        // `curl -d @FILE`.
        let names_file = |text: &str| self.program.used == Use::Transfer && text.contains('@');
        let is_known = |word: &Word| match word.text() {
            // Behind it there are operands, unless it is the value of an option.
            Some("--") => true,
            Some(text) if is_option(text) => self.program.has_option(text) && !names_file(text),
            Some(text) => !names_file(text),
            // Names of files in its place could be options, were they not behind this.
            None => is_start_of_name(word),
        };
        self.arguments.iter().all(is_known) && !self.has_late_option()
    }

    /// Whether something that looks like an option is behind an operand, to a program that takes it for a file then.
    fn has_late_option(&self) -> bool {
        let is_operand = |word: &&Word| !word.text().is_some_and(is_option);
        let behind = self.arguments.iter().skip_while(|word| !is_operand(word));
        self.program.used == Use::Filter && behind.filter(|word| !is_operand(word)).count() > 0
    }

    /// Whether an expression of `find` has no words but such as use nothing besides its directories.
    fn is_simple_search(&self) -> bool {
        let mut words = self.arguments.iter();
        while let Some(word) = words.next() {
            match word.text() {
                // What is run is a command of its own.
                Some("-exec" | "-execdir") => {
                    _ = words.find(|word| matches!(word.text(), Some(";" | "+")));
                }
                Some(text) => {
                    let is_number = text.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
                    let is_test = TESTS_OF_FIND.contains(&text) || OPTIONS_OF_FIND.contains(&text);
                    if is_option(text) && !is_number && !is_test {
                        return false;
                    }
                }
                None if is_start_of_name(word) => {}
                None => return false,
            }
        }
        true
    }
}

fn is_option(text: &str) -> bool {
    text.len() > 1 && text.starts_with('-')
}

/// Whether a word stands for names of files that begin like this, none of which is an option.
fn is_start_of_name(word: &Word) -> bool {
    word.is_glob && !word.prefix.is_empty() && !word.prefix.starts_with('-')
}

/// The backups of files; somewhere in a directory, if the suffix names one.
fn backups(files: &[Word], suffix: &str) -> Vec<Word> {
    match suffix.rsplit_once('/') {
        _ if suffix.is_empty() => Vec::new(),
        _ if files.len() * suffix.len() > MADE_LEN_MAX => vec![Word::unknown()],
        Some((directory, _)) => {
            vec![Word { prefix: format!("{directory}/"), is_glob: true, ..Word::default() }]
        }
        None => files.iter().filter_map(Word::text).map(|file| Word::of(format!("{file}{suffix}"))).collect(),
    }
}

/// What a file becomes in a directory; somewhere in it, if its name is not known.
fn within(directory: &Word, file: &Word) -> Word {
    let Some(directory) = directory.text() else { return directory.clone() };
    let name = file.text().map(|text| text.trim_end_matches('/').rsplit('/').next().unwrap_or_default());
    match name {
        Some(name) if !matches!(name, "" | "." | "..") => Word::of(format!("{directory}/{name}")),
        _ => Word { prefix: format!("{directory}/"), is_glob: true, ..Word::default() },
    }
}
