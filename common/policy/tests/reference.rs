//! Globs against another engine: globset, which has been what ripgrep ignores files by for years.
//!
//! The two languages are not the same. Here `X/**` is `X` itself as well, a pattern is relative to the root or to homes, and
//! the root, which is no name, is nothing that a final `*` of globset's would not match; characters that globset has besides (`[`, `{`, `\`) are refused. What both have has to mean the same.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use proptest::prelude::*;
use treeline_policy::glob::Glob;

/// What globset is given for a pattern: `X/**` as two.
fn reference(pattern: &str) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    let itself = pattern.strip_suffix("/**").map(|pattern| if pattern.is_empty() { "/" } else { pattern });
    for pattern in [Some(pattern), itself].into_iter().flatten() {
        let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(false).build();
        set.add(glob.unwrap_or_else(|error| panic!("{pattern}: {error}")));
    }
    set.build().expect("few globs")
}

/// Whether a pattern matches a path, below these homes; a pattern for homes is one for each of them to the reference.
#[track_caller]
fn check(pattern: &str, homes: &[&str], path: &str) {
    let glob = Glob::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {}", error.message));
    let patterns: Vec<String> = match pattern.strip_prefix('~') {
        Some(rest) => homes.iter().map(|home| format!("{home}{rest}")).collect(),
        // Both spellings are one here.
        None if pattern.starts_with("**") => vec![format!("/{pattern}")],
        None => vec![pattern.to_owned()],
    };
    let expect = patterns.iter().any(|pattern| reference(pattern).is_match(path));
    let found = glob.matches(homes.iter().map(|home| home.as_bytes()), path.as_bytes());
    assert_eq!(found, expect, "{pattern} {path}");
}

#[test]
fn what_is_known() {
    let homes = ["/home/u", "/root"];
    for pattern in [
        "/a", "/a/*", "/a/**", "/**/a", "**/a", "/a/**/b", "/a*", "/*a", "/a*b", "/a?", "/?", "~/a/**", "~",
        "/**",
    ] {
        for path in [
            "/",
            "/a",
            "/a/b",
            "/a/x/b",
            "/ab",
            "/axb",
            "/b/a",
            "/b/x/a",
            "/home/u",
            "/home/u/a",
            "/root/a/b",
            "/root",
        ] {
            check(pattern, &homes, path);
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ab]{1,3}", 1 => "[a-c.\\-_ ]{1,4}".prop_filter("a name", |name| !matches!(name.as_str(), "." | ".."))]
}

fn component() -> impl Strategy<Value = String> {
    let wild = |text: &'static str| Just(text.to_owned());
    prop_oneof![
        4 => name(),
        2 => wild("*"),
        2 => wild("**"),
        1 => (name(), name()).prop_map(|(before, behind)| format!("{before}*{behind}")),
        1 => name().prop_map(|name| format!("{name}*")),
        1 => name().prop_map(|name| format!("*{name}")),
        1 => "[ab?]{1,3}",
        1 => "[ab?]{0,2}\\*[ab?]{1,2}",
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    let anchor = prop::sample::select(vec!["/", "/", "~/", "**/", "/**/"]);
    (anchor, prop::collection::vec(component(), 1..5))
        .prop_map(|(anchor, rest)| format!("{anchor}{}", rest.join("/")))
        .prop_filter("no two `**` in a row", |pattern| !pattern.contains("**/**"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_agree(pattern in pattern(), names in prop::collection::vec(name(), 1..5), home in any::<bool>()) {
        // What is refused has no meaning to compare.
        prop_assume!(Glob::parse(&pattern).is_ok());
        let path = names.iter().fold(if home { "/h/u".to_owned() } else { String::new() }, |path, name| format!("{path}/{name}"));
        check(&pattern, &["/h/u", "/r"], &path);
    }
}
