//! From text to a checked [`Policy`]: every error is found and reported, not only the first.

mod about;
mod call;
mod defaults;
mod fields;
mod include;
mod lists;
mod rule;
mod rules;
mod scalar;
mod test_call;
mod test_file;

pub use self::test_file::{parse_tests, parse_tests_with};
use self::{
    fields::{Fields, peek},
    lists::Lists,
    rules::Rules,
    scalar::MODES,
};
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    loader::{Alone, Loader},
    moment::Moment,
    policy::{Mode, Policy, Rule},
    source::{FileId, Source},
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
const KEYS: [&str; 10] =
    ["version", "name", "description", "owner", "revision", "mode", "include", "lists", "defaults", "rules"];

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
    if fields.optional("include").is_none() {
        fields.required("rules", out)?;
    }
    let fragments = include::fragments(&fields, loader, out);
    let files = [&root].into_iter().chain(&fragments.nodes);
    let defaults = fields.optional("defaults").map(|node| defaults::read(node, out)).unwrap_or_default();
    let mut rules = rules(files, Lists::new(fragments.complete), mode, out);
    rules.extend(defaults);
    rules.sort_by(|left, right| left.id.cmp(&right.id));
    let sources = out.sources().clone();
    let warnings = Diagnostics::new(sources.clone());
    Some(Policy { name: name?, description, owner, revision, mode, rules, sources, warnings })
}

/// The rules of all files, whose lists are one set.
fn rules<'n>(
    files: impl Iterator<Item = &'n Node> + Clone,
    mut lists: Lists,
    mode: Mode,
    out: &mut Diagnostics,
) -> Vec<Rule> {
    for node in files.clone().filter_map(|file| peek(file, "lists")) {
        lists.add(node, out);
    }
    lists.resolve(out);
    let mut rules = Rules::new(mode);
    for node in files.filter_map(|file| peek(file, "rules")) {
        rules.add(node, &mut lists, out);
    }
    if !out.has_errors() {
        lists.warn_of_unused(out);
    }
    rules.into_vec()
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
