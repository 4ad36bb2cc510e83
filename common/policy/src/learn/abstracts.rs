//! Abstract names of unix sockets that were connected to, as few patterns.

use super::shape::of_one_run;
use crate::{
    abstract_name::AbstractGlob,
    glob::Component,
    policy::{Kind, Mode, Policy},
    render::is_deceiving,
};

/// The pattern for a name, as it is written; none where there is none that lets what is protected alone.
pub(super) fn pattern(name: &[u8], protected: &Policy) -> Option<AbstractGlob> {
    let exact = of_bytes(name);
    let general = match of_one_run(name, b"") {
        Some(Component::Wild(wild)) => Some(AbstractGlob { prefix: wild.prefix, suffix: Some(wild.suffix) }),
        _ => None,
    };
    let candidates = general.into_iter().chain(exact);
    // What is no abstract name has no pattern.
    let candidates = candidates.filter(|glob| AbstractGlob::parse(&write(glob)).as_ref() == Ok(glob));
    candidates.into_iter().find(|glob| glob.suffix.is_none() || !is_protected(glob, protected))
}

/// As it stands in a policy.
pub(super) fn write(glob: &AbstractGlob) -> String {
    let text = String::from_utf8_lossy;
    match &glob.suffix {
        Some(suffix) => format!("@{}*{}", text(&glob.prefix), text(suffix)),
        None => format!("@{}", text(&glob.prefix)),
    }
}

/// The name itself, with `*` from the first byte to the last that a pattern cannot have.
fn of_bytes(name: &[u8]) -> Option<AbstractGlob> {
    let is_plain =
        |c: char| !(c.is_control() || is_deceiving(c) || c.is_whitespace() || "?*[]{}\\".contains(c));
    let begin = name.utf8_chunks().next()?;
    let plain = begin.valid().find(|c| !is_plain(c)).unwrap_or(begin.valid().len());
    if plain == name.len() {
        return Some(AbstractGlob { prefix: name.to_vec(), suffix: None });
    }
    let end = name.utf8_chunks().last().filter(|chunk| chunk.invalid().is_empty());
    let end = end.map_or("", |chunk| chunk.valid());
    let from = end.rfind(|c| !is_plain(c)).map_or(0, |at| end.ceil_char_boundary(at + 1));
    Some(AbstractGlob { prefix: name[..plain].to_vec(), suffix: Some(end[from..].into()) })
}

/// Whether a rule that refuses may be about a name that a pattern matches.
fn is_protected(glob: &AbstractGlob, policy: &Policy) -> bool {
    let rules = policy.rules.iter().filter(|rule| rule.mode == Mode::Enforce && !rule.allows);
    let mut abstracts = rules.flat_map(|rule| match &rule.kind {
        Kind::Connect { abstracts, .. } => abstracts.as_slice(),
        _ => &[],
    });
    abstracts.any(|other| {
        other.value.prefix.starts_with(&glob.prefix) || glob.prefix.starts_with(&other.value.prefix)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse;

    fn protected() -> Policy {
        let text =
            "version: 1\nname: p\nrules: [{id: a, kind: connect, unix: ['@/tmp/.X11-unix/*'], reason: r}]\n";
        parse("p", text).expect("valid")
    }

    #[test]
    fn names() {
        let check = |name: &[u8], expect: Option<&str>| {
            assert_eq!(pattern(name, &protected()).as_ref().map(write).as_deref(), expect, "{name:?}");
        };
        check(b"/org/bus", Some("@/org/bus"));
        check(b"bus-12345", Some("@bus-*"));
        check(b"bus\0\0\0", Some("@bus*"));
        check(b"a\xffb", Some("@a*b"));
        check(b"\0", None);
        check(b"", None);
        check(b"/tmp/.X11-unix/\xff", None);
    }

    proptest! {
        #[test]
        fn a_pattern_matches_its_name(name in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"09af-_*"[..])], 0..108)) {
            if let Some(glob) = pattern(&name, &protected()) {
                prop_assert!(glob.matches(&name));
            }
        }
    }
}
