//! From text to a checked [`Policy`]: every error is found and reported, not only the first.

mod about;
mod approvals;
mod call;
mod defaults;
mod fields;
mod include;
mod lists;
mod rule;
mod rules;
mod scalar;
mod session;
mod silence;
mod test_call;
mod test_file;
mod wide;

use std::sync::Arc;

use self::{
    fields::{Fields, clip, peek},
    lists::Lists,
    rules::Rules,
};
pub use self::{
    test_call::parse_server,
    test_file::{parse_tests, parse_tests_with},
};
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    loader::{Alone, Loader},
    moment::Moment,
    policy::{Mode, Policy, Rule},
    source::{FileId, Source},
    syntax::policy_shape::{MODES, POLICY},
    yaml::{self, Node, Value},
};

pub use crate::syntax::VERSION;

/// Reads and checks a policy of one text, which can include no file. `source_name` is what messages call it, such as its
/// path.
///
/// # Errors
/// Every error in the text, with warnings among them.
pub fn parse(source_name: &str, text: &str) -> Result<Policy, Diagnostics> {
    parse_with(&Alone, Source::new(source_name, text), None)
}

/// Reads and checks a policy with the files that it includes. What is behind the last `/` of the root's name is the name of
/// the policy's own file, by which another one could include it. With `now`, rules that have expired are warned of; they are in the policy all the same, see
/// [`Policy::at`].
///
/// # Errors
/// Every error in the texts, with warnings among them.
pub fn parse_with(loader: &dyn Loader, root: Source, now: Option<Moment>) -> Result<Policy, Diagnostics> {
    let mut out = Diagnostics::about(root);
    if out.has_errors() {
        return Err(out);
    }
    match policy(loader, &mut out) {
        Some(policy) if !out.has_errors() => {
            if let Some(now) = now {
                warn_of_expired(&policy.rules, now, &mut out);
            }
            Ok(Policy { warnings: out, ..policy })
        }
        _ => Err(out),
    }
}

fn policy(loader: &dyn Loader, out: &mut Diagnostics) -> Option<Policy> {
    let root = yaml::parse(FileId::default(), out)?;
    refuse_other_files(&root, out)?;
    let fields = Fields::of(&root, &POLICY, out)?;
    if let Some(node) = fields.get("version") {
        version(node, out);
    }
    let name = fields.text("name", out);
    let description = fields.text("description", out);
    let owner = fields.text("owner", out);
    let revision = fields.get("revision").and_then(|node| about::revision(node, out));
    // With a mode that cannot be read, the rules are still checked.
    let mode =
        fields.get("mode").and_then(|node| scalar::word(node, "mode", &MODES, out)).unwrap_or(Mode::Enforce);
    if fields.get("include").is_none() && fields.get("rules").is_none() {
        let help = Some("add `rules:`".into());
        out.error(Code::MissingKey, fields.head(), "a policy has no `rules`", help);
        return None;
    }
    let fragments = include::fragments(&fields, loader, out);
    let files = [&root].into_iter().chain(&fragments.nodes);
    let silences = silence::of_files(files.clone(), out).into_iter().collect();
    let defaults = fields.get("defaults").map(|node| defaults::read(node, out)).unwrap_or_default();
    let mut found = Rules::new(mode);
    rules(files, Lists::new(fragments.complete), &mut found, out);
    found.add_defaults(defaults, out);
    let rules = found.into_vec();
    let mut approvals =
        fields.get("approvals").map(|node| approvals::read(node, &rules, out)).unwrap_or_default();
    let (name, mut rules) = (name?, rules);
    let policy: Arc<str> = name.as_str().into();
    for rule in &mut rules {
        rule.policy = Arc::clone(&policy);
    }
    for approval in &mut approvals {
        approval.policy = Arc::clone(&policy);
    }
    let sources = out.sources().clone();
    let warnings = Diagnostics::new(sources.clone());
    Some(Policy { name, description, owner, revision, mode, rules, approvals, silences, sources, warnings })
}

/// Says of a file that policies include, and of one with their tests, what it is: what else would be said of it is not its
/// mistake.
fn refuse_other_files(root: &Node, out: &mut Diagnostics) -> Option<()> {
    let has = |key| peek(root, key).is_some();
    let (message, help) = if has("tests") && has("policy") && !has("rules") {
        ("this is a file with the tests of a policy", "run them by `treeline policy test FILE`")
    } else if include::is_fragment(root) {
        (
            "this file has no `name`: it is a part of policies that include it",
            "check one of those, or add `name:`",
        )
    } else {
        return Some(());
    };
    out.error(Code::NotAPolicy, root.span.head(), message, Some(help.to_owned()));
    None
}

/// Reads the rules of all files, whose lists are one set.
fn rules<'n>(
    files: impl Iterator<Item = &'n Node> + Clone,
    mut lists: Lists,
    rules: &mut Rules,
    out: &mut Diagnostics,
) {
    for node in files.clone().filter_map(|file| peek(file, "lists")) {
        lists.add(node, out);
    }
    lists.resolve(out);
    for node in files.filter_map(|file| peek(file, "rules")) {
        rules.add(node, &mut lists, out);
    }
    if !out.has_errors() {
        lists.warn_of_unused(out);
    }
}

fn warn_of_expired(rules: &[Rule], now: Moment, out: &mut Diagnostics) {
    let mut last = None;
    for rule in rules.iter().filter(|rule| rule.has_expired(now)) {
        let Some(expires) = &rule.expires else { continue };
        // The parts of one rule stand next to each other.
        if last.replace(expires.span) == Some(expires.span) {
            continue;
        }
        let id = rule.id.split('/').next().unwrap_or_default();
        let message = format!("`{id}` has expired: from {} on it is not in force", expires.value);
        out.warning(
            Code::Expired,
            expires.span,
            message,
            Some("remove the rule, or give it another date".into()),
        );
    }
}

fn version(node: &Node, out: &mut Diagnostics) {
    let help = format!("this Treeline reads version {VERSION}; upgrade it or write `version: {VERSION}`");
    let number = match &node.value {
        Value::Scalar { text, plain: true } if node.describe() == "a number" => text,
        _ => {
            out.error(
                Code::WrongType,
                node.span,
                "`version` has to be a number",
                Some(format!("write `version: {VERSION}`")),
            );
            return;
        }
    };
    if number.parse() != Ok(VERSION) {
        let message = format!("version {} of the policy language is not known", clip(number));
        out.error(Code::UnknownVersion, node.span, message, Some(help));
    }
}
