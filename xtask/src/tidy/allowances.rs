//! Lints that are switched off.

use super::{finding::Finding, source::Source};

/// Every `allow` attribute without a reason.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let code = source.code();
    let mut findings = Vec::new();
    for opening in ["#[allow(", "#![allow("] {
        for (at, _) in code.match_indices(opening) {
            let attribute = code[at..].split(']').next().unwrap_or_default();
            if !attribute.contains("reason") {
                findings.push(Finding::new(
                    source.path(),
                    code[..at].matches('\n').count() + 1,
                    "a lint is allowed without a reason",
                    "the next reader cannot tell whether it still holds",
                    "use `#[expect(..., reason = \"...\")]`, which complains when it is no longer needed",
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_asked_for() {
        let cases = [
            ("#[allow(dead_code)]", 1),
            ("#![allow(dead_code)]", 1),
            ("#[allow(\n    dead_code,\n    reason = \"so\",\n)]", 0),
            ("#[expect(dead_code, reason = \"so\")]", 0),
            ("// #[allow(dead_code)]", 0),
        ];
        for (text, expect) in cases {
            assert_eq!(check(&Source::parse("a.rs", text)).len(), expect, "{text}");
        }
    }
}
