//! Programs that only some options tell to run another.
//!
//! An option can be a letter among others, the beginning of a long one, or a word that is known only when the command runs.

use crate::word::Word;

/// How a program is told to run another.
pub(crate) struct Options {
    pub(crate) name: &'static str,
    /// Letters of options that do.
    pub(crate) runs: &'static str,
    /// Long options that do.
    pub(crate) runs_long: &'static [&'static str],
    /// Letters of other options that always have a value, which is the rest of the word or the next one.
    pub(crate) valued: &'static str,
    /// Letters of those whose value, if there is one, is the rest of the word.
    pub(crate) attached: &'static str,
    /// Long options of which the value can be the next word.
    pub(crate) valued_long: &'static [&'static str],
}

const fn options(name: &'static str, runs: &'static str, runs_long: &'static [&'static str]) -> Options {
    Options { name, runs, runs_long, valued: "", attached: "", valued_long: &[] }
}

impl Options {
    const fn valued(self, valued: &'static str, valued_long: &'static [&'static str]) -> Self {
        Self { valued, valued_long, ..self }
    }
}

const TAR: &[&str] = &[
    "to-command",
    "checkpoint-action",
    "use-compress-program",
    "info-script",
    "new-volume-script",
    "rsh-command",
    "rmt-command",
    // Lines of such a file can be options.
    "files-from",
];
const NETCAT: &[&str] = &["exec", "sh-exec", "lua-exec"];

const MAKE: Options = Options {
    attached: "jl",
    ..options("make", "E", &["eval"])
        .valued("fICoW", &["file", "makefile", "directory", "include-dir", "old-file", "what-if"])
};

/// The programs. Those that git's commands are have tables of their own.
const PROGRAMS: [Options; 25] = [
    options("tar", "IFT", TAR).valued(
        "fbCXKNVHLg",
        &["file", "directory", "exclude", "exclude-from", "transform", "strip-components", "owner", "group"],
    ),
    options("rsync", "eM", &["rsh", "rsync-path", "remote-option", "daemon", "config", "early-exec"]).valued(
        "fBT@",
        &["exclude", "include", "exclude-from", "include-from", "files-from", "filter", "chmod", "bwlimit"],
    ),
    options("zip", "", &["unzip-command", "TT"]).valued("btnixP", &["exclude", "include"]),
    MAKE,
    options("rg", "", &["pre", "hostname-bin"])
        .valued("ABCEMTdefgjmrt", &["glob", "regexp", "file", "type", "type-not", "max-count", "sort"]),
    options("fd", "xX", &["exec", "exec-batch"])
        .valued("dEtecSoj", &["max-depth", "exclude", "type", "extension", "size", "owner", "threads"]),
    options("sort", "", &["compress-program"]).valued("ktSTo", &["key", "output", "buffer-size"]),
    options("split", "", &["filter"]).valued("abClnt", &["bytes", "lines", "number"]),
    options("scp", "SoFD", &[]).valued("cilJPX", &[]),
    options("cargo", "", &["config"]).valued(
        "pFj",
        &["package", "features", "manifest-path", "target", "test", "bin", "example", "color", "jobs"],
    ),
    options("man", "PH", &["pager", "html", "config-file"]).valued("CRLmMSse", &[]),
    options("nc", "ec", NETCAT).valued("pswi", &[]),
    options("netcat", "ec", NETCAT).valued("pswi", &[]),
    options("ncat", "ec", NETCAT).valued("pswi", &[]),
    options("go", "", &[]),
    options("cpio", "", &["rsh-command"]).valued("EFHIORCM", &["file", "format", "owner"]),
    options("install", "", &["strip-program"])
        .valued("mogtS", &["mode", "owner", "group", "target-directory"]),
    options("wget", "e", &["use-askpass", "execute", "config"])
        .valued("oaiOtwTQPU", &["output-document", "header"]),
    options("diff3", "", &["diff-program"]),
    options("sdiff", "", &["diff-program"]).valued("Iow", &[]),
    options("apt", "oc", &["option", "config-file"]).valued("t", &[]),
    options("apt-get", "oc", &["option", "config-file"]).valued("t", &[]),
    options("tcpdump", "z", &["postrotate-command"]).valued("BcCFGijmMrsTVwWyE", &[]),
    Options { name: "gmake", ..MAKE },
    options("fdfind", "xX", &["exec", "exec-batch"]).valued("dEtecSoj", &["max-depth", "exclude", "type"]),
];
/// Long options that are whole ones, though they are how others begin.
const WHOLE: [(&str, &str); 2] = [("tar", "checkpoint"), ("tar", "file")];

/// Whether a program that is no interpreter and no wrapper runs nothing but itself.
pub(crate) fn are_harmless(program: &str, arguments: &[Word]) -> bool {
    let program = if matches!(program, "gtar" | "bsdtar") { "tar" } else { program };
    let Some(options) = PROGRAMS.iter().find(|options| options.name == program) else { return true };
    let has_double_t = |word: &Word| word.prefix.starts_with('-') && word.prefix.contains("TT");
    match program {
        "tar" => tar(options, arguments),
        "make" | "gmake" => options.are_harmless(arguments) && !arguments.iter().any(sets_program),
        "zip" => options.are_harmless(arguments) && !arguments.iter().any(has_double_t),
        "go" => go(arguments),
        _ => options.are_harmless(arguments),
    }
}

impl Options {
    /// Whether none of the arguments is, or can be, an option that runs something.
    pub(crate) fn are_harmless(&self, arguments: &[Word]) -> bool {
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let takes_next = match word.text() {
                Some("--") => return true,
                Some(text) => self.known(text),
                None => self.unknown(word).then_some(false),
            };
            match takes_next {
                // Several words, of which one could be an option.
                Some(true) if words.next().is_some_and(|value| value.is_many) => return false,
                Some(_) => {}
                None => return false,
            }
        }
        true
    }

