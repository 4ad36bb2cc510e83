//! Secrets, told by their shape.

use std::ops::Range;

use treeline_policy::tool::Secret;

/// A secret in a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Where its bytes begin.
    pub start: usize,
    /// Where they end.
    pub end: usize,
    /// What it is.
    pub kind: Secret,
}

impl Found {
    /// Its bytes.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// A beginning that nothing else has, and what follows it.
struct Shape {
    begin: &'static str,
    kind: Secret,
    /// Characters beside letters and digits.
    more: &'static str,
    /// The fewest that make it one.
    len_min: usize,
    /// Whether there are no more than that, and only capital letters and digits.
    is_exact: bool,
}

const fn shape(begin: &'static str, kind: Secret, more: &'static str, len_min: usize) -> Shape {
    Shape { begin, kind, more, len_min, is_exact: false }
}

const SHAPES: [Shape; 21] = [
    Shape { is_exact: true, ..shape("AKIA", Secret::Aws, "", 16) },
    Shape { is_exact: true, ..shape("ASIA", Secret::Aws, "", 16) },
    shape("ghp_", Secret::Github, "", 36),
    shape("gho_", Secret::Github, "", 36),
    shape("ghu_", Secret::Github, "", 36),
    shape("ghs_", Secret::Github, "", 36),
    shape("ghr_", Secret::Github, "", 36),
    shape("github_pat_", Secret::Github, "_", 22),
    shape("glpat-", Secret::Gitlab, "-_", 20),
    shape("xoxb-", Secret::Slack, "-", 10),
    shape("xoxp-", Secret::Slack, "-", 10),
    shape("xoxa-", Secret::Slack, "-", 10),
    shape("xoxr-", Secret::Slack, "-", 10),
    shape("xoxs-", Secret::Slack, "-", 10),
    shape("xapp-", Secret::Slack, "-", 10),
    shape("sk-ant-", Secret::Anthropic, "-_", 20),
    shape("sk-proj-", Secret::Openai, "-_", 20),
    shape("sk-svcacct-", Secret::Openai, "-_", 20),
    shape("sk-", Secret::Openai, "", 40),
    shape("AIza", Secret::Google, "-_", 35),
    shape("npm_", Secret::Npm, "", 36),
];

const KEY_BEGIN: &str = "-----BEGIN ";
const KEY_WORDS: &str = "PRIVATE KEY-----";
const KEY_END: &str = "-----END ";

/// The secrets in a text, in its order. Takes time that grows with the text alone.
#[must_use]
pub fn find(text: &str) -> Vec<Found> {
    let mut found: Vec<Found> = SHAPES.iter().flat_map(|shape| of_shape(text, shape)).collect();
    found.extend(private_keys(text));
    found.extend(tokens(text));
    found.extend(passwords(text));
    found.sort_unstable();
    found
}

/// The kinds of secrets in a text, each once.
#[must_use]
pub fn kinds(text: &str) -> Vec<Secret> {
    let mut kinds: Vec<Secret> = find(text).into_iter().map(|found| found.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Whether what is before a place is a part of the same word.
fn continues(text: &str, at: usize) -> bool {
    text[..at].ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn run_len(text: &str, more: &str) -> usize {
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || more.as_bytes().contains(byte)).count()
}

fn of_shape(text: &str, shape: &'static Shape) -> impl Iterator<Item = Found> {
    text.match_indices(shape.begin).filter_map(|(start, begin)| {
        let rest = &text[start + begin.len()..];
        let len = run_len(rest, shape.more);
        let is_exact = len == shape.len_min && !rest[..len].bytes().any(|byte| byte.is_ascii_lowercase());
        let holds = if shape.is_exact { is_exact } else { len >= shape.len_min };
        let end = start + begin.len() + len;
        (holds && !continues(text, start)).then_some(Found { start, end, kind: shape.kind })
    })
}

fn private_keys(text: &str) -> impl Iterator<Item = Found> {
    text.match_indices(KEY_BEGIN).filter_map(|(start, begin)| {
        let rest = &text[start + begin.len()..];
        // `RSA PRIVATE KEY`, `OPENSSH PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`.
        let label =
            rest.bytes().take(24).take_while(|byte| byte.is_ascii_uppercase() || *byte == b' ').count();
        let behind = label.checked_sub("PRIVATE KEY".len())?;
        rest.get(behind..)?.starts_with(KEY_WORDS).then(|| {
            let end = rest.find(KEY_END).map(|end| end + rest[end..].find('\n').unwrap_or(rest.len() - end));
            Found { start, end: start + begin.len() + end.unwrap_or(rest.len()), kind: Secret::PrivateKey }
        })
    })
}

/// JSON Web Tokens: three parts, of which two begin as JSON does.
fn tokens(text: &str) -> impl Iterator<Item = Found> {
    text.match_indices("eyJ").filter_map(|(start, _)| {
        if continues(text, start) {
            return None;
        }
        let mut end = start;
        for part in 0..3 {
            let rest = &text[end..];
            let len = run_len(rest, "-_");
            if len < 10 || (part < 2 && !rest.starts_with("eyJ")) {
                return None;
            }
            end += len;
            if part < 2 {
                end += text[end..].starts_with('.').then_some(1)?;
            }
        }
        Some(Found { start, end, kind: Secret::Jwt })
    })
}

/// `scheme://user:password@host`.
fn passwords(text: &str) -> impl Iterator<Item = Found> {
    text.match_indices("://").filter_map(|(at, mark)| {
        let start = at + mark.len();
        let authority = &text[start..];
        let len = authority
            .bytes()
            .take(1024)
            .take_while(|byte| byte.is_ascii_graphic() && !b"/?#\"'`\\".contains(byte))
            .count();
        let (user, _) = authority.get(..len)?.rsplit_once('@')?;
        let (name, password) = user.split_once(':')?;
        // What stands for something else is no secret.
        let is_literal = !password.is_empty() && !password.contains(['$', '{', '<', '*']);
        let from = start + name.len() + 1;
        is_literal.then(|| Found { start: from, end: from + password.len(), kind: Secret::UrlPassword })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shapes() {
        let check = |text: &str, expect: &[(Secret, &str)]| {
            let found: Vec<_> = find(text).into_iter().map(|one| (one.kind, &text[one.range()])).collect();
            assert_eq!(found, expect, "{text}");
        };
        let long =
            |begin: &str, len: usize| format!("{begin}{}", "aB3".repeat(len / 3 + 1)[..len].to_owned());
        // Put together here, so that no scanner takes this file for a leak.
        let aws = format!("AKIA{}", "ABCD1234".repeat(2));
        check(&format!("x={aws};"), &[(Secret::Aws, &aws)]);
        check(&format!("{aws}Z"), &[]);
        check(&format!("Z{aws}"), &[]);
        check(&aws.to_lowercase(), &[]);
        for (begin, len, kind) in [
            ("ghp_", 36, Secret::Github),
            ("github_pat_", 40, Secret::Github),
            ("glpat-", 20, Secret::Gitlab),
            ("xoxb-", 20, Secret::Slack),
            ("sk-ant-", 40, Secret::Anthropic),
            ("sk-proj-", 40, Secret::Openai),
            ("sk-", 48, Secret::Openai),
            ("AIza", 35, Secret::Google),
            ("npm_", 36, Secret::Npm),
        ] {
            let secret = long(begin, len);
            check(&format!("curl -H 'x: {secret}'"), &[(kind, &secret)]);
            check(&long(begin, 8), &[]);
        }
        let jwt = [long("eyJ", 20), long("eyJ", 20), long("", 20)].join(".");
        check(&format!("Bearer {jwt}\n"), &[(Secret::Jwt, &jwt)]);
        check(&long("eyJ", 40), &[]);
        let key = format!("{KEY_BEGIN}OPENSSH {KEY_WORDS}\nAAA\n{KEY_END}OPENSSH {KEY_WORDS}");
        check(&format!("echo '{key}\n'"), &[(Secret::PrivateKey, &key)]);
        check(&format!("{KEY_BEGIN}PUBLIC KEY-----"), &[]);
        check("git clone https://u:hunter2@example.com/x", &[(Secret::UrlPassword, "hunter2")]);
        check("https://u:$TOKEN@example.com https://u@example.com https://a:80/b@c", &[]);
    }

    proptest! {
        #[test]
        fn any_text_is_looked_through(text in "(AKIA|ghp_|sk-|eyJ|://|-----BEGIN |[a-zA-Z0-9:@.ü ]{0,40}){0,20}") {
            for found in find(&text) {
                prop_assert!(text.get(found.range()).is_some_and(|secret| !secret.is_empty()));
            }
        }
    }
}
