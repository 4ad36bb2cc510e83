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
use super::print_diagnostics;

/// Standard input, in the place of a file.
const STANDARD_INPUT: &str = "-";

/// Arguments of `treeline policy fmt`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Policies, files that they include, or tests; `-` is standard input, printed to standard output
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
    diagnostics: Vec<Report>,
}

/// Prints files in their canonical form.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let Args { files, check, json } = args;
    let is_input = |file: &Path| file.as_os_str() == STANDARD_INPUT;
    ensure!(
        !json || *check || !files.iter().any(|file| is_input(file)),
        "`--json` and standard input both print to standard output; with `--check` only one of them does"
    );
    let mut all = Vec::with_capacity(files.len());
    for file in files {
        let name = if is_input(file) { "<stdin>".to_owned() } else { file.display().to_string() };
        let (text, place) = if is_input(file) {
            (standard_input()?, None)
        } else {
            let (text, place) =
                replace::read(file).with_context(|| format!("cannot format `{}`", file.display()))?;
            (text, Some(place))
        };
        let formatted = one(&name, &text, place, args, out)?;
        // Standard output has the text itself then.
        let is_printed = is_input(file) && !check;
        if !json && !is_printed {
            report(&formatted, *check, out)?;
        }
        all.push(formatted);
    }
    if *json {
        serde_json::to_writer_pretty(&mut *out, &all).context("cannot write to standard output")?;
        writeln!(out)?;
    }
    let is_fine = all.iter().all(|one| one.valid && !(*check && one.changed));
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One file, whose text is written to its place, or to `out` if it has none.
fn one(
    name: &str,
    text: &str,
    place: Option<Replaceable>,
    args: &Args,
    out: &mut dyn Write,
) -> anyhow::Result<Formatted> {
    let printed = match format(&Source::new(name, text)) {
        Ok(printed) => printed,
        Err(Unformatted::Unreadable(found)) => return Ok(unreadable(name, &found, args.json)),
        Err(unsure) => return Err(unsure).with_context(|| format!("`{name}` was left as it is")),
    };
    let changed = printed != text;
    match place {
        _ if args.check => {}
        Some(place) if changed => {
            place.replace(&printed).with_context(|| format!("cannot write `{name}`"))?;
        }
        Some(_) => {}
        None => out.write_all(printed.as_bytes()).context("cannot write to standard output")?,
    }
    let line = changed.then(|| first_difference(text, &printed));
    Ok(Formatted { file: name.to_owned(), valid: true, changed, line, diagnostics: Vec::new() })
}

fn unreadable(name: &str, found: &Diagnostics, json: bool) -> Formatted {
    if !json {
        print_diagnostics(found);
    }
    let diagnostics = found.reports().collect();
    Formatted { file: name.to_owned(), valid: false, changed: false, line: None, diagnostics }
}

/// The number of the first line that is not the same in both.
fn first_difference(text: &str, other: &str) -> usize {
    let same = text.split_inclusive('\n').zip(other.split_inclusive('\n')).take_while(|(a, b)| a == b);
    same.count() + 1
}

fn report(formatted: &Formatted, check: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    match formatted {
        Formatted { file, valid: false, .. } => writeln!(out, "{file}: not valid")?,
        Formatted { file, line: Some(line), .. } if check => {
            writeln!(out, "{file}:{line}: would be formatted")?;
        }
        Formatted { file, changed: true, .. } => writeln!(out, "{file}: formatted")?,
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
    fn json_and_a_text_do_not_mix() {
        let args = |check| Args { files: vec![STANDARD_INPUT.into()], check, json: true };
        let error = run(&args(false), &mut Vec::new()).expect_err("two outputs");
        assert!(error.to_string().contains("standard output"), "{error}");
    }
}
