//! Programs whose arguments are known.

use crate::operands::is_letters;

/// What a program does with its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing: they are no files.
    Nothing,
    /// Reads all but the first so many.
    Read(usize),
    /// The same, and without one what is in the directory where it is run.
    Search(usize),
    /// Reads the first one, and writes the second.
    Filter,
    /// Writes all but the first so many.
    Write(usize),
    /// Reads all but the last, which it writes.
    Copy,
    /// Writes all, as it removes what it moves.
    Move,
    /// `if=FILE of=FILE`.
    Assigned,
    /// Directories, and behind them an expression.
    Find,
    /// A script, and behind it files, which are written with `-i`.
    Edit,
    /// They are hosts.
    Hosts,
    /// They are URLs, and options name files.
    Transfer,
}

/// A program, with those of its options that are known to use no other files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) used: Use,
    /// Letters of options whose value is an argument of its own.
    pub(crate) valued: &'static str,
    /// Letters of options that use no file but those that are looked for, with or without a value.
    letters: &'static str,
    /// Letters with which it goes into directories.
    trees: Trees,
}

/// When a program goes into directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trees {
    Always,
    /// With one of these letters, or `--recursive`.
    With(&'static str),
}

const fn known(name: &'static str, used: Use, valued: &'static str, letters: &'static str) -> Known {
    Known { name, used, valued, letters, trees: Trees::With("") }
}

impl Known {
    const fn trees(self, trees: Trees) -> Self {
        Self { trees, ..self }
    }

    /// Whether options go into directories.
    pub(crate) fn goes_into<'a>(&self, mut options: impl Iterator<Item = &'a str>) -> bool {
        // Beginnings of a long option are taken for it.
        let is_long = |text: &str| {
            text.len() > 3 && ["--recursive", "--archive"].iter().any(|long| long.starts_with(text))
        };
        match self.trees {
            Trees::Always => true,
            Trees::With("") => false,
            Trees::With(letters) => options
                .any(|text| is_long(text) || is_letters(text) && text.contains(|c| letters.contains(c))),
        }
    }

    /// Whether an argument that begins with a `-` uses no file but those that are looked for.
    pub(crate) fn has_option(&self, text: &str) -> bool {
        if text.starts_with("--") {
            let (name, has_value) = text.split_once('=').map_or((text, false), |(name, _)| (name, true));
            return LONG.contains(&name) && !(has_value && name == "--in-place");
        }
        for (at, letter) in text.char_indices().skip(1) {
            if !letter.is_ascii_digit() && !self.letters.contains(letter) {
                return false;
            }
            // The rest is the suffix of another file, or leads into another directory.
            if self.used == Use::Edit && letter == 'i' {
                return at + 1 == text.len();
            }
            if self.valued.contains(letter) {
                // The rest is its value. Where that is a file it is looked for in front and at the end.
                let is_file = matches!(letter, 'o' | 't');
                return !is_file || at == 1 || at + 1 == text.len();
            }
        }
        true
    }
}

/// Long options that use no file, in whatever program of these.
const LONG: [&str; 32] = [
    "--all",
    "--almost-all",
    "--archive",
    "--bytes",
    "--color",
    "--colour",
    "--count",
    "--force",
    "--help",
    "--human-readable",
    "--ignore-case",
    "--in-place",
    "--interactive",
    "--invert-match",
    "--line-number",
    "--lines",
    "--no-clobber",
    "--no-filename",
    "--null",
    "--numeric-sort",
    "--only-matching",
    "--quiet",
    "--recursive",
    "--regexp-extended",
    "--reverse",
    "--silent",
    "--unified",
    "--unique",
    "--verbose",
    "--version",
    "--with-filename",
    "--word-regexp",
];

const GREP: &str = "ABCEFGHILPTUZabchilmnoqrRsvwxyz";