    /// Whether the value of an argument is the next one; none if it runs something.
    fn known(&self, text: &str) -> Option<bool> {
        if let Some(long) = text.strip_prefix("--") {
            let (name, has_value) = long.split_once('=').map_or((long, false), |(name, _)| (name, true));
            return (!self.is_run(name)).then(|| !has_value && self.valued_long.contains(&name));
        }
        let mut letters = text.strip_prefix('-').unwrap_or_default().chars();
        while let Some(letter) = letters.next() {
            if self.runs.contains(letter) {
                return None;
            }
            if self.attached.contains(letter) {
                return Some(false);
            }
            if self.valued.contains(letter) {
                return Some(letters.as_str().is_empty());
            }
        }
        Some(false)
    }

    /// Whether a long option, or what one begins with, runs something.
    fn is_run(&self, name: &str) -> bool {
        self.runs_long.iter().any(|run| run.starts_with(name)) && !WHOLE.contains(&(self.name, name))
    }

    /// Whether a word of which only the beginning is known, if that, is no option that runs something.
    fn unknown(&self, word: &Word) -> bool {
        let prefix = word.prefix.as_str();
        if word.is_many && !word.is_glob {
            return false;
        }
        match prefix.strip_prefix('-') {
            None => !prefix.is_empty(),
            Some(long) if long.starts_with('-') => {
                long[1..].split_once('=').is_some_and(|(name, _)| !self.is_run(name))
            }
            // What is not known has to be a letter's value.
            Some(letters) => {
                let end =
                    letters.find(|letter| self.valued.contains(letter) || self.attached.contains(letter));
                end.is_some_and(|end| !letters[..end].contains(|letter| self.runs.contains(letter)))
            }
        }
    }
}

/// `tar`, whose first argument need not begin with a dash.
fn tar(options: &Options, arguments: &[Word]) -> bool {
    // A colon is behind a host, which a program is run for.
    let is_remote = |word: &Word| word.prefix.split('/').next().is_some_and(|first| first.contains(':'));
    if arguments.iter().any(is_remote) {
        return false;
    }
    let Some((first, rest)) = arguments.split_first().filter(|(first, _)| !first.prefix.starts_with('-'))
    else {
        return options.are_harmless(arguments);
    };
    let Some(letters) = first.text() else { return false };
    let values = letters.chars().filter(|letter| options.valued.contains(*letter)).count();
    let (values, rest) = rest.split_at(values.min(rest.len()));
    !letters.contains(|letter| options.runs.contains(letter))
        && !values.iter().any(|value| value.is_many)
        && options.are_harmless(rest)
}

