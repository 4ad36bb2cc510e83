//! Arithmetic. A shell evaluates the values of variables again, and an index in one of them can be a command: only what is known
//! to be a number is harmless.

use std::collections::{BTreeMap, BTreeSet};

use treeline_policy::tool::Opaque;

use crate::{
    lex::Cursor,
    word::{Found, Values, scan},
};

/// Variables that are numbers without being assigned.
const NUMBERS: [&str; 11] = [
    "RANDOM",
    "SRANDOM",
    "SECONDS",
    "EPOCHSECONDS",
    "LINENO",
    "BASHPID",
    "PPID",
    "UID",
    "EUID",
    "OPTIND",
    "!",
];

/// Variables that the shell assigns itself, so whatever a command assigns to them.
const OF_THE_SHELL: [&str; 10] = [
    "_",
    "REPLY",
    "MAPFILE",
    "OPTARG",
    "DIRSTACK",
    "FUNCNAME",
    "GROUPS",
    "PIPESTATUS",
    "READLINE_LINE",
    "COPROC",
];
const OF_THE_SHELL_PREFIXES: [&str; 2] = ["BASH_", "COMP_"];

fn is_of_the_shell(name: &str) -> bool {
    OF_THE_SHELL.contains(&name) || OF_THE_SHELL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Variables by name: those that arithmetic is done on, and those that are assigned.
#[derive(Debug, Default)]
pub(crate) struct Names {
    used: BTreeSet<String>,
    /// Whether every value of it is a number.
    assigned: BTreeMap<String, bool>,
    /// Those that are arrays, wherever they were made.
    arrays: BTreeSet<String>,
    /// Those that are declared with a value which would be read as a list, if they were arrays.
    lists: BTreeSet<String>,
}

impl Names {
    pub(crate) fn assign(&mut self, name: &str, is_number: bool) {
        *self.assigned.entry(name.to_owned()).or_insert(true) &= is_number;
    }

    /// Notes that a variable has to be a number.
    pub(crate) fn use_of(&mut self, name: &str) {
        self.used.insert(name.to_owned());
    }

    pub(crate) fn array(&mut self, name: &str) {
        self.arrays.insert(name.to_owned());
    }

    pub(crate) fn list(&mut self, name: &str) {
        self.lists.insert(name.to_owned());
    }

    pub(crate) fn is_assigned(&self, name: &str) -> bool {
        self.assigned.contains_key(name)
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.used.extend(other.used);
        for (name, is_number) in other.assigned {
            self.assign(&name, is_number);
        }
        self.arrays.extend(other.arrays);
        self.lists.extend(other.lists);
    }

    /// Whether something is evaluated that is not known to be a number.
    pub(crate) fn are_evaluated(&self) -> bool {
        let is_list = |name: &String| self.arrays.contains(name) || is_of_the_shell(name);
        self.lists.iter().any(is_list)
            || self.used.iter().any(|name| {
                let is_number = self.assigned.get(name).copied().filter(|_| !is_of_the_shell(name));
                !is_number.unwrap_or_else(|| NUMBERS.contains(&name.as_str()))
            })
    }
}

/// Whether a text is a number and nothing else.
pub(crate) fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Looks at an expression.
pub(crate) fn read(code: &str, values: Values<'_>, found: &mut Found) {
    scan(code, values, found);
    if let Err(why) = names(code, found) {
        found.opaque.push(why);
    }
}

fn names(code: &str, found: &mut Found) -> Result<(), Opaque> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut cursor = Cursor::new(code, 0);
    while let Some(next) = cursor.peek() {
        let len = cursor.rest().len() - cursor.rest().trim_start_matches(is_name).len();
        match next {
            // What it prints is evaluated.
            '`' | '\'' | '"' | '\\' => return Err(Opaque::Arithmetic),
            '$' if cursor.next_is("$(") => return Err(Opaque::Arithmetic),
            '$' => {
                let start = cursor.at;
                cursor.dollar(true)?;
                parameter(&code[start + 1..cursor.at], &mut cursor, found)?;
            }
            '0'..='9' => cursor.at += len,
            _ if len > 0 => {
                let name = &cursor.rest()[..len];
                cursor.at += len;
                let rest = cursor.rest().trim_start();
                if rest.starts_with('[') {
                    return Err(Opaque::Arithmetic);
                }
                let operator = rest.trim_start_matches(|c| "+-*/%&|^<>".contains(c));
                if operator.starts_with('=') && !rest.starts_with("==") {
                    found.names.assign(name, true);
                }
                found.names.use_of(name);
            }
            _ => _ = cursor.take(),
        }
    }
    Ok(())
}

/// A variable behind a dollar: `whole` is what was between it and the cursor.
fn parameter(whole: &str, cursor: &mut Cursor<'_>, found: &mut Found) -> Result<(), Opaque> {
    if let Some(code) = whole.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return match code.strip_prefix('#') {
            Some(_) => Ok(()),
            None if code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                found.names.use_of(code);
                Ok(())
            }
            None => Err(Opaque::Arithmetic),
        };
    }
    match cursor.peek() {
        Some('?' | '#' | '$' | '!') => _ = cursor.take(),
        Some(next) if next.is_ascii_alphabetic() || next == '_' => {}
        _ => return Err(Opaque::Arithmetic),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_harmless() {
        let check = |code: &str, numbers: &[&str], harmless: bool| {
            let mut found = Found::default();
            for name in numbers {
                found.names.assign(name, true);
            }
            read(code, &|_| None, &mut found);
            let is_harmless = found.opaque.is_empty() && !found.names.are_evaluated();
            assert_eq!(is_harmless, harmless, "{code}: {found:?}");
        };
        check("REPLY + BASH_REMATCH", &["REPLY", "BASH_REMATCH"], false);
        check("_", &["_"], false);
        check("1 + 0x1f * (2 << 3)", &[], true);
        check("i + 1", &["i"], true);
        check("$i + ${j} + ${#k} + $# + RANDOM % 10", &["i", "j"], true);
        check("i = 3, i + 1", &[], true);
        check("i", &[], false);
        check("i == 3", &[], false);
        check("a[1]", &["a"], false);
        check("$1", &[], false);
        check("$(x)", &[], false);
        check("${i:-1}", &["i"], false);
        check("'1'", &[], false);
    }

    #[test]
    fn numbers() {
        for (text, expect) in
            [("1", true), ("-12", true), ("", false), ("-", false), ("1a", false), ("a", false)]
        {
            assert_eq!(is_number(text), expect, "{text}");
        }
    }
}
