//! What the shipped policies would have done to the session, against what docs/policies.md says of it.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    report::{Report, brief},
    verbs::Treeline,
};

/// Where the figures are told.
const DOCUMENT: &str = "docs/policies.md";
/// The head of their table there.
const HEAD: &str = "| policy | refused that was not | refused as it was |";

/// How often each rule would have refused.
type Counts = BTreeMap<String, u64>;

/// What a policy would have refused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Figures {
    /// Of what went on.
    new: Counts,
    /// Of what was refused.
    again: Counts,
}

/// Replays every policy that the document tells of, and the one that is learned from the session itself.
///
/// # Errors
/// When the document cannot be read, or `treeline` cannot be asked.
pub(super) fn policies(report: &mut Report, treeline: &Treeline<'_>, root: &Path) -> Result<()> {
    let text = fs::read_to_string(root.join(DOCUMENT)).with_context(|| format!("reading {DOCUMENT}"))?;
    let told = told(&text).with_context(|| format!("the table of {DOCUMENT}"))?;
    for (name, told) in &told {
        let file = root.join("policies").join(format!("{name}.yaml"));
        let found = replay(treeline, &file)?;
        let promise = format!("`{name}` would have refused what {DOCUMENT} says");
        report.check(&promise, found == *told, words(&found));
    }
    let shipped = fs::read_dir(root.join("policies")).context("reading policies")?;
    let names = shipped.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let untold: Vec<String> = names
        .filter_map(|name| name.strip_suffix(".test.yaml").map(str::to_owned))
        .filter(|name| !told.contains_key(name))
        .collect();
    report.check(&format!("{DOCUMENT} tells of every shipped policy"), untold.is_empty(), untold.join(", "));
    learned(report, treeline)
}

/// The policy that is learned from the session refuses nothing of it but what was refused.
fn learned(report: &mut Report, treeline: &Treeline<'_>) -> Result<()> {
    let home = treeline.scene.dirs.home.to_string_lossy();
    let answer = treeline.ask(&["learn", "--mode", "enforce", "--home", &home])?;
    report.check("`treeline learn` makes a policy of the session", answer.succeeded(), brief(&answer.err));
    let file = treeline.scene.root.join("learned.yaml");
    fs::write(&file, &answer.out).with_context(|| format!("writing {}", file.display()))?;
    let check = treeline.check_policy(&file)?;
    report.check("`treeline policy check` accepts it", check.succeeded(), brief(&check.out));
    let found = replay(treeline, &file)?;
    report.check("it would have refused nothing else than was refused", found.new.is_empty(), words(&found));
    Ok(())
}

fn replay(treeline: &Treeline<'_>, file: &Path) -> Result<Figures> {
    let (home, file) = (treeline.scene.dirs.home.to_string_lossy(), file.to_string_lossy());
    let answer = treeline.ask(&["policy", "replay", &file, "--json", "--home", &home])?;
    let report: Value =
        serde_json::from_str(&answer.out).with_context(|| format!("replaying {file}: {}", answer.err))?;
    Ok(figures(&report))
}

fn figures(report: &Value) -> Figures {
    let mut figures = Figures { new: Counts::new(), again: Counts::new() };
    let rules = report["rules"].as_array().map_or(&[][..], Vec::as_slice);
    for rule in rules.iter().filter(|rule| rule["mode"] == "enforce") {
        let id = rule["rule"].as_str().unwrap_or_default();
        let times = |then: &str| rule["then"][then]["times"].as_u64().unwrap_or(0);
        let new = times("allowed") + times("recorded") + times("not_refused");
        for (counts, times) in [(&mut figures.new, new), (&mut figures.again, times("denied"))] {
            if times > 0 {
                counts.insert(id.to_owned(), times);
            }
        }
    }
    figures
}

/// The rows of the document's table.
fn told(text: &str) -> Result<BTreeMap<String, Figures>> {
    let rows = text.lines().skip_while(|line| *line != HEAD).skip(2).take_while(|line| line.starts_with('|'));
    let rows: BTreeMap<String, Figures> = rows.map(row).collect::<Result<_>>()?;
    ensure!(!rows.is_empty(), "there is no table `{HEAD}`");
    Ok(rows)
}

fn row(line: &str) -> Result<(String, Figures)> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [name, new, again] = cells.as_slice() else { anyhow::bail!("`{line}` has not three cells") };
    Ok((name.trim_matches('`').to_owned(), Figures { new: counts(new)?, again: counts(again)? }))
}

/// A cell: `nothing`, or rules with numbers.
fn counts(cell: &str) -> Result<Counts> {
    if cell == "nothing" {
        return Ok(Counts::new());
    }
    let one = |part: &str| -> Result<(String, u64)> {
        let (id, times) =
            part.trim().split_once(' ').with_context(|| format!("`{part}` is no rule with a number"))?;
        Ok((
            id.trim_matches('`').to_owned(),
            times.parse().with_context(|| format!("the number of `{part}`"))?,
        ))
    };
    cell.split(',').map(one).collect()
}

/// As a row of the table.
fn words(figures: &Figures) -> String {
    let cell = |counts: &Counts| {
        let parts: Vec<String> = counts.iter().map(|(id, times)| format!("`{id}` {times}")).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    };
    format!("{} | {}", cell(&figures.new), cell(&figures.again))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_compared_with_the_document() {
        let text = format!(
            "x\n\n{HEAD}\n|---|---|---|\n| `a` | nothing | `r` 2 |\n| `b` | `default/x` 1, `s` 3 | nothing |\n\n| no |\n"
        );
        let told = told(&text).expect("a table");
        assert_eq!(words(&told["a"]), "nothing | `r` 2");
        assert_eq!(words(&told["b"]), "`default/x` 1, `s` 3 | nothing");
        let then = |allowed: u64, denied: u64| json!({"allowed": {"times": allowed}, "recorded": {"times": 0}, "not_refused": {"times": 0}, "denied": {"times": denied}});
        let report = json!({"rules": [
            {"rule": "default/x", "mode": "enforce", "then": then(1, 0)},
            {"rule": "s", "mode": "enforce", "then": then(3, 0)},
            {"rule": "m", "mode": "monitor", "then": then(9, 0)},
            {"rule": "n", "mode": "enforce", "then": then(0, 0)},
        ]});
        assert_eq!(figures(&report), told["b"]);
        assert!(super::told("").is_err());
        assert!(counts("r").is_err() && counts("r x").is_err());
    }
}