/// Whether an argument of `make` sets a variable that names a program, or one with commands in it.
fn sets_program(word: &Word) -> bool {
    const PROGRAMS: [&str; 27] = [
        "SHELL",
        ".SHELLFLAGS",
        "MAKE",
        "MAKEFLAGS",
        "MAKEFILES",
        "GNUMAKEFLAGS",
        "AR",
        "AS",
        "CC",
        "CXX",
        "CPP",
        "FC",
        "M2C",
        "PC",
        "CO",
        "GET",
        "LEX",
        "YACC",
        "LINT",
        "MAKEINFO",
        "TEX",
        "TEXI2DVI",
        "WEAVE",
        "CWEAVE",
        "TANGLE",
        "CTANGLE",
        "RM",
    ];
    /// Those that a compiler is set to.
    const COMPILERS: [&str; 8] = ["gcc", "cc", "clang", "g++", "c++", "clang++", "ar", "as"];
    let Some((name, value)) = word.prefix.split_once('=') else { return false };
    let is_program = PROGRAMS.contains(&name.trim_end_matches([':', '+', '?']));
    let is_compiler = word.text().is_some() && COMPILERS.contains(&value);
    // `X!=command` and `X=$(shell command)`.
    name.ends_with('!') || value.contains('$') || word.text().is_none() || is_program && !is_compiler
}

/// `go`, whose options have one dash or two.
fn go(arguments: &[Word]) -> bool {
    const RUNS: [&str; 4] = ["toolexec", "exec", "vettool", "overlay"];
    let is_run = |word: &Word| {
        let bare = word.prefix.trim_start_matches('-');
        let is_option = word.prefix.starts_with('-');
        let name = bare.split('=').next().unwrap_or_default();
        let is_known = word.text().is_some() || bare.contains('=') || !is_option && !bare.is_empty();
        // The linker can be another one, and what is set for good runs later.
        !is_known
            || is_option && RUNS.contains(&name)
            || word.prefix.contains("-extld")
            || word.prefix == "-w"
    };
    !arguments.iter().any(|word| is_run(word) || word.is_many && !word.is_glob)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Word> {
        let of = |text: &str| match text.split_once('$') {
            // `x$` is one word, and `x$$` any number.
            Some((prefix, rest)) => Word { is_many: rest == "$", prefix: prefix.into(), ..Word::default() },
            None => Word::of(text),
        };
        line.split(' ').map(of).collect()
    }

    #[test]
    fn what_runs_others() {
        for line in [
            "tar -xf a --to-command=b",
            "tar -xf a --to-comm=b",
            "tar -I a -xf b",
            "tar -cIf a b",
            "tar cIf a b",
            "tar -xf a $",
            "tar xf a b$$",
            "tar -xf $$",
            "tar cf h:a b",
            "tar -cf a --$",
            "tar -c$ a",
            "tar --checkpoint-a=exec=b -cf a b",
            "rsync -avze a b c",
            "rsync -a --rs=a b c",
            "rsync -a $ b",
            "make --eva=x",
            "make -j --eval=x",
            "make SHELL=x",
            "make X!=a",
            "make X=$",
            "make CC=rm",
            "make -j $",
            "zip -rTT a b",
            "bsdtar -xf a --use-comp=b",
            "wget --use-ask=a b",
            "install -s --strip-p=a b c",
            "apt-get -qo a=b install c",
            "tcpdump -nz a -w b",
            "rg --pre=a b",
            "rg $",
            "fd -Hx a",
            "sort --compress-prog=a",
            "split --filter a",
            "scp -oProxyCommand=a b c:",
            "go build -toolexec=a",
            "go test --exec a",
            "go build $",
            "cargo run --config a",
            "man -P a b",
            "nc -le a",
            "ncat --sh-e a b",
        ] {
            let (program, arguments) = line.split_once(' ').expect("arguments");
            assert!(!are_harmless(program, &words(arguments)), "{line}");
        }
    }

    #[test]
    fn what_runs_nothing_else() {
        for line in [
            "tar -xzf a -C b",
            "tar xzf $ -C b",
            "tar -xzf $ -C $ c",
            "tar --checkpoint=1 -cf a b",
            "tar --file=$ -x",
            "tar -cf a -- $$",
            "rsync -av --delete a/ h:b",
            "make -j4 all X=1 CC=gcc",
            "make -j$ -C $ all",
            "zip -r a b",
            "wget -q -O a https://b/",
            "install -m 755 a b",
            "apt-get install -y a",
            "rg -e $ -g a src/$",
            "rg -- $",
            "fd -e rs a",
            "sort -k 2 -u a",
            "scp -P 22 a h:b",
            "go test -run=$ ./...",
            "cargo test -p a --test b",
            "nc -w 1 h 80",
            "man ls",
            "other $$",
        ] {
            let (program, arguments) = line.split_once(' ').expect("arguments");
            assert!(are_harmless(program, &words(arguments)), "{line}");
        }
    }
}
