//! A first reading of a text, from left to right: its tokens, and where each begins.
//!
//! It comes before the parser and is stricter than a shell. What it does not understand for certain is refused: a text that two
//! readers take apart in different ways could hide a command from one of them. It takes time that grows with the text alone, so
//! what the parser is known to be slow at is refused here, too.

use treeline_policy::tool::Opaque;

use crate::unit::{HereDoc, Lexed, Token, Unit};

/// Constructs within constructs: the parser calls itself for each.
pub(crate) const DEPTH_MAX: usize = 32;
/// Digits of a descriptor before a redirection; the parser wants it to be a number.
const DESCRIPTOR_LEN_MAX: usize = 9;

/// The operators, longer ones before their beginnings.
const OPERATORS: [&str; 22] = [
    "&>>", "<<-", "<<<", ";;&", "&&", "||", ";;", ";&", "|&", "<<", ">>", "<&", ">&", "<>", ">|", "&>", "&",
    "|", ";", "(", ")", "<",
];
/// Takes a text apart.
pub(crate) fn lex(text: &str) -> Result<Lexed<'_>, Opaque> {
    let mut cursor = Cursor::new(text, 0);
    let lexed = cursor.unit(false)?;
    // The parser counts `<<` between double parentheses as a shift, wherever they are closed.
    if cursor.has_heredoc && cursor.has_double { Err(Opaque::Syntax) } else { Ok(lexed) }
}

/// A place in a text.
pub(crate) struct Cursor<'t> {
    text: &'t str,
    pub(crate) at: usize,
    depth: usize,
    has_heredoc: bool,
    has_double: bool,
}

impl<'t> Cursor<'t> {
    pub(crate) fn new(text: &'t str, at: usize) -> Self {
        Self { text, at, depth: 0, has_heredoc: false, has_double: false }
    }