/// The programs. Backups (`-b`, `-S`) are further files. What is not among the letters of one (`-e` and `-f` of `grep`, `-T` of `sort`) can be anything.
pub(crate) const PROGRAMS: [Known; 73] = [
    known("cat", Use::Read(0), "", "AbeEnstTuv"),
    known("tac", Use::Read(0), "s", "brs"),
    known("head", Use::Read(0), "nc", "cnqvz"),
    known("tail", Use::Read(0), "ncs", "cfFnqsvz"),
    known("less", Use::Read(0), "", ""),
    known("more", Use::Read(0), "", ""),
    known("nl", Use::Read(0), "bdfhilnsvw", "bdfhilnpsvw"),
    known("od", Use::Read(0), "AtjNS", "AabcdfijlosxXvtNSw"),
    known("xxd", Use::Filter, "cglons", "abcEeghilnoprsu"),
    known("hexdump", Use::Read(0), "nse", "bcCdeoxvns"),
    known("strings", Use::Read(0), "nte", "afnotew"),
    known("wc", Use::Read(0), "", "clLmw"),
    known("sort", Use::Read(0), "ktSTo", "bcCdfghikMmnoRrSstuVz"),
    known("uniq", Use::Filter, "fsw", "cdDfisuwz"),
    known("cut", Use::Read(0), "dfcb", "bcdfnsz"),
    known("diff", Use::Read(0), "UC", "abBcCEiNnpqstTuUwyZ"),
    known("cmp", Use::Read(0), "in", "bilns"),
    known("comm", Use::Read(0), "", "z"),
    known("stat", Use::Read(0), "c", "cfLt"),
    known("file", Use::Read(0), "mfFe", "bhikLNprsSz"),
    known("md5sum", Use::Read(0), "", "btwz"),
    known("sha1sum", Use::Read(0), "", "btwz"),
    known("sha256sum", Use::Read(0), "", "btwz"),
    known("base64", Use::Read(0), "w", "diw"),
    known("ls", Use::Search(0), "IwT", "aAbBcCdDfFgGhHiIklLmnNopqQrRsStTuUvwxXZ").trees(Trees::With("R")),
    known("find", Use::Find, "", "").trees(Trees::Always),
    known("du", Use::Search(0), "d", "abcdDhHklLmPsSx").trees(Trees::Always),
    known("tree", Use::Search(0), "LIPo", "aCdfFghilLnoprstuxDIP").trees(Trees::Always),
    known("grep", Use::Search(1), "ABCm", GREP).trees(Trees::With("rR")),
    known("egrep", Use::Search(1), "ABCm", GREP).trees(Trees::With("rR")),
    known("fgrep", Use::Search(1), "ABCm", GREP).trees(Trees::With("rR")),
    known("rg", Use::Search(1), "ABCEMTgjmrt", "ABCEFHILMNPSTUacgijlmnopqrstuvwx").trees(Trees::Always),
    known("jq", Use::Read(1), "", "acCejMnrsS"),
    known("awk", Use::Read(1), "Fv", "Fv"),
    known("gawk", Use::Read(1), "Fv", "Fv"),
    known("rm", Use::Write(0), "", "dfiIrRv").trees(Trees::With("rR")),
    known("rmdir", Use::Write(0), "", "v"),
    known("mkdir", Use::Write(0), "m", "mpvZ"),
    known("touch", Use::Write(0), "dtr", "acdhmrt"),
    known("tee", Use::Write(0), "", "aip"),
    known("truncate", Use::Write(0), "sr", "cors"),
    known("shred", Use::Write(0), "ns", "fnsuvxz"),
    known("unlink", Use::Write(0), "", ""),
    known("mkfifo", Use::Write(0), "m", "mZ"),
    known("chmod", Use::Write(1), "", "cfvR").trees(Trees::With("R")),
    known("chown", Use::Write(1), "", "cfhHLPvR").trees(Trees::With("R")),
    known("chgrp", Use::Write(1), "", "cfhHLPvR").trees(Trees::With("R")),
    known("cp", Use::Copy, "St", "adfHilLnPprRstTuvxZ").trees(Trees::With("arR")),
    known("install", Use::Copy, "mogSt", "cCdDgmoptTvZ"),
    known("ln", Use::Copy, "St", "dfFiLnPrstTv"),
    known("mv", Use::Move, "St", "fintTuvZ").trees(Trees::Always),
    known("sed", Use::Edit, "e", "eEinrsuz"),
    known("dd", Use::Assigned, "", ""),
    known("curl", Use::Transfer, "HdXouUAebcFTmwxEKrtyYzCDQP", "AdefgHiIkmosSuvX"),
    known("ping", Use::Hosts, "cisWwItQ", "cinqsWw"),
    known("ping6", Use::Hosts, "cisWw", "cinqsWw"),
    known("arch", Use::Nothing, "", ""),
    known("basename", Use::Nothing, "", ""),
    known("dirname", Use::Nothing, "", ""),
    known("echo", Use::Nothing, "", ""),
    known("expr", Use::Nothing, "", ""),
    known("false", Use::Nothing, "", ""),
    known("id", Use::Nothing, "", ""),
    known("nproc", Use::Nothing, "", ""),
    known("printenv", Use::Nothing, "", ""),
    known("printf", Use::Nothing, "", ""),
    known("pwd", Use::Nothing, "", ""),
    known("seq", Use::Nothing, "", ""),
    known("sleep", Use::Nothing, "", ""),
    known("true", Use::Nothing, "", ""),
    known("tty", Use::Nothing, "", ""),
    known("uname", Use::Nothing, "", ""),
    known("whoami", Use::Nothing, "", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let check = |name: &str, text: &str, expect: bool| {
            let known = PROGRAMS.iter().find(|known| known.name == name).expect("a known program");
            assert_eq!(known.has_option(text), expect, "{name} {text}");
        };
        check("ls", "-la", true);
        check("ls", "--color=never", true);
        check("ls", "--dired", false);
        check("head", "-20", true);
        check("head", "-n5", true);
        check("sort", "-T/x", false);
        check("sort", "-uo", true);
        check("sort", "-o/x", true);
        check("sort", "-uo/x", false);
        check("sort", "-t:", true);
        check("cp", "-rt", true);
        check("cp", "-rt/x", false);
        check("grep", "-e", false);
        check("sed", "-i.bak", false);
        check("sed", "--in-place=/x/*", false);
        check("sed", "-Ei", true);
        check("sed", "-f", false);
        check("curl", "-sS", true);
        check("curl", "-K", false);
    }

    #[test]
    fn each_is_there_once() {
        for (index, known) in PROGRAMS.iter().enumerate() {
            assert!(PROGRAMS[..index].iter().all(|other| other.name != known.name), "{}", known.name);
        }
        assert!(LONG.is_sorted());
    }
}
