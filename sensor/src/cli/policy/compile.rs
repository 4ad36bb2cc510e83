//! `treeline policy compile`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use serde::Serialize;
use treeline_event::AttachMode;
use treeline_policy::{
    Diagnostics, Home, Host, MountTable, Target, compile,
    compile::{
        MapUse, Usage,
        cost::{COMPONENTS, Cost, MEASURED},
    },
    diagnostic::Report,
    parse_with,
};

use super::{
    check::refuse_unenforceable,
    files::{Below, read},
    homes,
    lower::{Lower, composed},
    now, print_diagnostics,
};
use crate::{backend::linux, config::ModeChoice};

/// Arguments of `treeline policy compile`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    lower: Lower,
    /// Compile for so many users, who have their homes in /home, instead of those of this machine
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    homes: Option<u32>,
    /// Compile for an attach mode, whatever this machine offers: a rule in `enforce` that the mode cannot enforce is an error
    #[arg(long, value_enum, value_name = "MODE")]
    mode: Option<ModeChoice>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of a policy, for machines.
#[derive(Debug, Default, Serialize)]
struct Answer {
    file: String,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    compiled: Option<Compiled>,
    diagnostics: Vec<Report>,
}

/// What its tables take.
#[derive(Debug, Serialize)]
struct Compiled {
    policy: String,
    homes: usize,
    usage: Usage,
    maps: Vec<OfMap>,
    /// Where decisions are the kernel programs'.
    #[serde(skip_serializing_if = "Option::is_none")]
    estimate: Option<Estimate>,
}

#[derive(Debug, Serialize)]
struct OfMap {
    #[serde(flatten)]
    map: MapUse,
    bytes: usize,
    bytes_max: usize,
}

/// What decisions cost.
#[derive(Debug, Serialize)]
struct Estimate {
    basis: String,
    components: usize,
    costs: Vec<Cost>,
}

/// Compiles a policy and says what it takes.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let file = args.file.display().to_string();
    let source = read(&args.file)?;
    let mode = args.mode.map(AttachMode::from);
    let host = Host { homes: args.homes.map_or_else(homes, made_up) };
    let lower = args.lower.read(Some(now()))?;
    let own = parse_with(&Below::directory_of(&args.file), source, Some(now()));
    let result = own.and_then(|own| composed(own, lower)).and_then(|policy| {
        let policy = policy.at(now());
        let target = Target { seed: 0, generation: 1, slot: 0 };
        let tables = compile(&policy, &host, &MountTable::single(1), target)?;
        if let Some(mode) = mode {
            refuse_unenforceable(&policy, mode, &linux::full_coverage_of(&policy, mode))?;
        }
        let of_map = |map: MapUse| OfMap { bytes: map.bytes(), bytes_max: map.bytes_max(), map };
        let compiled = Compiled {
            policy: policy.name,
            homes: host.homes.len(),
            usage: tables.usage(),
            maps: tables.maps().into_iter().map(of_map).collect(),
            estimate: (mode != Some(AttachMode::Fallback)).then(|| Estimate {
                basis: basis(),
                components: COMPONENTS,
                costs: tables.costs(),
            }),
        };
        Ok((compiled, policy.warnings))
    });
    answer(file, result, args.json, out)
}

fn answer(
    file: String,
    result: Result<(Compiled, Diagnostics), Diagnostics>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let (compiled, diagnostics) = match result {
        Ok((compiled, warnings)) => (Some(compiled), warnings),
        Err(found) => (None, found),
    };
    let code = if compiled.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        let answer = Answer {
            file,
            valid: compiled.is_some(),
            compiled,
            diagnostics: diagnostics.reports().collect(),
        };
        serde_json::to_writer_pretty(&mut *out, &answer).context("cannot write to standard output")?;
        writeln!(out)?;
        return Ok(code);
    }
    print_diagnostics(&diagnostics);
    match compiled {
        Some(compiled) => print(&file, &compiled, out)?,
        None => writeln!(out, "{file}: not valid")?,
    }
    Ok(code)
}

