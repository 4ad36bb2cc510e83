//! What a policy and its rules say for people and other systems: it changes no decision.

use super::{fields::Fields, scalar};
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    policy::About,
    yaml::{Node, Value},
};

/// Keys of every rule that are read here.
pub(super) const KEYS: [&str; 3] = ["remedy", "link", "controls"];
/// Characters of a remedy: it is shown with the reason.
const REMEDY_CHARS_MAX: usize = 1024;
/// Characters of a link: what every browser takes.
const LINK_CHARS_MAX: usize = 2000;
/// Characters of the name of a control.
const CONTROL_CHARS_MAX: usize = 64;
/// Controls that one rule can be evidence for.
const CONTROLS_MAX: usize = 32;
/// The largest revision: what every reader of JSON keeps exactly.
const REVISION_MAX: u64 = (1 << 53) - 1;

/// What a rule says about itself.
pub(super) fn read(fields: &Fields<'_>, out: &mut Diagnostics) -> About {
    let remedy = fields.optional("remedy");
    let remedy = remedy.and_then(|node| scalar::text(node, "`remedy`", REMEDY_CHARS_MAX, true, out));
    let link = fields.optional("link").and_then(|node| link(node, out));
    let controls = fields.optional("controls").map(|node| controls(node, out)).unwrap_or_default();
    About { remedy, link, controls }
}

fn link(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let link = scalar::text(node, "`link`", LINK_CHARS_MAX, false, out)?;
    let host = link.strip_prefix("https://").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or(""));
    // Whoever reads it clicks on it: nothing in it may look like something else.
    if host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
        && link.bytes().all(|b| b.is_ascii_graphic())
    {
        return Some(link);
    }
    let help = "write `https://`, a host and a path, in ASCII without spaces and without a user";
    out.error(Code::BadLink, node.span, "`link` is not an https address", Some(help.into()));
    None
}

fn controls(node: &Node, out: &mut Diagnostics) -> Vec<String> {
    let read =
        |item: &Node, out: &mut Diagnostics| scalar::text(item, "a control", CONTROL_CHARS_MAX, false, out);
    let controls = scalar::list(node, "`controls`", out, read);
    if controls.len() > CONTROLS_MAX {
        let message = format!("{} controls; a rule has at most {CONTROLS_MAX}", controls.len());
        out.error(Code::TooLong, node.span.head(), message, None);
    }
    controls.into_iter().map(|control| control.value).collect()
}

/// The number of a policy's revision.
pub(super) fn revision(node: &Node, out: &mut Diagnostics) -> Option<u64> {
    let number = match &node.value {
        // `parse` would take a sign, too.
        Value::Scalar { text, plain: true } if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    let number = number.filter(|number| (1..=REVISION_MAX).contains(number));
    if number.is_none() {
        let help =
            format!("write a whole number from 1 to {REVISION_MAX}, and a larger one for each revision");
        out.error(Code::WrongType, node.span, "`revision` has to be a number", Some(help));
    }
    number
}
