//! `treeline policy fmt`.

mod replace;

use std::{
    io::{Read as _, Write, stdin},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use treeline_policy::{
    Diagnostics,
    diagnostic::Report,
    source::{Source, TEXT_LEN_MAX},
    syntax::{Unformatted, format},
};

use self::replace::Replaceable;
use super::{
    super::output::{print_error, print_note},
    print_diagnostics,
};
use crate::{daemon::policy::signature::note_of, view::text::safe};

/// Standard input, in the place of a file.
const STANDARD_INPUT: &str = "-";

/// Arguments of `treeline policy fmt`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Policies, files that they include, or tests; `-`, alone, is standard input, printed to standard output
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write nothing, and say which files would change
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of one file, for machines.
#[derive(Debug, Serialize)]
struct Formatted {
    file: String,
    /// Whether it could be printed.
    valid: bool,
    /// Whether it is, or was, another text than the canonical one.
    changed: bool,
    /// The first line that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// Why it could not be read, printed or written.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    diagnostics: Vec<Report>,
}

/// Prints files in their canonical form.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let Args { files, check, json } = args;
    ensure!(
        !json || *check || !files.iter().any(|file| is_input(file)),
        "`--json` and standard input both print to standard output; with `--check` only one of them does"
    );
    ensure!(
        files.len() == 1 || !files.iter().any(|file| is_input(file)),
        "`-` is formatted alone: its text is printed to standard output, where what is said of other files is; a file of that name is `./-`"
    );
    let mut all = Vec::with_capacity(files.len());
    for file in files {
        let name = if is_input(file) { "<stdin>".to_owned() } else { file.display().to_string() };
        // What is wrong with one file is no reason to leave others as they are.
        let (formatted, printed) = match one(file, &name, args) {
            Ok(done) => done,
            Err(error) => {
                print_error(&error);
                (Formatted { error: Some(format!("{error:#}")), ..Formatted::invalid(&name) }, None)
            }
        };
        match printed {
            Some(printed) => out.write_all(printed.as_bytes()).context("cannot write to standard output")?,
            None if !json => report(&formatted, *check, out)?,
            None => {}
        }
        all.push(formatted);
    }
    if *json {
        serde_json::to_writer_pretty(&mut *out, &all).context("cannot write to standard output")?;
        writeln!(out)?;
    }
    Ok(if all.iter().any(|one| one.error.is_some()) {
        ExitCode::from(2)
    } else if all.iter().all(|one| one.valid && !(*check && one.changed)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn is_input(file: &Path) -> bool {
    file.as_os_str() == STANDARD_INPUT
}

/// Formats one file, and gives the text that is to be printed to standard output, if it is.
///
/// # Errors
/// It cannot be read, printed or written.
fn one(file: &Path, name: &str, args: &Args) -> anyhow::Result<(Formatted, Option<String>)> {
    let (text, place) = if is_input(file) {
        (standard_input()?, None)
    } else {
        let (text, place) = replace::read(file).with_context(|| format!("cannot format `{name}`"))?;
        (text, Some(place))
    };
    let printed = match format(&Source::new(name, &text)) {
        Ok(printed) => printed,
        Err(Unformatted::Unreadable(found)) => return Ok((unreadable(name, &found, args.json), None)),
        Err(unsure) => return Err(unsure).with_context(|| format!("`{name}` was left as it is")),
    };
    let changed = printed != text;
    let line = changed.then(|| first_difference(&text, &printed));
    let formatted =
        Formatted { file: name.to_owned(), valid: true, changed, line, error: None, diagnostics: Vec::new() };
    match place {
        _ if args.check => {}
        Some(place) if changed => {
            place.replace(&printed).with_context(|| format!("cannot write `{name}`"))?;
            print_note(&to_be_signed(file, &place));
        }
        Some(_) => {}
        None => return Ok((formatted, Some(printed))),
    }
    Ok((formatted, None))
}

/// What to do about the note beside a policy that has another text now; nothing where there is none.
fn to_be_signed(file: &Path, place: &Replaceable) -> String {
    // The daemon looks beside the name that it has, which can be that of a symbolic link.
    let mut notes = [note_of(file), note_of(place.path())].into_iter();
    let Some(note) = notes.find(|note| note.symlink_metadata().is_ok()) else { return String::new() };
    let (file, note) = (file.display().to_string(), note.display().to_string());
    format!(
        "note: `{}` has to be signed again (`treeline policy sign`): `{}` is about the text before\n",
        safe(&file),
        safe(&note)
    )
}

fn unreadable(name: &str, found: &Diagnostics, json: bool) -> Formatted {
    if !json {
        print_diagnostics(found);
    }
    Formatted { diagnostics: found.reports().collect(), ..Formatted::invalid(name) }
}

impl Formatted {
    /// A file that could not be printed, and is as it was.
    fn invalid(name: &str) -> Self {
        Self {
            file: name.to_owned(),
            valid: false,
            changed: false,
            line: None,
            error: None,
            diagnostics: Vec::new(),
        }
    }
}

/// The number of the first line that is not the same in both.
fn first_difference(text: &str, other: &str) -> usize {
    let same = text.split_inclusive('\n').zip(other.split_inclusive('\n')).take_while(|(a, b)| a == b);
    same.count() + 1
}

fn report(formatted: &Formatted, check: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let file = safe(&formatted.file);
    match formatted {
        // It has been said on standard error.
        Formatted { error: Some(_), .. } => {}
        Formatted { valid: false, .. } => writeln!(out, "{file}: not valid")?,
        Formatted { line: Some(line), .. } if check => {
            writeln!(out, "{file}:{line}: would be formatted")?;
        }
        Formatted { changed: true, .. } => writeln!(out, "{file}: formatted")?,
        _ => {}
    }
    Ok(())
}

fn standard_input() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    // One more than is allowed, so that a longer one is refused as too long.
    let bound = TEXT_LEN_MAX as u64 + 1;
    stdin().lock().take(bound).read_to_end(&mut bytes).context("cannot read standard input")?;
    let is_cut = bytes.len() as u64 == bound;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // Cut within a character, it is too long in any case.
        Err(_) if is_cut => Ok(" ".repeat(TEXT_LEN_MAX + 1)),
        Err(error) => Err(error).context("standard input is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CANONICAL: &str =
        "# why\nversion: 1\nname: t\nrules:\n  - id: a\n    kind: file\n    paths: [/x]\n    reason: r\n";
    const OTHER: &str =
        "# why\nversion: 1\nname: t\nrules: [{id: a, reason: r, kind: file, paths: ['/x']}]\n";

    fn run_on(texts: &[&str], check: bool, json: bool) -> (ExitCode, String, Vec<String>) {
        let dir = tempfile::tempdir().expect("a directory");
        let files: Vec<PathBuf> =
            (0..texts.len()).map(|number| dir.path().join(format!("{number}.yaml"))).collect();
        for (file, text) in files.iter().zip(texts) {
            fs::write(file, text).expect("a file");
        }
        let mut out = Vec::new();
        let code = run(&Args { files: files.clone(), check, json }, &mut out).expect("readable files");
        let out = String::from_utf8(out).expect("text").replace(&format!("{}/", dir.path().display()), "");
        (code, out, files.iter().map(|file| fs::read_to_string(file).expect("a file")).collect())
    }

    #[test]
    fn what_is_written_and_said() {
        let check = |texts: &[&str], check: bool, expect: (ExitCode, &str), left: &[&str]| {
            let (code, out, texts) = run_on(texts, check, false);
            assert_eq!((code, out.as_str()), expect);
            assert_eq!(texts, left);
        };
        let (fine, found) = (ExitCode::SUCCESS, ExitCode::FAILURE);
        check(&[CANONICAL], false, (fine, ""), &[CANONICAL]);
        check(&[CANONICAL], true, (fine, ""), &[CANONICAL]);
        check(&[OTHER, CANONICAL], false, (fine, "0.yaml: formatted\n"), &[CANONICAL, CANONICAL]);
        check(&[CANONICAL, OTHER], true, (found, "1.yaml:4: would be formatted\n"), &[CANONICAL, OTHER]);
        check(
            &["a: [", OTHER],
            false,
            (found, "0.yaml: not valid\n1.yaml: formatted\n"),
            &["a: [", CANONICAL],
        );
    }

    #[test]
    fn for_machines() {
        let (code, out, _) = run_on(&[OTHER, "a: ["], true, true);
        assert_eq!(code, ExitCode::FAILURE);
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(
            (&json[0]["valid"], &json[0]["changed"], &json[0]["line"]),
            (&true.into(), &true.into(), &4.into())
        );
        assert_eq!(
            (&json[1]["valid"], &json[1]["diagnostics"][0]["code"]),
            (&false.into(), &"not-yaml".into())
        );
    }

    #[test]
    fn one_file_that_cannot_be_formatted_stops_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let [gone, other] = ["gone.yaml", "other.yaml"].map(|name| dir.path().join(name));
        let run = |json| {
            fs::write(&other, OTHER).expect("a file");
            let args = Args { files: vec![gone.clone(), other.clone(), gone.clone()], check: false, json };
            let mut out = Vec::new();
            assert_eq!(run(&args, &mut out).expect("it is told"), ExitCode::from(2));
            assert_eq!(fs::read_to_string(&other).expect("a file"), CANONICAL);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(run(false), format!("{}: formatted\n", other.display()));
        let json: serde_json::Value = serde_json::from_str(&run(true)).expect("JSON");
        let error = json[0]["error"].as_str().expect("an error");
        assert!(error.contains("gone.yaml") && error.contains("No such file"), "{error}");
        assert_eq!((&json[1]["changed"], json[1].get("error")), (&true.into(), None));
        assert_eq!(json[2]["valid"], false);
    }

    #[test]
    fn json_and_a_text_do_not_mix() {
        let args = |check| Args { files: vec![STANDARD_INPUT.into()], check, json: true };
        let error = run(&args(false), &mut Vec::new()).expect_err("two outputs");
        assert!(error.to_string().contains("standard output"), "{error}");
    }

    #[test]
    fn a_signed_policy_has_to_be_signed_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let [file, link] = ["p.yaml", "link.yaml"].map(|name| dir.path().join(name));
        fs::write(&file, OTHER).expect("a file");
        std::os::unix::fs::symlink("p.yaml", &link).expect("a link");
        let said = |file: &Path| to_be_signed(file, &replace::read(file).expect("a file").1);
        assert_eq!([said(&file), said(&link)], ["", ""]);
        fs::write(dir.path().join("p.yaml.note"), "signed").expect("a note");
        for file in [&file, &link] {
            let said = said(file);
            assert!(said.contains("has to be signed again") && said.contains("/p.yaml.note`"), "{said}");
        }
        fs::write(dir.path().join("link.yaml.note"), "signed").expect("a note");
        assert!(said(&link).contains("/link.yaml.note`"), "{}", said(&link));
    }

    #[test]
    fn a_name_does_not_act_on_the_terminal() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |text: &str, check: bool, expect: &str| {
            let file = dir.path().join("\u{1b}[2J\u{202e}.yaml");
            fs::write(&file, text).expect("a file");
            let mut out = Vec::new();
            run(&Args { files: vec![file], check, json: false }, &mut out).expect("a readable file");
            let out = String::from_utf8(out).expect("text");
            assert!(out.ends_with(&format!("/\\u{{1b}}[2J\\u{{202e}}.yaml{expect}\n")), "{out:?}");
        };
        check(OTHER, true, ":4: would be formatted");
        check(OTHER, false, ": formatted");
        check("a: [", false, ": not valid");
    }

    #[test]
    fn standard_input_is_formatted_alone() {
        for files in [["-", "gone.yaml"], ["gone.yaml", "-"], ["-", "-"]] {
            let args = Args { files: files.map(PathBuf::from).to_vec(), check: false, json: false };
            let error = run(&args, &mut Vec::new()).expect_err("it is refused");
            assert!(error.to_string().contains("alone"), "{error}");
        }
    }
}
