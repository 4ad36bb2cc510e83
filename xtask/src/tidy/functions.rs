//! Functions that are too long to see at once.

use super::{
    finding::Finding,
    source::{Source, words},
};

/// One screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer: path, name, and why it would be worse in pieces.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Every function of the file that is too long.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let code = source.code();
    let mut findings = Vec::new();
    for at in words(&code, "fn") {
        let Some(function) = Function::at(&code, at) else { continue };
        let is_excepted =
            EXCEPTIONS.iter().any(|(path, name, _)| *path == source.path() && *name == function.name);
        if function.lines_count > FUNCTION_LINES_MAX && !is_excepted {
            findings.push(Finding::new(
                source.path(),
                code[..at].matches('\n').count() + 1,
                format!("`{}` has {} lines", function.name, function.lines_count),
                format!("a function is at most {FUNCTION_LINES_MAX} lines, to be seen at once"),
                "give its parts names of their own",
            ));
        }
    }
    findings
}

struct Function<'a> {
    name: &'a str,
    lines_count: usize,
}

impl<'a> Function<'a> {
    /// The function whose `fn` is at this offset; none for pointers to functions and for declarations without a body.
    fn at(code: &'a str, at: usize) -> Option<Self> {
        let rest = code[at..].strip_prefix("fn")?;
        let signature = rest.trim_start();
        let end = signature.find(|character: char| !(character.is_alphanumeric() || character == '_'))?;
        let name = &signature[..end];
        if name.is_empty() {
            return None;
        }
        let body = body_offset(rest)?;
        let length = matching_brace(&rest[body..])?;
        Some(Self { name, lines_count: rest[..body + length].matches('\n').count() + 1 })
    }
}

/// Where the body's brace is: the first one outside brackets, unless a semicolon comes before.
fn body_offset(signature: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, character) in signature.char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

fn matching_brace(body: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, character) in body.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_counts(text: &str) -> Vec<(String, usize)> {
        let code = Source::parse("a.rs", text).code();
        words(&code, "fn")
            .filter_map(|at| Function::at(&code, at))
            .map(|function| (function.name.to_owned(), function.lines_count))
            .collect()
    }

    #[test]
    fn functions_are_measured() {
        let cases: [(&str, &[(&str, usize)]); 6] = [
            ("fn a() {}", &[("a", 1)]),
            ("fn a(x: [u8; 4]) {\n  if x {\n  }\n}\n", &[("a", 4)]),
            ("trait T { fn a(&self); fn b() {\n} }", &[("b", 2)]),
            ("type F = fn(u8) -> u8;", &[]),
            ("fn a() {\n let s = \"}\"; // }\n}", &[("a", 3)]),
            ("fn a() {\n fn b() {\n }\n}", &[("a", 4), ("b", 2)]),
        ];
        for (text, expect) in cases {
            let expect: Vec<(String, usize)> =
                expect.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
            assert_eq!(lines_counts(text), expect, "{text}");
        }
    }

    #[test]
    fn only_the_long_ones_are_found() {
        let text = |count: usize| format!("// a\nfn a() {{\n{}}}\n", "x();\n".repeat(count - 2));
        assert_eq!(check(&Source::parse("a.rs", &text(FUNCTION_LINES_MAX))), []);
        let found = check(&Source::parse("a.rs", &text(FUNCTION_LINES_MAX + 1)));
        assert_eq!(found.iter().map(Finding::line).collect::<Vec<_>>(), [2]);
    }
}