    pub(crate) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn next_is(&self, what: &str) -> bool {
        self.rest().starts_with(what)
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(crate) fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Goes behind what is there for certain.
    fn expect(&mut self, what: &str) -> Result<(), Opaque> {
        if !self.next_is(what) {
            return Err(Opaque::Syntax);
        }
        self.at += what.len();
        Ok(())
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Opaque>) -> Result<T, Opaque> {
        if self.depth >= DEPTH_MAX {
            return Err(Opaque::Bounds);
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Commands up to the end, or, within a substitution, up to the `)` that ends it.
    fn unit(&mut self, nested: bool) -> Result<Lexed<'t>, Opaque> {
        self.deeper(|cursor| cursor.commands(nested))
    }

    fn commands(&mut self, nested: bool) -> Result<Lexed<'t>, Opaque> {
        let mut unit = Unit::new(nested);
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' => self.at += 1,
                '\\' if self.next_is("\\\n") => self.at += 2,
                '#' => {
                    // Where raw text is read up to an end of its own, this would be no comment.
                    unit.has_comment = true;
                    self.at += self.rest().find('\n').unwrap_or(self.rest().len());
                }
                ')' if nested && unit.parens == 0 => return unit.finish(),
                '\n' => {
                    unit.operator(self.token(1))?;
                    self.bodies(&mut unit)?;
                }
                '&' | '|' | ';' | '(' | ')' | '<' | '>' => self.operator(&mut unit)?,
                _ => {
                    let start = self.at;
                    self.word()?;
                    let text = &self.text[start..self.at];
                    if text.len() > DESCRIPTOR_LEN_MAX
                        && text.bytes().all(|byte| byte.is_ascii_digit())
                        && self.peek().is_some_and(|next| matches!(next, '<' | '>'))
                    {
                        return Err(Opaque::Bounds);
                    }
                    // It gives the descriptor a name in bash, and is a word elsewhere.
                    let is_name = text.len() > 2 && text.starts_with('{') && text.ends_with('}');
                    if is_name && self.peek().is_some_and(|next| matches!(next, '<' | '>')) {
                        return Err(Opaque::Syntax);
                    }
                    unit.word(Token { is_word: true, text, start })?;
                }
            }
        }
        if nested { Err(Opaque::Syntax) } else { unit.finish() }
    }

    /// The next bytes as an operator.
    fn token(&mut self, len: usize) -> Token<'t> {
        let start = self.at;
        self.at += len;
        Token { is_word: false, text: &self.text[start..self.at], start }
    }

    fn operator(&mut self, unit: &mut Unit<'t>) -> Result<(), Opaque> {
        let operator = OPERATORS.into_iter().find(|operator| self.next_is(operator)).unwrap_or(">");
        let token = self.token(operator.len());
        // A shell joins the lines first, and the operator might go on.
        if self.next_is("\\\n") {
            return Err(Opaque::Syntax);
        }
        self.has_double |= operator == "(" && self.next_is("(");
        self.has_heredoc |= matches!(operator, "<<" | "<<-");
        unit.has_double |= operator == "(" && self.next_is("(");
        unit.operator(token)
    }

    /// One word, which is not empty.
    fn word(&mut self) -> Result<(), Opaque> {
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' | '\n' | '&' | '|' | ';' | '(' | ')' | '<' | '>' => break,
                '\\' => self.escaped()?,
                '\'' => self.single()?,
                '"' => self.double()?,
                '`' => self.backquoted()?,
                '$' => self.dollar(false)?,
                _ => self.at += next.len_utf8(),
            }
        }
        Ok(())
    }

    /// A backslash and what follows it.
    fn escaped(&mut self) -> Result<(), Opaque> {
        self.at += 1;
        self.take().map(|_| ()).ok_or(Opaque::Syntax)
    }

    pub(crate) fn single(&mut self) -> Result<(), Opaque> {
        self.expect("'")?;
        self.at += self.rest().find('\'').ok_or(Opaque::Syntax)? + 1;
        Ok(())
    }

    pub(crate) fn double(&mut self) -> Result<(), Opaque> {
        self.expect("\"")?;
        loop {
            match self.peek().ok_or(Opaque::Syntax)? {
                '"' => return self.expect("\""),
                '\\' => self.escaped()?,
                '`' => self.backquoted()?,
                '$' => self.dollar(true)?,
                next => self.at += next.len_utf8(),
            }
        }
    }

    pub(crate) fn backquoted(&mut self) -> Result<(), Opaque> {
        self.expect("`")?;
        loop {
            match self.peek().ok_or(Opaque::Syntax)? {
                '`' => return self.expect("`"),
                '\\' => self.escaped()?,
                next => self.at += next.len_utf8(),
            }
        }
    }

    /// A dollar and what belongs to it.
    pub(crate) fn dollar(&mut self, in_double: bool) -> Result<(), Opaque> {
        self.expect("$")?;
        match self.peek() {
            Some('(') if self.next_is("((") => self.deeper(Self::arithmetic),
            Some('(') => {
                self.at += 1;
                self.unit(true)?;
                self.expect(")")
            }
            Some('{') => self.deeper(|cursor| cursor.braced(in_double)),
            Some('[') => Err(Opaque::Arithmetic),
            Some('\'') if !in_double => self.ansi(),
            Some('"') if !in_double => self.double(),
            Some('\\') if self.next_is("\\\n") => Err(Opaque::Syntax),
            _ => Ok(()),
        }
    }

    fn ansi(&mut self) -> Result<(), Opaque> {
        self.expect("'")?;
        loop {
            match self.peek().ok_or(Opaque::Syntax)? {
                '\'' => return self.expect("'"),
                '\\' => self.escaped()?,
                next => self.at += next.len_utf8(),
            }
        }
    }

    /// `${...}`. Quotes in it mean one thing within double quotes and another without; the former are refused.
    fn braced(&mut self, in_double: bool) -> Result<(), Opaque> {
        self.expect("{")?;
        // A command in braces, as bash 5.3 has it.
        if self.peek().is_some_and(|next| matches!(next, ' ' | '\t' | '\n' | '|')) {
            return Err(Opaque::Syntax);
        }
        loop {
            match self.peek().ok_or(Opaque::Syntax)? {
                '}' => return self.expect("}"),
                '{' => return Err(Opaque::Syntax),
                '\'' | '"' if in_double => return Err(Opaque::Syntax),
                '\'' => self.single()?,
                '"' => self.double()?,
                '\\' => self.escaped()?,
                '`' => self.backquoted()?,
                '$' => self.dollar(in_double)?,
                next => self.at += next.len_utf8(),
            }
        }
    }

    /// `((...))` behind a dollar, if it can be nothing but arithmetic: a shell tries a command when it is none.
    fn arithmetic(&mut self) -> Result<(), Opaque> {
        self.expect("((")?;
        self.has_double = true;
        let mut parens = 0_usize;
        loop {
            match self.peek().ok_or(Opaque::Syntax)? {
                ')' if parens == 0 => return self.expect("))"),
                ')' => {
                    parens -= 1;
                    self.at += 1;
                }
                '(' => {
                    parens += 1;
                    self.at += 1;
                }
                '$' => self.dollar(true)?,
                '\'' | '"' | '`' | '\\' | ';' | '#' => return Err(Opaque::Arithmetic),
                next => self.at += next.len_utf8(),
            }
        }
    }

    /// The bodies of the here-documents that the line which has just ended asked for.
    fn bodies(&mut self, unit: &mut Unit<'t>) -> Result<(), Opaque> {
        for pending in std::mem::take(&mut unit.pending) {
            let start = self.at;
            // What of the line before is joined to this one.
            let mut joined = String::new();
            loop {
                if self.rest().is_empty() {
                    return Err(Opaque::Syntax);
                }
                let line_start = self.at;
                let line = self.rest().split('\n').next().unwrap_or_default();
                self.at = (line_start + line.len() + 1).min(self.text.len());
                let bare = if pending.tabs { line.trim_start_matches('\t') } else { line };
                let continued = !joined.is_empty();
                joined.push_str(bare);
                // Here shells differ, or join what is not joined here.
                let early = unit.nested
                    && bare != pending.tag
                    && bare.starts_with(&pending.tag)
                    && bare.contains(')');
                if early || (continued && (joined == pending.tag || bare == pending.tag)) {
                    return Err(Opaque::Syntax);
                }
                if bare == pending.tag {
                    let doc = HereDoc { body: &self.text[start..line_start], expands: pending.expands };
                    unit.lexed.heredocs.insert(pending.start, doc);
                    break;
                }
                let is_continued = bare.len() - bare.trim_end_matches('\\').len();
                if pending.expands && is_continued % 2 == 1 {
                    joined.pop();
                    if joined.is_empty() {
                        return Err(Opaque::Syntax);
                    }
                } else {
                    joined.clear();
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<&str>, Opaque> {
        lex(text).map(|lexed| lexed.tokens.into_iter().map(|token| token.text).collect())
    }

    #[test]
    fn tokens_of_a_text() {
        let check = |text: &str, expect: &[&str]| assert_eq!(tokens(text).as_deref(), Ok(expect), "{text}");
        check("ls -l|wc&&a;b", &["ls", "-l", "|", "wc", "&&", "a", ";", "b"]);
        check("a 2>&1 >>x <<<y &>z", &["a", "2", ">&", "1", ">>", "x", "<<<", "y", "&>", "z"]);
        check("a'b c'd\"e $(f 'g)')h\" i", &["a'b c'd\"e $(f 'g)')h\"", "i"]);
        check("echo \"$(a \")\" b)\" c", &["echo", "\"$(a \")\" b)\"", "c"]);
        check("a # b ' c\nd", &["a", "\n", "d"]);
        check("{}>a", &["{}", ">", "a"]);
        check("a#b \\\n c\\\nd", &["a#b", "c\\\nd"]);
        check("echo $((1+(2)))x ${a:-b c} `d e`", &["echo", "$((1+(2)))x", "${a:-b c}", "`d e`"]);
        check("cat <<E | wc\nx 'y\nE\nls", &["cat", "<<", "E", "|", "wc", "\n", "ls"]);
        check("a \"$(cat <<'E'\nit's )\nE\n)\" b", &["a", "\"$(cat <<'E'\nit's )\nE\n)\"", "b"]);
        check("case x in a) b;; esac", &["case", "x", "in", "a", ")", "b", ";;", "esac"]);
    }

    #[test]
    fn what_is_not_understood_for_certain_is_refused() {
        let check = |text: &str, expect: Opaque| assert_eq!(tokens(text), Err(expect), "{text}");
        for text in [
            "'a",
            "\"a",
            "`a",
            "$(a",
            "${a",
            "a\\",
            "$'a",
            "cat <<E\nx",
            "cat <<E",
            "cat <<$(x)\n$(x)\n",
            "cat <<\"a b\"\na b\n",
            "cat <<E$x\n",
            "cat <<E \"$(a\nb)\"\nE\n",
            "a &\\\n& b",
            "$\\\n(a)",
            "$(case x in a) b;; esac)",
            "$((a) ; (b))",
            "((a # b\n))",
            "[[ a =~ #b\n",
            "((1)); cat <<E\nE\n",
            "${ a; }",
            "{a}>b c d",
            "{a[1]}<b c",
            "${| a; }",
            "\"${a:-'}'}\"",
            "$(cat <<E\nE) ; rm\nE\n)",
            "cat <<E\nE\\\n\nE\n",
            "cat <<E\nx\\\nE\nE\n",
        ] {
            check(text, Opaque::Syntax);
        }
        check("cat <<E$[\t\t\t", Opaque::Arithmetic);
        check("$[1]", Opaque::Arithmetic);
        check("$((a['b']))", Opaque::Arithmetic);
        check("a 12345678901>x", Opaque::Bounds);
        check(&"(".repeat(40), Opaque::Bounds);
        check(&"$(".repeat(40), Opaque::Bounds);
        check(&"${a:-".repeat(40), Opaque::Bounds);
        check(&"{ ".repeat(40), Opaque::Bounds);
        check(&"case x in x) ".repeat(13), Opaque::Bounds);
        check(&"( ".repeat(13), Opaque::Bounds);
        check(&format!("[[ {}a ]]", "! ".repeat(33)), Opaque::Bounds);
        check(&format!("[[ {}a ]]", "!\n".repeat(33)), Opaque::Bounds);
        check(&format!("[[ {}a ]]", "a && ".repeat(257)), Opaque::Bounds);
        check(&"coproc ".repeat(33), Opaque::Bounds);
        check(&"coproc a ".repeat(33), Opaque::Bounds);
        // What looks like an end of `case` is none.
        check(&"case x in x) ((( echo esac; ".repeat(4), Opaque::Bounds);
        check(&"( ( ( case x in x) a;; y) b;; z) ".repeat(4), Opaque::Bounds);
    }

    #[test]
    fn bodies_of_here_documents() {
        let check = |text: &str, body: &str, expands: bool| {
            let lexed = lex(text).expect("a good text");
            let found: Vec<_> = lexed.heredocs.into_values().collect();
            assert_eq!(found, [HereDoc { body, expands }], "{text}");
        };
        check("cat <<E\na\nb\nE\n", "a\nb\n", true);
        check("cat <<'E'\na\\\nE", "a\\\n", false);
        check("cat <<-\"E\"\n\ta\n\tE\n", "\ta\n", false);
        check("cat <<\\E\nE", "", false);
    }
}
