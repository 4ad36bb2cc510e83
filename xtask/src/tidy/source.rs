//! Rust text taken apart into code and comments, line by line, so that no rule trips over a word in a string.

use std::iter::Peekable;

/// A Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    path: String,
    lines: Vec<Line>,
}

/// One line of it. Contents of strings and character literals are in neither part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// What the compiler sees; comments and the contents of literals are blanks.
    pub(crate) code: String,
    /// What the reader is told.
    pub(crate) comment: String,
}

impl Source {
    /// Takes `text` apart. Text that is not Rust gives nonsense, never a panic.
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), lines: Splitter::split(text) }
    }

    /// From the root of the checkout.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// All of its lines.
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Numbered lines before the tests, which come last by convention; none in a file that is all tests.
    pub(crate) fn product_lines(&self) -> impl Iterator<Item = (usize, &Line)> {
        let is_all_tests = self.path.starts_with("tests/")
            || self.path.starts_with("vm-tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs");
        let count = if is_all_tests { 0 } else { self.tests_index() };
        self.numbered().take(count)
    }

    /// Where the module of tests begins: `#[cfg(test)]`, perhaps more attributes, `mod`.
    fn tests_index(&self) -> usize {
        let is_start = |index: usize| {
            let mut codes = self.lines[index..].iter().map(|line| line.code.trim());
            codes.next().is_some_and(|code| code == "#[cfg(test)]")
                && codes.find(|code| !code.starts_with("#[")).is_some_and(|code| code.starts_with("mod "))
        };
        (0..self.lines.len()).find(|&index| is_start(index)).unwrap_or(self.lines.len())
    }

    /// Lines with their numbers, from 1.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The code alone, one line after the other.
    pub(crate) fn code(&self) -> String {
        self.lines.iter().flat_map(|line| [line.code.as_str(), "\n"]).collect()
    }
}

/// Where `word` stands in `code` as a whole identifier: byte offsets.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

struct Splitter<I: Iterator<Item = char>> {
    rest: Peekable<I>,
    lines: Vec<Line>,
}

impl<'a> Splitter<std::str::Chars<'a>> {
    fn split(text: &'a str) -> Vec<Line> {
        let mut splitter = Self { rest: text.chars().peekable(), lines: vec![Line::default()] };
        while let Some(character) = splitter.rest.next() {
            splitter.step(character);
        }
        if text.ends_with('\n') || text.is_empty() {
            splitter.lines.pop();
        }
        splitter.lines
    }

    fn step(&mut self, character: char) {
        match character {
            '/' if self.rest.peek() == Some(&'/') => self.line_comment(),
            '/' if self.rest.peek() == Some(&'*') => self.block_comment(),
            '"' => self.string(),
            '\'' => self.character_or_lifetime(),
            'r' if !self.follows_identifier() => self.raw_string_or_identifier(),
            _ => self.code(character),
        }
    }

    fn last(&mut self) -> &mut Line {
        if self.lines.is_empty() {
            self.lines.push(Line::default());
        }
        let index = self.lines.len() - 1;
        &mut self.lines[index]
    }

    fn code(&mut self, character: char) {
        if character == '\n' {
            self.lines.push(Line::default());
        } else {
            self.last().code.push(character);
        }
    }

    fn comment(&mut self, character: char) {
        if character == '\n' {
            self.lines.push(Line::default());
        } else {
            self.last().comment.push(character);
        }
    }

    fn literal(&mut self, character: char) {
        self.code(if character == '\n' { '\n' } else { ' ' });
    }

    /// Whether the last character of code belongs to a name (other than a byte string's `b` and a C string's `c`).
    fn follows_identifier(&mut self) -> bool {
        let code = &self.last().code;
        let mut characters = code.chars().rev().skip_while(|character| matches!(character, 'b' | 'c'));
        characters.next().is_some_and(|character| character.is_alphanumeric() || character == '_')
    }

