//! `cargo xtask tidy`: the rules of style and structure that no other tool checks. Each file below is one family of rules.

mod allowances;
mod boundaries;
mod finding;
mod functions;
mod layers;
mod links;
mod manifests;
mod policies;
mod source;
mod stand_ins;
mod unsafety;
mod words;

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{checkout::Checkout, outcome::Outcome};

use self::{finding::Finding, source::Source};

/// More is nothing that a reader holds in the head.
const FILE_LINES_MAX: usize = 800;

/// Reads every file that git knows or would take, and prints what is wrong with them.
pub(crate) fn run(checkout: &Checkout) -> Result<Outcome> {
    let files = files(checkout)?;
    let mut findings: Vec<Finding> = files.iter().flat_map(file_findings).collect();
    let rust: Vec<Source> = files
        .iter()
        .filter(|file| file.is_rust())
        .map(|file| Source::parse(&file.path, &file.text))
        .collect();
    findings.extend(rust.iter().flat_map(source_findings));
    findings.extend(unsafety::one_file_only(&rust));
    findings.extend(links::check(&files));
    findings.extend(policies::check(&files));
    findings.extend(stand_ins::check(&files));
    findings.extend(layers::check(&layers::Metadata::of(checkout)?));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} files, {} findings", files.len(), findings.len());
    Ok(Outcome::from_count(findings.len()))
}

/// A file of the project, by its path from the root.
#[derive(Debug)]
struct TextFile {
    path: String,
    text: String,
}

impl TextFile {
    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    fn is_manifest(&self) -> bool {
        Path::new(&self.path).file_name().is_some_and(|name| name == "Cargo.toml")
    }
}

fn files(checkout: &Checkout) -> Result<Vec<TextFile>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(checkout.root())
        .output()
        .context("cannot run `git ls-files`: is git installed?")?;
    ensure!(
        listed.status.success(),
        "`git ls-files` failed in `{}`: {}",
        checkout.root().display(),
        String::from_utf8_lossy(&listed.stderr).trim()
    );
    let listed =
        String::from_utf8(listed.stdout).context("a path in the checkout is not UTF-8: rename it")?;
    // What is listed and gone was just removed; what is no text is data, to which no rule here applies.
    Ok(listed
        .split_terminator('\0')
        .filter_map(|path| Some((path, fs::read(checkout.root().join(path)).ok()?)))
        .filter_map(|(path, bytes)| {
            Some(TextFile { path: path.to_owned(), text: String::from_utf8(bytes).ok()? })
        })
        .collect())
}

/// Rules for any text.
fn file_findings(file: &TextFile) -> Vec<Finding> {
    let mut findings = words::check(&file.path, &file.text);
    if file.is_manifest() {
        findings.extend(manifests::check(&file.path, &file.text));
    }
    findings
}

/// Rules for Rust.
fn source_findings(source: &Source) -> Vec<Finding> {
    let mut findings = words::check_source(source);
    findings.extend(length(source));
    findings.extend(functions::check(source));
    findings.extend(allowances::check(source));
    findings.extend(unsafety::check(source));
    findings.extend(boundaries::check(source));
    findings
}

fn length(source: &Source) -> Option<Finding> {
    let count = source.lines().len();
    (count > FILE_LINES_MAX).then(|| {
        Finding::new(
            source.path(),
            FILE_LINES_MAX + 1,
            format!("the file has {count} lines"),
            format!("a file is one noun and at most {FILE_LINES_MAX} lines"),
            "split it by noun",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_lines() {
        let text = |count| "// a\n".repeat(count);
        assert_eq!(length(&Source::parse("a.rs", &text(FILE_LINES_MAX))), None);
        let finding = length(&Source::parse("a.rs", &text(FILE_LINES_MAX + 1))).unwrap();
        assert!(finding.to_string().starts_with("a.rs:801: the file has 801 lines"), "{finding}");
    }
}
