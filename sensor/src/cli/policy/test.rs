//! `treeline policy test`.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use treeline_event::PathBytes;
use treeline_policy::{
    Code, Diagnostics, Loader as _, Policy,
    diagnostic::{Diagnostic, Report},
    parse_tests_with, parse_with,
    source::Position,
    testing::{self, Results, TestFile, Untested},
};

use super::{
    files::{Below, read},
    lower::{Lower, composed},
    now, print_diagnostics,
};
use crate::tools::Reader;

/// What the name of a file with tests ends with.
const TESTS: &str = "test.yaml";

/// Arguments of `treeline policy test`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files of tests, policies with their tests beside them (`NAME.test.yaml` beside `NAME.yaml`), or directories, of which
    /// every `*.test.yaml` is run [default: the working directory]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    lower: Lower,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of one file, for machines.
#[derive(Debug, Serialize)]
struct Tested {
    file: String,
    /// Whether its tests could be run.
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    passed: usize,
    failed: usize,
    tests: Vec<One>,
    #[serde(skip_serializing_if = "Option::is_none")]
    untested: Option<Untested>,
    diagnostics: Vec<Report>,
}

/// One test, for machines.
#[derive(Debug, Serialize)]
struct One {
    #[serde(flatten)]
    position: Position,
    #[serde(rename = "do")]
    done: String,
    by: Option<PathBytes>,
    expect: String,
    answer: String,
    passed: bool,
}

