//! One word: what it says for certain, and what stands in it for something else.

use treeline_policy::tool::Opaque;

use crate::{
    arithmetic::{self, Names},
    escape,
    lex::Cursor,
};

/// What a word comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    /// All of it, if it is known.
    pub(crate) known: Option<String>,
    /// What it begins with for certain.
    pub(crate) prefix: String,
    /// Whether it can become no word at all, or several.
    pub(crate) is_many: bool,
    /// Whether names of files below what `prefix` names take its place; it ends before the first of `*?[`.
    pub(crate) is_glob: bool,
    /// The variable that it is the value of, if it is nothing else.
    pub(crate) variable: Option<String>,
}

impl Word {
    /// A word that is known.
    pub(crate) fn of(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { prefix: text.clone(), known: Some(text), ..Self::default() }
    }

    /// Any number of words of which nothing is known.
    pub(crate) fn unknown() -> Self {
        Self { is_many: true, ..Self::default() }
    }

    /// All of it, if it is known and is not a pattern.
    pub(crate) fn text(&self) -> Option<&str> {
        self.known.as_deref()
    }
}

/// What was found in words.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Texts of the commands whose output is put in.
    pub(crate) commands: Vec<String>,
    /// What cannot be told.
    pub(crate) opaque: Vec<Opaque>,
    /// Variables that arithmetic is done on.
    pub(crate) names: Names,
}

/// Values that are known of variables.
pub(crate) type Values<'v> = &'v dyn Fn(&str) -> Option<String>;

/// Reads a word as it is written.
pub(crate) fn read(text: &str, values: Values<'_>, found: &mut Found) -> Word {
    let mut reader = Reader::new(text, values, found);
    match reader.unquoted() {
        Ok(()) => reader.finish(),
        Err(why) => {
            reader.found.opaque.push(why);
            Word::unknown()
        }
    }
}

/// Looks for commands in a text that is expanded as if between double quotes, such as the body of a here-document.
pub(crate) fn scan(text: &str, values: Values<'_>, found: &mut Found) {
    let mut reader = Reader::new(text, values, found);
    if let Err(why) = reader.quoted(None) {
        reader.found.opaque.push(why);
    }
}

struct Reader<'r, 't> {
    cursor: Cursor<'t>,
    text: &'t str,
    values: Values<'r>,
    found: &'r mut Found,
    out: String,
    /// Bytes of `out` before the first part that is not known.
    certain: Option<usize>,
    is_many: bool,
    /// Bytes of `out` before the first of `*?[`.
    glob: Option<usize>,
    bracket: Option<usize>,
    has_brace: bool,
    has_braces: bool,
}

impl<'r, 't> Reader<'r, 't> {
    fn new(text: &'t str, values: Values<'r>, found: &'r mut Found) -> Self {
        Self {
            cursor: Cursor::new(text, 0),
            text,
            values,
            found,
            out: String::new(),
            certain: None,
            is_many: false,
            glob: None,
            bracket: None,
            has_brace: false,
            has_braces: false,
        }
    }

    fn finish(self) -> Word {
        let glob = self.glob.or(self.bracket.filter(|at| self.out[*at..].contains(']')));
        if self.has_braces {
            return Word::unknown();
        }
        let certain = self.certain.unwrap_or(self.out.len()).min(glob.unwrap_or(self.out.len()));
        let prefix = self.out[..certain].to_owned();
        // A pattern stays below what is before it, unless it goes up again itself.
        let is_glob = self.certain.is_none() && glob.is_some_and(|at| !self.out[at..].contains(".."));
        let is_known = self.certain.is_none() && glob.is_none();
        let is_many = self.is_many || glob.is_some();
        let variable = variable(self.text).filter(|_| !is_known).map(str::to_owned);
        Word { known: is_known.then_some(self.out), prefix, is_many, is_glob, variable }
    }

    fn is_unknown(&mut self, is_many: bool) {
        self.certain.get_or_insert(self.out.len());
        self.is_many |= is_many;
    }

