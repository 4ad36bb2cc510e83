//! From text to a checked [`Policy`]: every error is found and reported, not only the first.

mod about;
mod fields;
mod lists;
mod rule;
mod scalar;

use std::collections::BTreeMap;

use treeline_abi::paths;

use self::{fields::Fields, lists::Lists, rule::Written, scalar::MODES};
use crate::{
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    moment::Moment,
    policy::{Mode, Policy, Rule},
    source::{FileId, Source, Span},
    yaml::{self, Node, Value},
};

/// The version of the language that this crate reads.
pub const VERSION: u32 = 1;
/// Characters of a policy's name: it is in every denial.
const NAME_CHARS_MAX: usize = 64;
/// Characters of a description.
const DESCRIPTION_CHARS_MAX: usize = 4096;
/// Characters of an owner.
const OWNER_CHARS_MAX: usize = 256;
const KEYS: [&str; 8] = ["version", "name", "description", "owner", "revision", "mode", "lists", "rules"];

/// Reads and checks a policy. `source_name` is what messages call the text, such as its path.
///
/// # Errors
/// Every error in the text, with warnings among them.
pub fn parse(source_name: &str, text: &str) -> Result<Policy, Diagnostics> {
    parse_with(Source::new(source_name, text), None)
}

/// Reads and checks a policy. With `now`, rules that have expired are warned of; they are in the policy all the same, see
/// [`Policy::at`].
///
/// # Errors
/// Every error in the text, with warnings among them.
pub fn parse_with(root: Source, now: Option<Moment>) -> Result<Policy, Diagnostics> {
    let mut out = Diagnostics::about(root);
    if out.has_errors() {
        return Err(out);
    }
    match policy(&mut out) {
        Some(policy) if !out.has_errors() => {
            if let Some(now) = now {
                warn_of_expired(&policy.rules, now, &mut out);
            }
            Ok(Policy { warnings: out, ..policy })
        }
        _ => Err(out),
    }
}

fn policy(out: &mut Diagnostics) -> Option<Policy> {
    let root = yaml::parse(FileId::default(), out)?;
    let fields = Fields::new(&root, "a policy", &KEYS, out)?;
    if let Some(node) = fields.required("version", out) {
        version(node, out);
    }
    let name = fields
        .required("name", out)
        .and_then(|node| scalar::text(node, "`name`", NAME_CHARS_MAX, false, out));
    let description = fields
        .optional("description")
        .and_then(|node| scalar::text(node, "`description`", DESCRIPTION_CHARS_MAX, true, out));
    let owner =
        fields.optional("owner").and_then(|node| scalar::text(node, "`owner`", OWNER_CHARS_MAX, false, out));
    let revision = fields.optional("revision").and_then(|node| about::revision(node, out));
    // With a mode that cannot be read, the rules are still checked.
    let mode = fields
        .optional("mode")
        .and_then(|node| scalar::word(node, "mode", &MODES, out))
        .unwrap_or(Mode::Enforce);
    let mut lists = Lists::default();
    if let Some(node) = fields.optional("lists") {
        lists.add(node, out);
    }
    lists.resolve(out);
    let rules = fields.required("rules", out).map(|node| rules(node, mode, &mut lists, out))?;
    if !out.has_errors() {
        lists.warn_of_unused(out);
    }
    let sources = out.sources().clone();
    let warnings = Diagnostics::new(sources.clone());
    Some(Policy { name: name?, description, owner, revision, mode, rules, sources, warnings })
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
    let number = match &node.value {
        Value::Scalar { text, plain: true } => text.parse::<u32>().ok(),
        _ => None,
    };
    match number {
        Some(VERSION) => {}
        Some(other) => {
            let help = Some(format!(
                "this Treeline reads version {VERSION}; upgrade it or write `version: {VERSION}`"
            ));
            out.error(
                Code::UnknownVersion,
                node.span,
                format!("version {other} of the policy language is not known"),
                help,
            );
        }
        None => {
            out.error(
                Code::WrongType,
                node.span,
                "`version` has to be a number",
                Some(format!("write `version: {VERSION}`")),
            );
        }
    }
}

/// Rules of a policy. The sensor's own need room, too.
const RULES_MAX: usize = paths::RULES_MAX as usize - treeline_event::OWN_RULES.len();

fn rules(node: &Node, mode: Mode, lists: &mut Lists, out: &mut Diagnostics) -> Vec<Rule> {
    let Value::Sequence(items) = &node.value else {
        let help = Some("write `rules:` and below it `- id: ...`".into());
        out.error(
            Code::WrongType,
            node.span,
            format!("`rules` has to be a list, not {}", node.describe()),
            help,
        );
        return Vec::new();
    };
    if items.len() > RULES_MAX {
        let message = format!("{} rules; a policy has at most {RULES_MAX}", items.len());
        out.error(
            Code::TooManyRules,
            node.span.head(),
            message,
            Some("merge rules that share a reason".into()),
        );
        return Vec::new();
    }
    let mut written: BTreeMap<String, Span> = BTreeMap::new();
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    for item in items {
        let Some(Written { id, span, rules: parts }) = rule::read(item, mode, lists, out) else { continue };
        if let Some(first) = written.get(&id) {
            let twice = Diagnostic::error(Code::DuplicateId, span, format!("`{id}` is the id of two rules"));
            out.push(twice.help("ids are unique").label(*first, "the first one is here"));
            continue;
        }
        written.insert(id, span);
        rules.extend(parts.into_iter().map(|rule| (rule.id.clone(), rule)));
    }
    if rules.len() > RULES_MAX {
        let message = format!("{} rules with the parts of those about brokers", rules.len());
        let help = Some(format!("a policy has at most {RULES_MAX}: name each broker once"));
        out.error(Code::TooManyRules, node.span.head(), message, help);
    }
    rules.into_values().collect()
}