/// What the estimate stands on.
fn basis() -> String {
    format!(
        "a guess for comparing policies, not a measurement of this one: shares read off the code, adjusted to the {MEASURED} \
         instructions that `lsm/file_open` took in a session with the shipped policy on Linux 6.12 (`cargo xtask bench --guest 6.12`)"
    )
}

fn print(file: &str, compiled: &Compiled, out: &mut dyn Write) -> anyhow::Result<()> {
    let Compiled { policy, homes, usage, maps, estimate } = compiled;
    let bytes: usize = maps.iter().map(|of_map| of_map.bytes).sum();
    writeln!(
        out,
        "{file}: policy `{policy}`, {} rules, {homes} homes, {bytes} bytes of keys and values",
        usage.rules
    )?;
    writeln!(
        out,
        "{:<10} {:>8} {:>8} {:>10} {:>9} {:>9}",
        "map", "entries", "at most", "bytes each", "bytes", "at most"
    )?;
    for OfMap { map, bytes, bytes_max } in maps {
        let MapUse { map, entries, entries_max, entry_bytes } = map;
        writeln!(out, "{map:<10} {entries:>8} {entries_max:>8} {entry_bytes:>10} {bytes:>9} {bytes_max:>9}")?;
    }
    let Some(Estimate { basis, components, costs }) = estimate else {
        writeln!(
            out,
            "in mode fallback the sensor decides about files: what the kernel programs take is not estimated"
        )?;
        return Ok(());
    };
    writeln!(
        out,
        "{:<14} {:>8} {:>6} {:>6} {:>6} {:>13}",
        "one decision", "lookups", "words", "globs", "rules", "instructions"
    )?;
    for Cost { operation, lookups, word_steps, wilds, rules, instructions } in costs {
        writeln!(
            out,
            "{operation:<14} {lookups:>8} {word_steps:>6} {wilds:>6} {rules:>6} {:>13}",
            format!("~{instructions}")
        )?;
    }
    writeln!(out, "paths have {components} components; instructions are {basis}")?;
    Ok(())
}

/// Homes of users who are made up.
pub(super) fn made_up(count: u32) -> Vec<Home> {
    let home = |number: u32| Home { uid: 1000 + number, path: format!("/home/user-{number}").into_bytes() };
    (0..count).map(home).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_takes() {
        let check = |rule: &str,
                     homes: u32,
                     mode: Option<ModeChoice>,
                     json: bool,
                     expect: ExitCode,
                     words: &[&str]| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), format!("version: 1\nname: t\nrules: [{rule}]\n")).expect("a file");
            let args = Args {
                file: file.path().to_owned(),
                lower: Lower::default(),
                homes: Some(homes),
                mode,
                json,
            };
            let mut out = Vec::new();
            let code = run(&args, &mut out).expect("a readable file");
            let out = String::from_utf8(out).expect("text");
            assert_eq!(code, expect, "{out}");
            for word in words {
                assert!(out.contains(word), "{word}: {out}");
            }
        };
        let file =
            |path: &str| format!("{{id: a, kind: file, reason: r, operations: [read], paths: [\"{path}\"]}}");
        let (ok, bad) = (ExitCode::SUCCESS, ExitCode::FAILURE);
        check(&file("~/.ssh/**"), 3, None, false, ok, &["1 rules, 3 homes", "\nEDGES ", "~", "a guess"]);
        check(
            &file("~/x"),
            0,
            None,
            true,
            ok,
            &["\"homes\": 0", "\"map\": \"RULES\"", "\"basis\"", "\"operation\": \"path\""],
        );
        check(&file("~/x"), 1, Some(ModeChoice::Fallback), false, ok, &["the sensor decides about files"]);
        check(&file("**/x"), 1, Some(ModeChoice::Fallback), true, bad, &["\"code\": \"unenforceable\""]);
        check(&file("x"), 1, None, true, bad, &["\"valid\": false", "bad-pattern"]);
    }
}
