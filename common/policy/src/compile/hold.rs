//! What refuses to execute a file whose content is not known.

use treeline_abi::{content::Hold, paths};
use treeline_event::Mode;

use crate::policy::{Kind, Policy};

/// The first exec rule by SHA-256 in `enforce`, if there is one, with the exceptions that lift all such rules and the
/// subjects that any of them is for: an unknown content may be that of any of them.
pub(super) fn hold(policy: &Policy, rules: &[paths::Rule]) -> Hold {
    let mut hold = Hold::default();
    for (index, (rule, kernel)) in policy.rules.iter().zip(rules).enumerate() {
        let by_content = matches!(&rule.kind, Kind::Exec { sha256, .. } if !sha256.is_empty());
        if !by_content || rule.mode != Mode::Enforce {
            continue;
        }
        if hold.rule == paths::NO_RULE {
            let (exceptions, only) = (kernel.exceptions, kernel.only);
            hold = Hold { exceptions, only, rule: index as u32 + 1, pad: 0 };
        } else {
            hold.exceptions &= kernel.exceptions;
            hold.only = if hold.only == 0 || kernel.only == 0 { 0 } else { hold.only | kernel.only };
        }
    }
    hold
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_contents_that_are_refused_have_to_be_known() {
        let check = |rules: &str, expect: (u32, u64)| {
            let text = format!("version: 1\nname: n\nrules: [{rules}]\n");
            let policy = crate::parse("p", &text).expect("a good policy");
            let exceptions = [1, 3, 2].map(|exceptions| paths::Rule { exceptions, ..paths::Rule::default() });
            let hold = hold(&policy, &exceptions);
            assert_eq!((hold.rule, hold.exceptions), expect, "{rules}");
        };
        let a = "a".repeat(64);
        let by_path = "{id: a, kind: exec, paths: [/x], reason: r}";
        let monitored = format!("{{id: b, kind: exec, sha256: [{a}], mode: monitor, reason: r}}");
        let enforced = format!("{{id: b, kind: exec, sha256: [{a}], reason: r}}");
        let other = format!("{{id: c, kind: exec, paths: [/y], sha256: [{}], reason: r}}", "b".repeat(64));
        check(by_path, (0, 0));
        check(&format!("{by_path}, {monitored}"), (0, 0));
        check(&format!("{by_path}, {enforced}"), (2, 3));
        check(&format!("{by_path}, {enforced}, {other}"), (2, 2));
        check(&format!("{by_path}, {monitored}, {other}"), (3, 2));
    }
}
