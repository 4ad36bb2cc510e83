//! What a policy and its rules say for people and other systems: it changes no decision.

use super::{
    fields::{Fields, clip},
    scalar,
};
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    policy::About,
    syntax::{
        rule_shape::CONTROLS_MAX,
        scalars::{CONTROL, REVISION},
        shape::Numbers,
    },
    yaml::{Node, Value},
};

/// What a rule says about itself.
pub(super) fn read(fields: &Fields<'_>, out: &mut Diagnostics) -> About {
    let remedy = fields.text("remedy", out);
    let link = fields.text("link", out).and_then(|link| self::link(link, fields, out));
    let controls = fields.get("controls").map(|node| controls(node, out)).unwrap_or_default();
    About { remedy, link, controls }
}

fn link(link: String, fields: &Fields<'_>, out: &mut Diagnostics) -> Option<String> {
    let host = link.strip_prefix("https://").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or(""));
    // Whoever reads it clicks on it: nothing in it may look like something else.
    if host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
        && link.bytes().all(|b| b.is_ascii_graphic())
    {
        return Some(link);
    }
    let help = "write `https://`, a host and a path, in ASCII without spaces and without a user";
    let span = fields.get("link").map_or(fields.head(), |node| node.span);
    out.error(Code::BadLink, span, "`link` is not an https address", Some(help.into()));
    None
}

fn controls(node: &Node, out: &mut Diagnostics) -> Vec<String> {
    let read = |item: &Node, out: &mut Diagnostics| scalar::text(item, "a control", &CONTROL, out);
    let controls = scalar::list(node, "`controls`", out, read);
    if controls.len() > CONTROLS_MAX {
        let message = format!("{} controls; a rule has at most {CONTROLS_MAX}", controls.len());
        out.error(Code::TooLong, node.span.head(), message, None);
    }
    controls.into_iter().map(|control| control.value).collect()
}

/// The number of a policy's revision.
pub(super) fn revision(node: &Node, out: &mut Diagnostics) -> Option<u64> {
    let Numbers::From(min, max) = REVISION.numbers else { return None };
    let help = format!("write a whole number from {min} to {max}, and a larger one for each revision");
    let Value::Scalar { text, plain: true } = &node.value else {
        out.error(Code::WrongType, node.span, "`revision` has to be a number", Some(help));
        return None;
    };
    if node.describe() != "a number" {
        out.error(Code::WrongType, node.span, "`revision` has to be a number", Some(help));
        return None;
    }
    // `parse` would take a sign, too.
    let number = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse::<i64>().ok() } else { None };
    let number =
        number.filter(|number| (min..=max).contains(number)).and_then(|number| u64::try_from(number).ok());
    if number.is_none() {
        let message = format!("`{}` cannot be the number of a revision", clip(text));
        out.error(Code::BadNumber, node.span, message, Some(help));
    }
    number
}
