//! Which refusals can be approved of, and by whom.

use std::sync::Arc;

use super::{
    fields::{Fields, clip},
    scalar,
};
use crate::{
    approval::{Approval, written_id},
    code::Code,
    diagnostic::Diagnostics,
    period::Period,
    policy::Rule,
    source::Spanned,
    suggest,
    syntax::{
        approval_shape::{APPROVAL, BY},
        policy_shape::APPROVALS_MAX,
        scalars::{ACCOUNT, RULE_ID},
        shape::{List, Record, Shape, Text},
    },
    yaml::{Node, Value},
};

/// The value of `approvals`; `rules` are all of the policy.
pub(super) fn read(node: &Node, rules: &[Rule], out: &mut Diagnostics) -> Vec<Approval> {
    let Value::Sequence(items) = &node.value else {
        let help =
            Some("write `approvals:` and below it `- {rules: [...], by: ..., for_at_most: 15m}`".into());
        let message = format!("`approvals` has to be a list, not {}", node.describe());
        out.error(Code::WrongType, node.span, message, help);
        return Vec::new();
    };
    if items.is_empty() {
        let help = Some("leave the key out or add an item".into());
        out.error(Code::Empty, node.span, "`approvals` cannot be empty", help);
    }
    if items.len() > APPROVALS_MAX {
        let message = format!("{} approvals; a policy has at most {APPROVALS_MAX}", items.len());
        let help = Some("merge those that are by the same people".into());
        out.error(Code::TooLong, node.span.head(), message, help);
        return Vec::new();
    }
    items.iter().filter_map(|item| one(item, rules, out)).collect()
}

fn one(node: &Node, rules: &[Rule], out: &mut Diagnostics) -> Option<Approval> {
    let fields = Fields::of(node, &APPROVAL, out)?;
    let named = names(&fields, "rules", "the id of a rule", &RULE_ID, out);
    for id in &named {
        refuse_unknown(id, rules, out);
    }
    let by = fields.get("by").and_then(|node| Fields::of(node, &BY, out).map(|by| (node, by)));
    let for_at_most = fields.get("for_at_most").and_then(|node| period(node, out));
    let (by_node, by) = by?;
    if by.get("users").is_none() && by.get("groups").is_none() {
        let help = Some("add `users:` or `groups:`".into());
        out.error(Code::MissingKey, by_node.span.head(), "`by` names nobody", help);
    }
    let mut accounts = |key, what| -> Vec<String> {
        names(&by, key, what, &ACCOUNT, out).into_iter().map(|named| named.value).collect()
    };
    let (users, groups) = (accounts("users", "a user"), accounts("groups", "a group"));
    let (for_at_most, span) = (for_at_most?, node.span.head());
    Some(Approval { rules: named, users, groups, for_at_most, policy: Arc::default(), span })
}

/// A list of names of one form.
fn names(
    fields: &Fields<'_>,
    key: &'static str,
    what: &str,
    of: &Text,
    out: &mut Diagnostics,
) -> Vec<Spanned<String>> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let read = |item: &Node, out: &mut Diagnostics| {
        let text = scalar::text(item, what, of, out)?;
        let is_right = if key == "rules" { is_rule_id(&text) } else { is_account(&text) };
        if !is_right {
            let help = match key {
                "rules" => {
                    "ids are of lower-case letters and digits, separated by `-`; a default is `default/read`, `default/write`, `default/exec`, `default/connect` or `default/unix`"
                }
                _ => "write its name, or its number in quotes",
            };
            out.error(Code::BadId, item.span, format!("`{}` is not {what}", clip(&text)), Some(help.into()));
        }
        is_right.then_some(text)
    };
    let found = scalar::list(node, &format!("`{key}`"), out, read);
    let record: &Record = if key == "rules" { &APPROVAL } else { &BY };
    let bound = record.key(key).and_then(|key| match key.shape {
        Shape::List(List { items_max, .. }) => *items_max,
        _ => None,
    });
    if let Value::Sequence(items) = &node.value
        && let Some(bound) = bound.filter(|bound| items.len() > *bound)
    {
        let message = format!("{} items in `{key}`; there are at most {bound}", items.len());
        out.error(Code::TooLong, node.span.head(), message, None);
    }
    found
}

fn is_rule_id(text: &str) -> bool {
    let default = text.strip_prefix("default/");
    default.map_or_else(
        || scalar::is_kebab(text),
        |kind| ["read", "write", "exec", "connect", "unix"].contains(&kind),
    )
}

fn is_account(text: &str) -> bool {
    let name = text.strip_suffix('$').unwrap_or(text);
    let may_begin = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
    name.bytes().next().is_some_and(may_begin)
        && name.bytes().all(|byte| may_begin(byte) || b"@\\-".contains(&byte))
}

fn refuse_unknown(id: &Spanned<String>, rules: &[Rule], out: &mut Diagnostics) {
    if rules.iter().any(|rule| written_id(rule) == id.value) {
        return;
    }
    let near = suggest::nearest(&id.value, rules.iter().map(written_id));
    let help = near.map_or_else(
        || {
            "name a rule of this policy: what another policy refuses is for that one to let be approved"
                .to_owned()
        },
        |near| format!("did you mean `{near}`?"),
    );
    out.error(Code::UnknownRule, id.span, format!("this policy has no rule `{}`", id.value), Some(help));
}

fn period(node: &Node, out: &mut Diagnostics) -> Option<Period> {
    let text = scalar::raw(node, "a length of time", out)?;
    let help = "write a whole number and `s`, `m` or `h`, from `1s` to `24h`, such as `15m`";
    let period = text.parse::<Period>();
    if period.is_err() {
        let message = format!("`{}` is no length of time for an approval", clip(text));
        out.error(Code::BadDuration, node.span, message, Some(help.into()));
    }
    period.ok()
}