    fn unquoted(&mut self) -> Result<(), Opaque> {
        self.tilde();
        while let Some(next) = self.cursor.peek() {
            match next {
                '\'' => {
                    let start = self.cursor.at + 1;
                    self.cursor.single()?;
                    self.out.push_str(&self.text[start..self.cursor.at - 1]);
                }
                '"' => {
                    self.cursor.take();
                    self.quoted(Some('"'))?;
                }
                '\\' if self.cursor.next_is("\\\n") => self.cursor.at += 2,
                '\\' => {
                    self.cursor.take();
                    self.out.push(self.cursor.take().ok_or(Opaque::Syntax)?);
                }
                '$' if self.cursor.next_is("$'") => self.ansi()?,
                // It is translated, by files that a variable names.
                '$' if self.cursor.next_is("$\"") => {
                    self.is_unknown(false);
                    self.cursor.at += 2;
                    self.quoted(Some('"'))?;
                }
                '$' | '`' => self.expansion(true)?,
                // As in an assignment, whatever the word is.
                '~' if self.text[..self.cursor.at].ends_with(['=', ':']) => {
                    self.is_unknown(false);
                    self.cursor.take();
                }
                _ => {
                    self.special(next);
                    self.out.push(next);
                    self.cursor.take();
                }
            }
        }
        Ok(())
    }

    /// What an unquoted character means for the word.
    fn special(&mut self, next: char) {
        match next {
            '*' | '?' => _ = self.glob.get_or_insert(self.out.len()),
            '[' => _ = self.bracket.get_or_insert(self.out.len()),
            '{' => self.has_brace = true,
            ',' => self.has_braces |= self.has_brace,
            '.' => self.has_braces |= self.has_brace && self.cursor.next_is(".."),
            _ => {}
        }
    }

    /// `~` at the beginning.
    fn tilde(&mut self) {
        if !self.cursor.next_is("~") {
            return;
        }
        let user = self.text.split('/').next().unwrap_or_default();
        match (self.values)("HOME").filter(|_| user == "~") {
            Some(home) => self.out.push_str(&home),
            // Quotes in it would make it an ordinary character.
            None => self.is_unknown(user != "~"),
        }
        self.cursor.at = user.len();
        if user.contains(['\'', '"', '\\', '$', '`']) {
            self.cursor.at = 1;
        }
    }

    /// Up to a closing quote, or to the end.
    fn quoted(&mut self, end: Option<char>) -> Result<(), Opaque> {
        loop {
            let Some(next) = self.cursor.peek() else {
                return if end.is_none() { Ok(()) } else { Err(Opaque::Syntax) };
            };
            match next {
                _ if Some(next) == end => {
                    self.cursor.take();
                    return Ok(());
                }
                '\\' if self.cursor.next_is("\\\n") => self.cursor.at += 2,
                '\\' => {
                    self.cursor.take();
                    match self.cursor.peek() {
                        Some(escaped @ ('$' | '`' | '"' | '\\')) => {
                            self.cursor.take();
                            self.out.push(escaped);
                        }
                        _ => self.out.push('\\'),
                    }
                }
                '$' | '`' => self.expansion(false)?,
                _ => {
                    self.out.push(next);
                    self.cursor.take();
                }
            }
        }
    }

    /// `$'...'`.
    fn ansi(&mut self) -> Result<(), Opaque> {
        let start = self.cursor.at + 2;
        self.cursor.dollar(false)?;
        match escape::decode(&self.text[start..self.cursor.at - 1]) {
            Some(text) => self.out.push_str(&text),
            None => self.is_unknown(false),
        }
        Ok(())
    }