/// Runs tests. With `verbose` it prints each one, and what of a policy no test shows.
pub(super) fn run(args: &Args, verbose: bool, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut tested = Vec::new();
    for file in files(&args.paths)? {
        let name = file.display().to_string();
        let (one, diagnostics) = match results(&file, &args.lower)? {
            Ok((tests, policy, results)) => {
                let failures = results.failures();
                (of_results(name, &tests, &policy, results, &failures), failures)
            }
            Err(found) => (not_valid(name, &found), found),
        };
        if !args.json {
            print_diagnostics(&diagnostics);
            report(&one, verbose, out)?;
        }
        tested.push(one);
    }
    let failed: usize = tested.iter().map(|one| one.failed).sum();
    let not_valid = tested.iter().filter(|one| !one.valid).count();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &tested).context("cannot write to standard output")?;
        writeln!(out)?;
    } else if let [_, _, ..] = tested.as_slice() {
        let passed: usize = tested.iter().map(|one| one.passed).sum();
        writeln!(
            out,
            "{} files: {passed} passed, {failed} failed, {not_valid} files not valid",
            tested.len()
        )?;
    }
    Ok(if failed + not_valid == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files that are meant.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    if paths.is_empty() {
        let found = in_directory(Path::new("."))?;
        return Ok(found.iter().filter_map(|file| file.file_name()).map(PathBuf::from).collect());
    }
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(in_directory(path)?);
        } else if is_tests(path.as_os_str()) {
            files.push(path.clone());
        } else {
            let beside = path.with_extension(TESTS);
            if !beside.exists() {
                bail!("`{}` has no tests: there is no `{}`", path.display(), beside.display());
            }
            files.push(beside);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

fn is_tests(name: &OsStr) -> bool {
    name.as_encoded_bytes().strip_suffix(TESTS.as_bytes()).is_some_and(|stem| stem.ends_with(b"."))
}

/// The tests in a directory, not below it, by name.
fn in_directory(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let attempt = || format!("cannot read `{}`", directory.display());
    let entries = fs::read_dir(directory).with_context(attempt)?;
    let entries: Vec<fs::DirEntry> = entries.collect::<Result<_, _>>().with_context(attempt)?;
    let tests = entries.iter().filter(|entry| is_tests(&entry.file_name()));
    let mut found: Vec<PathBuf> = tests.map(fs::DirEntry::path).collect();
    if found.is_empty() {
        bail!("`{}` has no tests: no file in it is named `*.{TESTS}`", directory.display());
    }
    found.sort_unstable();
    Ok(found)
}

/// Runs the tests of one file, or says why they cannot be run.
fn results(file: &Path, lower: &Lower) -> anyhow::Result<Result<(TestFile, Policy, Results), Diagnostics>> {
    let (source, now) = (read(file)?, now());
    let lower = lower.read(Some(now))?;
    Ok(parse_tests_with(source, &mut Reader::new()).and_then(|tests| {
        let written = Below::directory_of(file).load(&tests.policy.value).map_err(|error| {
            let message = format!("`{}` cannot be read: {}", tests.policy.value, error.why);
            let mut found = Diagnostics::new(tests.sources.clone());
            let help = "the policy is named by its path from the directory of its tests on";
            found.push(Diagnostic::error(Code::CannotInclude, tests.policy.span, message).help(help));
            found
        })?;
        let below = Below::directory_of(Path::new(written.name()));
        let policy = composed(parse_with(&below, written, Some(now))?, lower)?;
        let results = testing::run(&tests, &policy, Some(now))?;
        Ok((tests, policy, results))
    }))
}

fn not_valid(file: String, found: &Diagnostics) -> Tested {
    Tested {
        file,
        valid: false,
        policy: None,
        passed: 0,
        failed: 0,
        tests: Vec::new(),
        untested: None,
        diagnostics: found.reports().collect(),
    }
}

fn of_results(
    file: String,
    tests: &TestFile,
    policy: &Policy,
    results: Results,
    failures: &Diagnostics,
) -> Tested {
    let one = |(test, outcome): (&testing::Test, &testing::Outcome)| One {
        position: tests.sources.position(test.span),
        done: test.request.object.to_string(),
        by: Some(PathBytes::from(test.request.subject.executable.as_slice())).filter(|path| !path.is_empty()),
        expect: test.expect.value.to_string(),
        answer: outcome.answer.to_string(),
        passed: outcome.failure.is_none(),
    };
    let failed = results.failed();
    Tested {
        file,
        valid: true,
        policy: Some(policy.name.clone()),
        passed: results.outcomes.len() - failed,
        failed,
        tests: tests.tests.iter().zip(&results.outcomes).map(one).collect(),
        untested: Some(results.untested),
        diagnostics: failures.reports().collect(),
    }
}

fn report(tested: &Tested, verbose: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let Tested { file, policy, passed, failed, tests, untested, .. } = tested;
    let (Some(policy), Some(untested)) = (policy, untested) else {
        writeln!(out, "{file}: not valid")?;
        return Ok(());
    };
    for test in tests.iter().filter(|_| verbose) {
        let by = test.by.as_ref().map_or(String::new(), |path| format!(" by {path}"));
        let passed = if test.passed { "passed" } else { "FAILED" };
        writeln!(out, "  {passed}  {}{by}: {}", test.done, test.answer)?;
    }
    let Untested { rules, exceptions } = untested;
    let without = match (rules.len(), exceptions.len()) {
        (0, 0) => String::new(),
        (rules, exceptions) => format!("; without a test: {rules} rules, {exceptions} exceptions"),
    };
    writeln!(out, "{file}: policy `{policy}`, {passed} passed, {failed} failed{without}")?;
    for rule in rules.iter().filter(|_| verbose) {
        writeln!(out, "  without a test: rule `{rule}`")?;
    }
    for one in exceptions.iter().filter(|_| verbose) {
        writeln!(out, "  without a test: exception for `{}` in rule `{}`", one.exception, one.rule)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
version: 1
name: t
rules:
  - {id: keys, kind: file, paths: [/keys/**], reason: r, except: [{executable: /usr/bin/ssh}]}
";
    const KEY: &str = "{do: read /keys/id, by: /usr/bin/cat, expect: deny keys}";

    /// A directory with a policy, and files of tests of it.
    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("p.yaml"), POLICY).expect("a file");
        for (name, tests) in files {
            let text = format!("policy: p.yaml\ntests: [{tests}]\n");
            fs::write(dir.path().join(name), text).expect("a file");
        }
        dir
    }

    fn run_in(dir: &Path, paths: &[&str], json: bool, verbose: bool) -> anyhow::Result<(ExitCode, String)> {
        let paths = paths.iter().map(|path| dir.join(path)).collect();
        let args = Args { paths, lower: Lower::default(), json };
        let mut out = Vec::new();
        let code = run(&args, verbose, &mut out)?;
        Ok((code, String::from_utf8(out)?.replace(&format!("{}/", dir.display()), "")))
    }

    #[test]
    fn files_that_are_meant() {
        let dir = directory(&[("p.test.yaml", KEY), ("q.test.yaml", KEY), ("tests.yaml", KEY)]);
        let check = |paths: &[&str], expect: Result<&str, &str>| match (
            run_in(dir.path(), paths, false, false),
            expect,
        ) {
            (Ok((code, out)), Ok(expect)) => assert_eq!((code, out.as_str()), (ExitCode::SUCCESS, expect)),
            (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{error:#}"),
            (found, expect) => panic!("{found:?}, expected {expect:?}"),
        };
        let one = "p.test.yaml: policy `t`, 1 passed, 0 failed; without a test: 0 rules, 1 exceptions\n";
        check(&["p.test.yaml"], Ok(one));
        check(&["p.yaml"], Ok(one));
        check(&["p.yaml", "p.test.yaml"], Ok(one));
        let both = format!(
            "{one}{}2 files: 2 passed, 0 failed, 0 files not valid\n",
            one.replace("p.test", "q.test")
        );
        check(&["."], Ok(&both.replace("p.test", "./p.test").replace("q.test", "./q.test")));
        check(&["tests.yaml"], Err("there is no `"));
        check(&["gone.test.yaml"], Err("cannot read `"));
        let empty = tempfile::tempdir().expect("a directory");
        let error = run_in(empty.path(), &["."], false, false).expect_err("no tests");
        assert!(error.to_string().contains("no file in it is named `*.test.yaml`"), "{error}");
    }

    #[test]
    fn what_came_of_them() {
        let failing = "{do: read /keys/id, by: /usr/bin/ssh, expect: deny keys}";
        let dir = directory(&[("p.test.yaml", &format!("{KEY}, {failing}"))]);
        let (code, out) = run_in(dir.path(), &["p.test.yaml"], false, true).expect("readable files");
        assert_eq!(code, ExitCode::FAILURE);
        assert_eq!(
            out,
            "  passed  read /keys/id by /usr/bin/cat: deny keys\n  FAILED  read /keys/id by /usr/bin/ssh: allow\n\
             p.test.yaml: policy `t`, 1 passed, 1 failed\n"
        );
        let (code, out) = run_in(dir.path(), &["p.test.yaml"], true, false).expect("readable files");
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(code, ExitCode::FAILURE);
        assert_eq!((&json[0]["passed"], &json[0]["failed"]), (&1.into(), &1.into()));
        let second = &json[0]["tests"][1];
        assert_eq!((&second["do"], &second["answer"]), (&"read /keys/id".into(), &"allow".into()));
        assert_eq!((&second["line"], &second["passed"]), (&2.into(), &false.into()));
        let found = &json[0]["diagnostics"][0];
        assert_eq!((&found["code"], &found["line"]), (&"test-failed".into(), &2.into()));
        assert!(found["related"][0]["file"].as_str().is_some_and(|file| file.ends_with("p.yaml")), "{found}");
        assert_eq!(json[0]["untested"]["rules"], serde_json::json!([]));
    }

    #[test]
    fn what_cannot_be_run() {
        let check = |name: &str, text: &str, words: &str| {
            let dir = directory(&[]);
            fs::write(dir.path().join("bad.yaml"), "version: 1\nname: t\nrules: 1\n").expect("a file");
            fs::write(dir.path().join(name), text).expect("a file");
            let (code, out) = run_in(dir.path(), &[name], true, false).expect("a readable file");
            assert_eq!(code, ExitCode::FAILURE);
            let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
            assert_eq!(json[0]["valid"], false);
            assert!(out.contains(words), "{out}");
        };
        let tests = |policy: &str| format!("policy: {policy}\ntests: [{KEY}]\n");
        check("a.test.yaml", &tests("gone.yaml"), "`gone.yaml` cannot be read: No such file");
        check("a.test.yaml", &tests("bad.yaml"), "`rules` has to be a list");
        check("a.test.yaml", "policy: p.yaml\n", "has no `tests`");
        check("a.test.yaml", &tests("p.yaml").replace("read", "raed"), "did you mean `read`?");
    }
}
