//! That any text is answered, in time that does not run away with its length.

use proptest::prelude::*;
use treeline_policy::tool::{Features, Opaque};
use treeline_shell::{COMMAND_LEN_MAX, Context, features};

fn of(command: &str) -> Features {
    features(command, &Context { cwd: Some("/w".into()), ..Context::default() })
}

/// Pieces that nest, and that end what nests.
const PIECES: [&str; 40] = [
    "$(",
    "`",
    "\"",
    "'",
    "\\",
    "${",
    "}",
    "((",
    "))",
    "$((",
    "(",
    ")",
    "[[ ",
    " ]]",
    "{ ",
    "; }",
    "if ",
    "then ",
    "fi",
    "case x in ",
    "esac",
    ";;",
    "<<E\n",
    "\nE\n",
    "<(",
    "while ",
    "do ",
    "done",
    "f() ",
    "a",
    " ",
    "\n",
    "|",
    "&&",
    ">",
    "=",
    "[",
    "]",
    "é",
    "\t",
];

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,60}|[a-z$(){}\\[\\]'\"`\\\\;|&<>#=! \n]{0,60}") {
        prop_assert_eq!(of(&text), of(&text));
    }

    #[test]
    fn whatever_nests_is_answered(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..8),
        times in 1..400_usize,
        rest in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..8),
    ) {
        of(&(pieces.concat().repeat(times) + &rest.concat()));
    }

    /// With a part that cannot be followed, nothing that was found without it is missing.
    #[test]
    fn what_is_opaque_hides_nothing_else(words in prop::collection::vec("x[a-d]{1,3}", 1..5)) {
        let plain = words.join("; ");
        let found = of(&format!("{plain}; eval \"$x\""));
        prop_assert_eq!(&found.opaque, &[Opaque::Eval]);
        for command in of(&plain).commands {
            prop_assert!(found.commands.contains(&command), "{command:?}");
        }
    }
}

/// The parser takes twice as long for each of these within another one, so there is a bound. At the bound an answer takes less than
/// a second even where nothing is optimised.
#[test]
fn what_the_parser_reads_twice() {
    for text in
        ["( ".repeat(12), "case x in x) ".repeat(12), "case x in x) ( ".repeat(6), "a | ( ".repeat(12)]
    {
        assert_eq!(of(&text).opaque, [Opaque::Syntax], "{text}");
        assert_eq!(of(&(text.clone() + &text)).opaque, [Opaque::Bounds], "{text}");
    }
}

/// What the parser, or we, call ourselves for, in every way that there is.
#[test]
fn what_nests_without_an_end_of_its_own() {
    for (piece, end) in [("! ", "a ]]"), ("a && ", "a ]]"), ("a || ", "a ]]"), ("! a && ", "a ]]")] {
        let text = format!("[[ {}{end}", piece.repeat(COMMAND_LEN_MAX / piece.len() - 4));
        assert_ne!(of(&text).opaque, [], "{piece}");
    }
    for piece in [
        "coproc ",
        "coproc a ",
        "! ",
        "time ",
        "time -p ",
        "else ",
        "elif a; then b; ",
        "a | ",
        "a && ",
        "f() ",
        "function f ",
    ] {
        of(&piece.repeat(COMMAND_LEN_MAX / piece.len()));
        of(&format!("{}a", piece.repeat(COMMAND_LEN_MAX / piece.len() - 1)));
        of(&format!("if a; then b; {}c; fi", piece.repeat(COMMAND_LEN_MAX / piece.len() - 4)));
    }
    assert_eq!(of(&format!("[[ {}a ]]", "! ".repeat(20))).opaque, []);
}

/// Each word names a file in each directory.
#[test]
fn long_directories_are_not_kept_again_and_again() {
    let long = "d".repeat(30_000);
    let found = of(&format!("cd /{long}; cat {}", "b ".repeat(15_000)));
    assert_eq!(found.opaque, [Opaque::Bounds]);
}

/// Nor are names that files get in a directory, or behind which something is put.
#[test]
fn long_names_are_not_made_again_and_again() {
    let (long, files) = ("d".repeat(200), "b ".repeat(15_000));
    for command in
        [format!("cp {files} {long}"), format!("mv -t {long} {files}"), format!("sed -i{long} x {files}")]
    {
        let found = of(&command);
        let len: usize = found.writes.iter().map(|place| place.to_string().len()).sum();
        assert!(len < 1 << 20, "{}: {len}", &command[..8]);
        assert_eq!(found.opaque, []);
    }
    let line = format!("cp {} {}; ", "b ".repeat(200), "d".repeat(300));
    assert_eq!(of(&format!("cd /{}; {}", "d".repeat(300), line.repeat(80))).opaque, [Opaque::Bounds]);
}

#[test]
fn the_longest_command() {
    let line = "a 'b' \"$c\"\n";
    let text = line.repeat(COMMAND_LEN_MAX / line.len());
    assert_eq!(of(&text).opaque, [Opaque::Bounds], "more commands than are looked at");
    assert_eq!(of(&format!("a {}", "b ".repeat(COMMAND_LEN_MAX / 2 - 1))).opaque, []);
    assert_eq!(of(&" ".repeat(COMMAND_LEN_MAX + 1)).opaque, [Opaque::Bounds]);
}