    /// What is replaced by something else.
    fn expansion(&mut self, unquoted: bool) -> Result<(), Opaque> {
        let start = self.cursor.at;
        if self.cursor.next_is("`") {
            self.cursor.backquoted()?;
            let code = &self.text[start + 1..self.cursor.at - 1];
            self.found.commands.push(escape::unescape(code, !unquoted));
            self.is_unknown(unquoted);
            return Ok(());
        }
        self.cursor.dollar(!unquoted)?;
        let whole = &self.text[start..self.cursor.at];
        let inner = |begin: &str, end: &str| whole.strip_prefix(begin)?.strip_suffix(end);
        if let Some(code) = inner("$((", "))") {
            arithmetic::read(code, self.values, self.found);
            self.is_unknown(false);
        } else if let Some(code) = inner("$(", ")") {
            self.found.commands.push(code.to_owned());
            // A number, which is no more than one word.
            let is_number = code.trim() == "nproc" && (self.values)("$(nproc)").is_some();
            self.is_unknown(unquoted && !(is_number && (self.values)("IFS").is_some()));
        } else if let Some(code) = inner("${", "}") {
            self.parameter(code)?;
            self.value(code, unquoted);
        } else {
            self.variable(unquoted);
        }
        Ok(())
    }

    /// `$name`, of which the dollar is behind us.
    fn variable(&mut self, unquoted: bool) {
        let rest = self.cursor.rest();
        let name =
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
        let special = rest.chars().next().filter(|c| "@*#?-$!0123456789".contains(*c));
        match special {
            // They are numbers, and never empty.
            Some('#' | '?' | '$') if unquoted && (self.values)("IFS").is_some() => {
                self.cursor.take();
                self.is_unknown(false);
            }
            Some(special) => {
                self.cursor.take();
                // `"$@"` is as many words as there are.
                self.is_unknown(unquoted || special == '@');
            }
            None if name == 0 => self.out.push('$'),
            None => {
                self.cursor.at += name;
                self.value(&rest[..name], unquoted);
            }
        }
    }

    /// The value of a variable.
    fn value(&mut self, name: &str, unquoted: bool) {
        let splits = |value: &str| value.contains([' ', '\t', '\n', '*', '?', '[']);
        match (self.values)(name).filter(|value| !(unquoted && splits(value))) {
            Some(value) => self.out.push_str(&value),
            None => self.is_unknown(unquoted || name.contains(['@', '*'])),
        }
    }

    /// What is between the braces of `${...}`: commands in it, and what of it is evaluated again.
    fn parameter(&mut self, code: &str) -> Result<(), Opaque> {
        // Unquoted, these are commands: in a default, a pattern, or what is put in its place.
        let joined = code.replace("\\\n", "");
        if ["<(", ">("].iter().any(|begin| joined.contains(begin)) {
            return Err(Opaque::Syntax);
        }
        if code.starts_with('!') {
            // The value of one variable names the next, with an index that is evaluated.
            return Err(Opaque::Arithmetic);
        }
        let code = code.strip_prefix('#').filter(|rest| !rest.is_empty()).unwrap_or(code);
        let name =
            code.len() - code.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
        let is_special = code.starts_with(|c: char| "@*#?-$!".contains(c));
        if name == 0 && !is_special {
            return Err(Opaque::Syntax);
        }
        let (name, mut rest) = code.split_at(name.max(1));
        if let Some(index) = rest.strip_prefix('[') {
            let end = index.find(']').ok_or(Opaque::Syntax)?;
            if !index[..end].chars().all(|c| c.is_ascii_digit() || c == '@' || c == '*') {
                return Err(Opaque::Arithmetic);
            }
            rest = &index[end + 1..];
        }
        match rest.trim_start_matches(':').chars().next() {
            None if rest.is_empty() => {}
            // `${name@P}` is read as a prompt, which can have commands in it.
            Some('@') if rest.contains('P') => return Err(Opaque::Eval),
            Some('@') => {}
            Some('=') => {
                self.found.names.assign(name, false);
                if crate::variables::is_dangerous(name) {
                    return Err(Opaque::Environment);
                }
                self.scan_default(rest);
            }
            Some('-' | '?' | '+' | '#' | '%' | '/' | '^' | ',') => self.scan_default(rest),
            Some(_) if rest.starts_with(':') => {
                let plain = |c: char| c.is_ascii_digit() || c == ':' || c == ' ' || c == '-';
                if !rest.chars().all(plain) {
                    return Err(Opaque::Arithmetic);
                }
            }
            _ => return Err(Opaque::Syntax),
        }
        Ok(())
    }

