//! What is printed says the same, with the same comments, and is printed as it is.

use proptest::prelude::*;

use super::instance::{Tape, of_record};
use crate::{
    parse, parse_tests,
    source::Source,
    syntax::{Document, Unformatted, format},
};

#[track_caller]
fn formatted(text: &str) -> String {
    let once = format(&Source::new("p", text)).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let again = format(&Source::new("p", &once)).unwrap_or_else(|error| panic!("{error}\n{once}"));
    assert_eq!(again, once, "printing is idempotent\n{text}");
    once
}

/// JSON with keys of policies in places where they need not belong.
fn anything() -> impl Strategy<Value = serde_json::Value> {
    let texts = vec!["a", "file", "a: b", "#", "", "a\nb", "a\n", "x y", "null", "-"];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<u8>().prop_map(Into::into),
        prop::sample::select(texts).prop_map(Into::into),
    ];
    let key = prop::sample::select(vec![
        "a", "b", "id", "kind", "rules", "reason", "except", "tests", "by", "lists", "do",
    ]);
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What was read of a file, or what is wrong with it, without places.
fn meaning(of: Document, text: &str) -> String {
    let read = match of {
        Document::Tests => parse_tests(Source::new("p", text))
            .map(|file| format!("{:?} {:?} {:?}", file.policy, file.machine, file.tests)),
        _ => parse("p", text).map(|policy| {
            let about = (&policy.name, &policy.description, &policy.owner, &policy.revision, policy.mode);
            format!("{about:?} {:?} {:?}", policy.rules, policy.approvals)
        }),
    };
    match read {
        Ok(read) => without_places(&read),
        Err(found) => {
            let mut codes: Vec<String> =
                found.items().iter().map(|item| format!("{} {}", item.code.name(), item.message)).collect();
            codes.sort();
            codes.join("\n")
        }
    }
}

