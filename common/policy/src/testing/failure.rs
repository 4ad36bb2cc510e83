//! Why a test is not passed: where it is written, what decided instead, and what became of the rule that was expected to.

use treeline_event::PathBytes;

use super::{Answer, Test, TestFile};
use crate::{
    code::Code,
    diagnostic::Diagnostic,
    eval_allow::Allowed,
    explain::consider,
    host::Host,
    policy::{Policy, Rule},
    request::{Decision, Request},
    source::{Moved, Sources},
    suggest,
};

/// Characters of what is done that a message has; the whole is in the line that is shown.
const DONE_CHARS_MAX: usize = 200;

/// Judges the tests of one file.
pub(super) struct Failing<'p> {
    host: &'p Host,
    policy: &'p Policy,
    in_force: &'p Policy,
    /// The test file's text, and behind it those of the policy, where there is room for them.
    sources: Sources,
    moved: Option<Moved>,
}

impl<'p> Failing<'p> {
    pub(super) fn of(file: &'p TestFile, policy: &'p Policy, in_force: &'p Policy) -> Self {
        let mut sources = file.sources.clone();
        let moved = sources.extend(&policy.sources).ok();
        Self { host: &file.machine.host, policy, in_force, sources, moved }
    }

    pub(super) fn into_sources(self) -> Sources {
        self.sources
    }

    /// Why a test is not passed, given what the policy means and what its tables say.
    pub(super) fn check(&self, test: &Test, meant: Decision, by_tables: Decision) -> Option<Diagnostic> {
        let (expected, answer) = (&test.expect.value, Answer::of(meant, self.in_force));
        let done = in_words(&test.request);
        if meant != by_tables {
            let by_tables = Answer::of(by_tables, self.in_force);
            let message = format!("{done}: the policy says `{answer}`, and its tables `{by_tables}`");
            let differ = Diagnostic::error(Code::TablesDiffer, test.span, message);
            return Some(
                differ.help("this is an error of Treeline: report it with the policy and this test"),
            );
        }
        if *expected == answer {
            return None;
        }
        if let Some(id) = expected.rule()
            && self.in_force.rule(id).is_none()
        {
            return Some(self.unknown(test, id));
        }
        let message = format!("{done}: expected is `{expected}`, and the policy says `{answer}`");
        let mut failed = Diagnostic::error(Code::TestFailed, test.expect.span, message);
        let rule = |answer: &Answer| answer.rule().and_then(|id| self.in_force.rule(id));
        if let Some(decides) = rule(&answer) {
            failed = self.label(failed, test, decides, "this rule decides");
        }
        if let Some(wanted) = rule(expected).filter(|wanted| answer.rule() != Some(&wanted.id)) {
            failed = self.label(failed, test, wanted, "this rule was to decide");
        }
        Some(failed)
    }

    /// With the place of a rule and what came of it.
    fn label(&self, failed: Diagnostic, test: &Test, rule: &Rule, what: &str) -> Diagnostic {
        let Some(moved) = self.moved else { return failed };
        let Request { subject, object } = &test.request;
        let allowed = Allowed::of(&self.in_force.rules, self.host, subject, object);
        let outcome = consider(self.in_force, rule, self.host, &test.request, &allowed).outcome;
        failed.label(rule.span.moved(moved), format!("{what}: {outcome}"))
    }

    /// The rule that is expected to decide is not there.
    fn unknown(&self, test: &Test, id: &str) -> Diagnostic {
        let span = test.expect.span;
        if self.policy.rule(id).is_some() {
            let help = "give the file a `now` under `machine`, or remove the test";
            return Diagnostic::error(Code::UnknownRule, span, format!("`{id}` has expired")).help(help);
        }
        let ids = || self.in_force.rules.iter().map(|rule| rule.id.as_str());
        let parts: Vec<&str> = ids().filter(|other| other.split('/').next() == Some(id)).collect();
        let help = match suggest::nearest(id, ids()) {
            _ if !parts.is_empty() => format!("it is taken apart into {}", suggest::list(&parts)),
            Some(near) => format!("did you mean `{near}`?"),
            None => "`treeline policy check -v` lists them".to_owned(),
        };
        let message = format!("policy `{}` has no rule `{id}`", self.in_force.name);
        Diagnostic::error(Code::UnknownRule, span, message).help(help)
    }
}

/// What is done and by whom, for a message.
fn in_words(request: &Request) -> String {
    let by = match request.subject.executable.as_slice() {
        b"" => String::new(),
        path => format!(" by {}", PathBytes::from(path)),
    };
    let whole = format!("{}{by}", request.object);
    match whole.char_indices().nth(DONE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse, parse_tests, source::Source};

    #[test]
    fn tables_that_decide_otherwise_fail_what_was_expected() {
        let policy =
            parse("p", "version: 1\nname: t\nrules: [{id: a, kind: file, paths: [/x], reason: r}]\n");
        let policy = policy.expect("a valid policy");
        let text = "policy: p\ntests: [{do: read /y, expect: allow}]\n";
        let file = parse_tests(Source::new("t", text)).expect("valid tests");
        let failing = Failing::of(&file, &policy, &policy);
        let deny = Decision { verdict: treeline_event::Verdict::Deny, rule: Some(0) };
        assert_eq!(failing.check(&file.tests[0], Decision::ALLOW, Decision::ALLOW), None);
        let found = failing.check(&file.tests[0], Decision::ALLOW, deny).expect("a failure");
        assert_eq!(found.code, Code::TablesDiffer);
        assert!(
            found.message.contains("the policy says `allow`, and its tables `deny a`"),
            "{}",
            found.message
        );
    }
}
