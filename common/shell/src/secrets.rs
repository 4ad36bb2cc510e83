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
    let mut looked = 0;
    find_counting(text, &mut looked)
}

/// The same, with how many bytes of runs and lines were looked at, each time that they were.
fn find_counting(text: &str, looked: &mut usize) -> Vec<Found> {
    let mut found: Vec<Found> = SHAPES.iter().flat_map(|shape| of_shape(text, shape, looked)).collect();
    found.extend(private_keys(text, looked));
    found.extend(tokens(text, looked));
    found.extend(passwords(text));
    found.sort_unstable();
    found
}

/// A text for people, with a word for each secret in it.
#[must_use]
pub fn redacted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for found in find(text) {
        // One may begin within another.
        if found.start >= at {
            shown.push_str(&text[at..found.start]);
            shown.push_str(&format!("[{} left out]", found.kind));
        }
        at = at.max(found.end);
    }
    shown.push_str(&text[at..]);
    shown
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

/// How many bytes are letters, digits or one of `more`.
fn run_len(text: &str, more: &str, looked: &mut usize) -> usize {
    let is_one = |byte: &u8| byte.is_ascii_alphanumeric() || more.as_bytes().contains(byte);
    let len = text.bytes().take_while(is_one).count();
    *looked += len + 1;
    len
}

fn of_shape(text: &str, shape: &'static Shape, looked: &mut usize) -> Vec<Found> {
    // Beginnings within one run end where it ends: it is looked through once.
    let mut run_end = 0;
    let is_secret = |(start, begin): (usize, &str)| {
        let from = start + begin.len();
        if from > run_end {
            run_end = from + run_len(&text[from..], shape.more, looked);
        }
        let len = run_end.max(from) - from;
        let has_small = || text[from..from + len].bytes().any(|byte| byte.is_ascii_lowercase());
        let holds = if shape.is_exact { len == shape.len_min && !has_small() } else { len >= shape.len_min };
        let found = Found { start, end: from + len, kind: shape.kind };
        (holds && !continues(text, start)).then_some(found)
    };
    text.match_indices(shape.begin).filter_map(is_secret).collect()
}

/// The next of a text's marks from a place on. The places that it is asked about only grow, so every byte is looked at once.
struct Ahead<'t> {
    text: &'t str,
    mark: &'static str,
    /// Where the last one found begins, or behind the end.
    at: usize,
}

impl<'t> Ahead<'t> {
    fn new(text: &'t str, mark: &'static str, looked: &mut usize) -> Self {
        let mut ahead = Self { text, mark, at: 0 };
        ahead.look(0, looked);
        ahead
    }

    fn look(&mut self, from: usize, looked: &mut usize) {
        let rest = &self.text[from..];
        self.at = from + rest.find(self.mark).unwrap_or(rest.len());
        *looked += self.at - from + 1;
    }

    /// Where it begins; the end of the text if there is none.
    fn next(&mut self, from: usize, looked: &mut usize) -> usize {
        if self.at < from {
            self.look(from, looked);
        }
        self.at
    }
}

fn private_keys(text: &str, looked: &mut usize) -> Vec<Found> {
    let mut ends = Ahead::new(text, KEY_END, looked);
    let mut lines = Ahead::new(text, "\n", looked);
    let is_key = |(start, begin): (usize, &str)| {
        let from = start + begin.len();
        let rest = &text[from..];
        // `RSA PRIVATE KEY`, `OPENSSH PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`.
        let label =
            rest.bytes().take(24).take_while(|byte| byte.is_ascii_uppercase() || *byte == b' ').count();
        let behind = label.checked_sub("PRIVATE KEY".len())?;
        rest.get(behind..)?.starts_with(KEY_WORDS).then(|| {
            let end = ends.next(from, looked);
            Found { start, end: lines.next(end, looked), kind: Secret::PrivateKey }
        })
    };
    text.match_indices(KEY_BEGIN).filter_map(is_key).collect()
}

/// JSON Web Tokens: three parts, of which two begin as JSON does.
fn tokens(text: &str, looked: &mut usize) -> Vec<Found> {
    const MORE: &str = "-_";
    const PART_LEN_MIN: usize = 10;
    let mut found = Vec::new();
    let mut at = 0;
    // The two runs before this one, as far as they can be parts of a token.
    let (mut first, mut second): (Option<usize>, Option<usize>) = (None, None);
    while at < text.len() {
        let len = run_len(&text[at..], MORE, looked);
        let run = &text[at..at + len];
        let start = second.filter(|_| len >= PART_LEN_MIN);
        found.extend(start.map(|start| Found { start, end: at + len, kind: Secret::Jwt }));
        let mut starts = run.match_indices("eyJ").map(|(start, _)| at + start);
        let is_start = |start: &usize| !continues(text, *start) && at + len - start >= PART_LEN_MIN;
        second = first.filter(|_| run.starts_with("eyJ") && len >= PART_LEN_MIN);
        first = starts.find(is_start);
        at += len;
        let mark = text[at..].chars().next();
        if mark != Some('.') {
            (first, second) = (None, None);
        }
        at += mark.map_or(0, char::len_utf8);
    }
    found
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
    fn secrets_are_left_out_and_nothing_else_is() {
        let token = format!("ghp_{}", "aB3".repeat(12));
        let check = |text: &str, expect: &str| assert_eq!(redacted(text), expect);
        check("", "");
        check("git push", "git push");
        check(&format!("T={token} x \u{e9}"), "T=[github-token left out] x \u{e9}");
        check(&format!("{token} {token}"), "[github-token left out] [github-token left out]");
        assert!(!redacted(&format!("curl https://a:{token}@b/")).contains(&token));
    }

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

    /// Twice the text takes twice as many steps, and few for a byte.
    #[test]
    fn what_begins_again_and_again_is_looked_at_once() {
        let key = format!("{KEY_BEGIN}{KEY_WORDS}");
        let keys = format!("{key}{KEY_END}");
        let jwt = "eyJ-eyJ-eyJ-.eyJaaaaaaaa.";
        for piece in ["-eyJ", "-sk-ant-", "-sk-proj-", "-github_pat_", jwt, "eyJ.", "://a:b@", &key, &keys] {
            let steps = |times: usize| {
                let mut looked = 0;
                find_counting(&piece.repeat(times), &mut looked);
                looked
            };
            let (once, twice) = (steps(1000), steps(2000));
            assert!(twice <= 2 * once + 1000 && once <= 1000 * piece.len() * 8, "{piece}: {once}, {twice}");
        }
    }

    #[test]
    fn what_begins_within_another_is_found() {
        let check = |text: &str, expect: &[Secret]| assert_eq!(kinds(text), expect, "{text}");
        let rest = "aB3".repeat(10);
        // The first is the end of a word, the second is none.
        check(&format!("xsk-ant--sk-ant-{rest}"), &[Secret::Anthropic]);
        check(&format!("xeyJ-eyJ{rest}.eyJ{rest}.{rest}"), &[Secret::Jwt]);
        check(&format!("a.eyJ{rest}.eyJ{rest}.eyJ{rest}.{rest}"), &[Secret::Jwt]);
        check(&format!("eyJ{rest}.{rest}.{rest} eyJ{rest}. eyJ{rest}.{rest}"), &[]);
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