    fn scan_default(&mut self, text: &str) {
        scan(text, self.values, self.found);
    }
}

/// The variable that a word is the value of, quoted or not; `!` is the last process that was started aside.
fn variable(text: &str) -> Option<&str> {
    let bare =
        text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text).strip_prefix('$')?;
    let name = bare.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(bare);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (name == "!"
        || name.starts_with(|c: char| is_name(c) && !c.is_ascii_digit()) && name.chars().all(is_name))
    .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/ada".to_owned())
    }

    #[test]
    fn what_words_come_to() {
        let check = |text: &str, expect: &str| {
            let mut found = Found::default();
            let word = read(text, &values, &mut found);
            assert_eq!(word.known.as_deref(), Some(expect), "{text}");
            assert_eq!((word.is_many, found.commands.len(), found.opaque.len()), (false, 0, 0), "{text}");
        };
        check("a'b c'\"d e\"f", "ab cd ef");
        check("a\\ b\\'c", "a b'c");
        check("\"a\\b\\\"\\$x\"", "a\\b\"$x");
        check("r\\\nm", "rm");
        check("$'a\\tb\\x41\\101\\u00e9\\''", "a\tbAA\u{e9}'");
        check("~", "/home/ada");
        check("~/x", "/home/ada/x");
        check("a~", "a~");
        check("$HOME/x", "/home/ada/x");
        check("\"${HOME}\"/x", "/home/ada/x");
        check("'*'\\?", "*?");
        check("[", "[");
        check("{}", "{}");
        check("a$", "a$");
        check("''", "");
    }

    #[test]
    fn what_is_not_known_of_words() {
        let check = |text: &str, prefix: &str, is_many: bool, is_glob: bool| {
            let word = read(text, &values, &mut Found::default());
            let variable = (text == "\"$ab\"").then(|| "ab".to_owned());
            assert_eq!(
                word,
                Word { known: None, prefix: prefix.into(), is_many, is_glob, variable },
                "{text}"
            );
        };
        check("a$x", "a", true, false);
        check("\"a$x\"b", "a", false, false);
        check("\"$@\"", "", true, false);
        check("\"$ab\"", "", false, false);
        check("x$#", "x", true, false);
        check("a/*.rs", "a/", true, true);
        check("a[bc]d", "a", true, true);
        check("{a,b}", "", true, false);
        check("x{1..3}", "", true, false);
        check("$(ls)", "", true, false);
        check("\"`ls`\"", "", false, false);
        check("$((1+2))", "", false, false);
        check("~ada/x", "", true, false);
        check("x=~/y", "x=", false, false);
        check("$'\\xff'", "", false, false);
        check("$\"a\"", "", false, false);
    }

    #[test]
    fn what_is_in_words() {
        let check = |text: &str, commands: &[&str], opaque: &[Opaque]| {
            let mut found = Found::default();
            read(text, &values, &mut found);
            assert_eq!(
                (found.commands, found.opaque.as_slice()),
                (commands.iter().map(|c| (*c).to_owned()).collect(), opaque),
                "{text}"
            );
        };
        check("a$(b \"c\")d`e \\`f\\``", &["b \"c\"", "e `f`"], &[]);
        check("\"$(a)\"", &["a"], &[]);
        check("'$(a)'", &[], &[]);
        check("${a:-$(b)}", &["b"], &[]);
        check("${a@P}", &[], &[Opaque::Eval]);
        check("${!a}", &[], &[Opaque::Arithmetic]);
        check("${a[b]}", &[], &[Opaque::Arithmetic]);
        check("${a[1]}${a[@]}${#a}${a:1:2}${a/b/c}", &[], &[]);
        check("${a:b}", &[], &[Opaque::Arithmetic]);
        for code in ["${a:-<(b)}", "${a/<()/}", "${a:+>(b)}", "${a:=<\\\n(b)}", "\"${a:-<(b)}\""] {
            check(code, &[], &[Opaque::Syntax]);
        }
        check("${PATH:=x}", &[], &[Opaque::Environment]);
        check("$(( $(a) ))", &["a"], &[Opaque::Arithmetic]);
    }
}