    fn line_comment(&mut self) {
        self.comment('/');
        while let Some(character) = self.rest.next_if(|&character| character != '\n') {
            self.comment(character);
        }
    }

    fn block_comment(&mut self) {
        self.rest.next();
        let mut depth = 1_usize;
        while let Some(character) = self.rest.next() {
            match (character, self.rest.peek()) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => {
                    self.comment(character);
                    continue;
                }
            }
            self.rest.next();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.code('"');
        while let Some(character) = self.rest.next() {
            match character {
                '"' => return self.code('"'),
                '\\' => {
                    self.literal(' ');
                    if let Some(escaped) = self.rest.next() {
                        self.literal(escaped);
                    }
                }
                _ => self.literal(character),
            }
        }
    }

    fn character_or_lifetime(&mut self) {
        self.code('\'');
        match self.rest.next() {
            Some('\\') => {
                self.rest.next();
                while let Some(character) = self.rest.next() {
                    if character == '\'' {
                        return self.code('\'');
                    }
                }
            }
            Some(character) if self.rest.peek() == Some(&'\'') => {
                self.rest.next();
                self.literal(character);
                self.code('\'');
            }
            Some(character) => self.step(character),
            None => {}
        }
    }

    fn raw_string_or_identifier(&mut self) {
        self.code('r');
        let mut hashes = 0_usize;
        while self.rest.next_if_eq(&'#').is_some() {
            self.code('#');
            hashes += 1;
        }
        if self.rest.next_if_eq(&'"').is_none() {
            return;
        }
        self.code('"');
        while let Some(character) = self.rest.next() {
            if character != '"' {
                self.literal(character);
                continue;
            }
            let mut found = 0;
            while found < hashes && self.rest.next_if_eq(&'#').is_some() {
                found += 1;
            }
            if found == hashes {
                return self.code('"');
            }
            // A quotation mark inside, and the hashes after it.
            (0..=found).for_each(|_| self.literal(' '));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, &str)]) {
        let source = Source::parse("a.rs", text);
        let lines: Vec<(&str, &str)> =
            source.lines().iter().map(|line| (line.code.trim_end(), line.comment.as_str())).collect();
        assert_eq!(lines, expect, "{text}");
    }

    #[test]
    fn code_and_comments_are_told_apart() {
        check("", &[]);
        check("a // b\nc\n", &[("a", "// b"), ("c", "")]);
        check("a /* b /* c\n */ d */ e", &[("a", " b  c"), (" e", "  d ")]);
        check("f(\"// no \\\" comment\") // one", &[("f(\"                \")", "// one")]);
        check("r#\"a \" // b\"# // c", &[("r#\"        \"", "// c")]);
        check("br\"\\\" // c", &[("br\" \"", "// c")]);
        check("r#type // c", &[("r#type", "// c")]);
        check("for\"a\"", &[("for\" \"")].map(|code| (code, "")));
        check("'\"' '\\'' '\\u{41}' 'a' // c", &[("' ' '' '' ' '", "// c")]);
        check("&'a str 'static // c", &[("&'a str 'static", "// c")]);
    }

    #[test]
    fn strings_keep_their_line_breaks() {
        check("\"a\nb\" // c\nd", &[("\"", ""), (" \"", "// c"), ("d", "")]);
    }

    #[test]
    fn product_lines_end_where_tests_begin() {
        let count =
            |path: &str| Source::parse(path, "a\n#[cfg(test)]\nmod tests {}\n").product_lines().count();
        assert_eq!(count("sensor/src/a.rs"), 1);
        assert_eq!(count("tests/tests/a.rs"), 0);
        let helper = Source::parse("a.rs", "#[cfg(test)]\nfn a() {}\nfn b() {}\n");
        assert_eq!(helper.product_lines().count(), 3);
        assert_eq!(count("sensor/src/log/tests.rs"), 0);
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(words("aya aya_obj xaya aya::x", "aya").collect::<Vec<_>>(), [0, 17]);
    }
}