/// What a debug text says, without its spans.
fn without_places(text: &str) -> String {
    let mut parts = text.split("Span {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('}').map_or("", |(_, rest)| rest))
}

fn document() -> impl Strategy<Value = Document> {
    prop::sample::select(vec![Document::Policy, Document::Tests])
}

/// For each line of a printed text, and its end, the column of the block that it is a line of, or that ends above it.
fn blocks(lines: &[String]) -> Vec<(Option<usize>, Option<usize>)> {
    let column_of = |line: &String| line.len() - line.trim_start_matches(' ').len();
    let is_header = |line: &String| ["|", "|-", ">-"].iter().any(|mark| line.ends_with(&format!(" {mark}")));
    let mut found = Vec::new();
    let mut block = None;
    for (number, line) in lines.iter().enumerate() {
        let is_within = block.is_some_and(|column| line.is_empty() || column_of(line) >= column);
        let ended = if is_within { None } else { block };
        found.push((block.filter(|_| is_within), ended));
        if !is_within {
            block = lines.get(number + 1).filter(|_| is_header(line)).map(column_of);
        }
    }
    found.push((None, block));
    found
}

/// The text with comments between and behind its lines, numbered from 0 on, and empty lines, and how many they are; `places`
/// say how deep each is. None is where it would be a line of a block.
fn with_comments(text: &str, places: &[(u16, u8)]) -> (String, usize) {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let blocks = blocks(&lines);
    let at = places.iter().map(|(at, how)| (usize::from(*at) % (lines.len() + 1), *how));
    let is_outside = |(at, how): &(usize, u8)| match blocks[*at] {
        (Some(_), _) => false,
        (None, Some(column)) => depth(*how) < column,
        (None, None) => true,
    };
    let mut at: Vec<(usize, u8)> = at.filter(is_outside).collect();
    at.sort_unstable();
    for (number, (at, how)) in at.iter().enumerate().rev() {
        let gap = if how & 1 == 1 { "\n" } else { "" };
        match (how & 2, lines.get_mut(*at)) {
            (2, Some(line)) if !line.contains("# c") => line.push_str(&format!("  # c{number}.")),
            _ => lines.insert(*at, format!("{gap}{}# c{number}.", " ".repeat(depth(*how)))),
        }
    }
    (lines.join("\n") + "\n", at.len())
}

/// How deep a comment on a line of its own is.
fn depth(how: u8) -> usize {
    usize::from(how >> 2) % 12
}

/// The numbers of comments, in the order of a text.
fn numbers(text: &str) -> Vec<usize> {
    text.split("# c").skip(1).filter_map(|rest| rest.split_once('.')?.0.parse().ok()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_means_the_same(of in document(), tape in prop::collection::vec(any::<u16>(), 0..250)) {
        let file = of_record(of.record(), None, &mut Tape(&tape));
        let meant = meaning(of, &file.to_string());
        let printed = formatted(&file.to_string());
        prop_assert_eq!(&meaning(of, &printed), &meant, "{}", printed);
        let pretty = serde_json::to_string_pretty(&file).expect("JSON");
        prop_assert_eq!(formatted(&pretty), printed);
    }

    #[test]
    fn comments_are_kept_in_their_order(
        of in document(),
        tape in prop::collection::vec(any::<u16>(), 0..250),
        places in prop::collection::vec(any::<(u16, u8)>(), 1..8),
        in_brackets: bool,
    ) {
        let file = of_record(of.record(), None, &mut Tape(&tape)).to_string();
        let printed = formatted(&file);
        let base = if in_brackets {
            let file: serde_json::Value = serde_json::from_str(&file).expect("JSON");
            serde_json::to_string_pretty(&file).expect("JSON")
        } else {
            printed
        };
        let (text, count) = with_comments(&base, &places);
        prop_assert_eq!(meaning(of, &text), meaning(of, &base), "{}", text);
        let printed = formatted(&text);
        prop_assert_eq!(meaning(of, &printed), meaning(of, &base), "{}", printed);
        let mut found = numbers(&printed);
        if !in_brackets {
            prop_assert!(found.is_sorted(), "{}\n{}", text, printed);
        }
        found.sort_unstable();
        prop_assert_eq!(found, (0..count).collect::<Vec<_>>(), "{}\n{}", text, printed);
    }

    #[test]
    fn what_is_no_policy_is_printed_with_its_comments(
        file in anything(),
        places in prop::collection::vec(any::<(u16, u8)>(), 0..8),
        in_brackets: bool,
        without_nulls: bool,
    ) {
        let mut text = serde_json::to_string_pretty(&file).expect("JSON");
        if !in_brackets {
            text = formatted(&text);
        }
        if without_nulls {
            for (null, nothing) in [(": null}", "}"), (": null,", ","), (": null\n", ":\n"), ("- null\n", "-\n")] {
                text = text.replace(null, nothing);
            }
        }
        let (text, count) = with_comments(&text, &places);
        let mut found = numbers(&formatted(&text));
        found.sort_unstable();
        prop_assert_eq!(found, (0..count).collect::<Vec<_>>(), "{}", text);
    }

    #[test]
    fn any_text_is_printed_or_refused(text in "([-a-z:#?|>'\"{},&*!%@~ ]|\\[|\\]|\n){0,40}") {
        match format(&Source::new("p", &text)) {
            Ok(printed) => prop_assert_eq!(formatted(&printed), printed),
            Err(Unformatted::Unreadable(_)) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}

#[track_caller]
fn check(text: &str, expect: &str) {
    assert_eq!(formatted(text), expect);
}

#[test]
fn order_lines_and_quotes() {
    check(
        "rules: [{reason: \"r\", paths: ['/x', \"**/y\"], kind: file, id: \"a\", zzz: 1}]\nname: t\nversion: 1\n",
        "version: 1\nname: t\nrules:\n  - id: a\n    kind: file\n    paths: [/x, \"**/y\"]\n    reason: r\n    zzz: 1\n",
    );
    check(
        "name: t\nversion: 1\nlists: {addresses: {net: [10.0.0.0/8, 'fd00::/8']}, paths: {}}\nrules:\n",
        "version: 1\nname: t\nlists:\n  paths: {}\n  addresses:\n    net: [10.0.0.0/8, \"fd00::/8\"]\nrules: null\n",
    );
    check(
        "policy: p\ntests:\n- expect: allow\n  by:\n    loads_code: true\n    executable: /x\n  do: read /x\n",
        "policy: p\ntests:\n  - {do: read /x, by: {executable: /x, loads_code: true}, expect: allow}\n",
    );
    check(
        "policy: p\ntests:\n- expect: allow\n  input:\n    command: 'a: \"b\"'\n    args: [1, '1', ~]\n  do: tool Bash\n",
        "policy: p\ntests:\n  - {do: tool Bash, input: {command: 'a: \"b\"', args: [1, \"1\", ~]}, expect: allow}\n",
    );
    check(
        "rules:\n- when:\n    flags: [-f]\n    programs: [git]\n  tools: ['*']\n  action: allow\n  kind: tool\n  id: a\n",
        "rules:\n  - id: a\n    kind: tool\n    action: allow\n    tools: [\"*\"]\n    when: {programs: [git], flags: [\"-f\"]}\n",
    );
    check(
        "description: \"a\\n\\nb\\n\\n\"\nname: >\n  folded\n  name\n",
        "name: folded name\ndescription: |\n  a\n\n  b\n",
    );
    check(
        "a: 'it''s: \"x\"'\r\nb: [~, 0x1F, \"0x1F\"]\r\n",
        "a: \"it's: \\\"x\\\"\"\nb: [~, 0x1F, \"0x1F\"]\n",
    );
    check("# only\nx # one\n# value\n", "# only\n# one\n# value\nx\n");
    check("---\nversion: 1 # c\n...\n# d\n", "version: 1  # c\n# d\n");
}

#[test]
fn comments_go_with_what_they_are_about() {
    check(
        "# head\n\n# of the name\nname: t   # behind\n\n\n# of the version\nversion: 1\n# end\n",
        "# head\n\n# of the name\n\n# of the version\nversion: 1\nname: t  # behind\n# end\n",
    );
    // The first key of a mapping has its own comment, unless an empty line is behind that.
    check(
        "defaults:\n  # of mcp\n  mcp: {action: deny}\n  # of tool\n  tool: {action: deny}\n",
        "defaults:\n  # of tool\n  tool: {action: deny}\n  # of mcp\n  mcp: {action: deny}\n",
    );
    check(
        "defaults:\n  # of both\n\n  mcp: {action: deny}\n  tool: {action: deny}\n",
        "defaults:\n  # of both\n\n  tool: {action: deny}\n  mcp: {action: deny}\n",
    );
    check(
        "defaults:\n  # of both\n\n  # of mcp\n  # as well\n  mcp: {action: deny}\n  tool: {action: deny}\n",
        "defaults:\n  # of both\n\n  tool: {action: deny}\n\n  # of mcp\n  # as well\n  mcp: {action: deny}\n",
    );
    check(
        "defaults: { # of both\n  # of mcp\n  mcp: {action: deny}, tool: {action: deny}}\n",
        "defaults:\n  # of both\n  tool: {action: deny}\n  # of mcp\n  mcp: {action: deny}\n",
    );
    // What stands deeper is a part of what comes before it.
    check(
        "rules:\n  - except:\n      - executable: /x # one\n      # - executable: /y\n    # of the id\n    id: a\n  # next\n\n  - id: b\n",
        "rules:\n  # of the id\n  - id: a\n    except:\n      - executable: /x  # one\n      # - executable: /y\n  # next\n\n  - id: b\n",
    );
    // A list with comments has a line for each item; they stand below each other.
    check(
        "include: [a, # x\n  long, # y\n  # z\n] # end\n",
        "include:\n  - a     # x\n  - long  # y\n  # z\n  # end\n",
    );
    // A comment behind a rule in brackets comes to stand above it, and an empty line above both.
    check(
        "rules:\n  - {id: a, kind: file} # one\n\n  - {id: b, kind: file} # two\n",
        "rules:\n  # one\n  - id: a\n    kind: file\n\n  # two\n  - id: b\n    kind: file\n",
    );
    check(
        "rules:\n  - {id: a} # one\n  # of b\n\n  - {id: b} # two\n",
        "rules:\n  # one\n  - id: a\n  # of b\n\n  # two\n  - id: b\n",
    );
    // No list of the language is in another one, but it is printed all the same.
    check("# a\n\n-\n  # b\n  - {c: d} # e\n\n- - {}\n", "# a\n# b\n# e\n- [{c: d}]\n- [{}]\n");
    check("include: # why\n  - a\n", "include: [a]  # why\n");
    check("include: # one\n  [a] # two\n", "# one\ninclude: [a]  # two\n");
    check(
        "tests:\n  - {do: read /x, expect: allow, by} # c1\n",
        "tests:\n  - {do: read /x, by: null, expect: allow}  # c1\n",
    );
    check("a: {b} # c\n", "a:  # c\n  b: null\n");
    check("- {a} # x\n- b\n", "# x\n- a: null\n- b\n");
    for header in ["|", ">", "|-", ">1"] {
        check(&format!("description: {header} # why\n"), "description: \"\"  # why\n");
    }
    check("description: |+ # why\n\n", "description: \"\"  # why\n");
    check("a: |+ # why\n\n", "a: \"\\n\"  # why\n");
    check("description: | # why\n  a\n  b\n", "description: |  # why\n  a\n  b\n");
    check(
        "rules:\n- # of a\n  id: a\n# of b\n- id: b\n",
        "rules:\n  # of a\n  - id: a\n  # of b\n  - id: b\n",
    );
}

#[test]
fn what_is_not_printed() {
    let check = |text: &str, expect: &str| {
        let error = format(&Source::new("p", text)).expect_err("no text");
        assert!(error.to_string().contains(expect), "{error}");
    };
    check("a: [1\nb: 2\n", "not YAML");
    check("# nothing\n", "empty");
    check("a: &x 1\n", "anchors");
}

#[test]
fn keys_as_long_as_yaml_has_them() {
    let check = |key: &str, is_printed: bool| {
        for text in [format!("? {key}\n: b\n"), format!("a:\n  - - ? {key}\n      : b\n")] {
            match format(&Source::new("p", &text)) {
                Ok(printed) => assert!(is_printed && printed.contains(": b"), "{printed}"),
                Err(error @ Unformatted::LongKey { .. }) => {
                    let error = error.to_string();
                    assert!(!is_printed && error.contains("the key `") && error.contains("1025"), "{error}");
                    assert!(error.chars().count() < 200, "{error}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    check(&"k".repeat(1024), true);
    check(&"k".repeat(1025), false);
    // With quotes and escapes as they are printed.
    check(&format!("\"{}:\"", "é".repeat(1021)), true);
    check(&format!("\"{}:\"", "é".repeat(1022)), false);
    check(&format!("\"\\a{}\"", "k".repeat(1019)), false);
}

#[test]
fn a_line_as_long_as_a_policy_can_be_takes_no_longer_than_lines() {
    let count = 4_000;
    let check = |text: String, part: &str| {
        let printed = format(&Source::new("p", &text)).unwrap_or_else(|error| panic!("{error:.200}"));
        assert_eq!(printed.matches(part).count(), count);
        printed
    };
    let printed = check(format!("zzz: [{}]\n", "{a: 1, b: [x, {c: d}]}, ".repeat(count)), "c: d");
    assert!(printed.lines().count() > count);
    check(format!("zzz: {{{}}}\n", (0..count).map(|n| format!("k{n}: {{}}, ")).collect::<String>()), ": {}");
    check(format!("version: 1\nlists: {{paths: {{a: [{}]}}}}\n", "/a, # x\n  ".repeat(count)), "# x");
    let rule = (0..count).map(|n| format!("k{n}: 1, ")).collect::<String>();
    check(format!("rules: [{{kind: file, {rule}}}]\n"), ": 1");
}

#[test]
fn what_would_be_too_long_is_not_printed() {
    let text = format!("zzz: [{}]\n", "{a: {b: {c: d}}}, ".repeat(50_000));
    let error = format(&Source::new("p", &text)).expect_err("too long");
    assert!(error.to_string().contains("bytes; a policy has at most 1048576"), "{error:.200}");
}
