//! What the sensor says that a rule amounts to, held against what came of the cases about the rule.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::attach::Attach;
use super::cases::{self, Case, Expect};
use super::session::{Entry, Mode};

/// Checks the log's word for every rule that a case is about.
pub(super) fn check(mode: Mode, attach: Attach, entries: &[Entry]) -> Result<()> {
    let applied = entries.iter().find_map(Entry::rules).context("no entry says what rules amount to")?;
    let rules: BTreeSet<&str> = cases::all().filter_map(rule).collect();
    for id in rules {
        let status = applied
            .iter()
            .find(|status| status["rule"] == id)
            .with_context(|| format!("nothing of `{id}`"))?;
        let state = status["state"].as_str().unwrap_or_default();
        let expect = states(mode, attach, id);
        ensure!(expect.contains(&state), "`{id}` is said to be {state}, expected {expect:?}: {status}");
    }
    Ok(())
}

/// The rule by which a case is refused where everything can be.
fn rule(case: &Case) -> Option<&'static str> {
    match case.expect {
        Expect::Denied(rule) => Some(rule),
        _ => None,
    }
}

/// The states that agree with what has to come of the cases about a rule.
fn states(mode: Mode, attach: Attach, id: &str) -> &'static [&'static str] {
    let of_rule = || cases::all().filter(|case| rule(case) == Some(id));
    let is_refused = |case: &Case| matches!(case.expect(attach), Expect::Denied(_));
    let is_missed = |case: &Case| !is_refused(case);
    let is_seen = of_rule().any(|case| case.expect(attach) != Expect::Works);
    if mode == Mode::Monitor {
        return if is_seen { &["observed"] } else { &["observed", "impossible"] };
    }
    match (of_rule().any(is_refused), of_rule().any(is_missed)) {
        (true, false) if attach.judges_all() => &["enforced"],
        // It names more than the cases try.
        (true, false) => &["enforced", "partly"],
        (true, true) => &["partly"],
        (false, _) if is_seen => &["observed"],
        (false, _) => &["observed", "impossible"],
    }
}
