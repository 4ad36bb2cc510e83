//! The walk over what was parsed: each simple command where it stands, with what is put into its words, and in which directory.

use brush_parser::ast::{
    AndOr, AndOrList, Assignment, AssignmentName, AssignmentValue, CaseClauseCommand, Command,
    CommandPrefixOrSuffixItem, CompoundCommand, CompoundList, CoprocessCommand, ExtendedTestExpr,
    ForClauseCommand, FunctionDefinition, IfClauseCommand, Pipeline, SeparatorOperator, SimpleCommand,
    SubshellCommand, UnaryPredicate, UnexpandedArithmeticExpr,
};
use treeline_policy::tool::{Features, Opaque, Place};

use crate::{
    Context, arithmetic,
    arithmetic::{Names, is_number},
    command,
    dialect::Dialect,
    directories::Directories,
    lost::Lost,
    parse::{Tree, parse},
    variables,
    word::{self, Found, Word},
};

/// Texts within texts: substitutions, and commands for shells.
const TEXTS_MAX: usize = 16;
/// Commands that are looked at, each as often as it is come to.
const VISITS_MAX: usize = 4096;
/// Bytes of words and of files that they name, as many as there can be at most: a word names one in each directory that it is seen
/// from. The longest command in a directory of a hundred bytes takes half.
const KEPT_LEN_MAX: usize = 8 << 20;

/// Walks over a text. What is changed anywhere is not known anywhere, so it walks again when something was found to be: at most
/// once for each of them.
pub(crate) fn walk(text: &str, context: &Context) -> Features {
    let mut lost = Lost::default();
    loop {
        let mut walk = Walk::new(context, lost);
        walk.text(text);
        if walk.lost == lost {
            if walk.names.are_evaluated() {
                walk.opaque(Opaque::Arithmetic);
            }
            return walk.features;
        }
        lost = walk.lost;
    }
}

pub(crate) struct Walk {
    pub(crate) features: Features,
    names: Names,
    directories: Directories,
    home: Option<String>,
    lost: Lost,
    dialect: Dialect,
    /// How often a command changed the directory.
    moves: usize,
    depth: usize,
    visits: usize,
    kept_len: usize,
}

/// The directories after a command that succeeded, and after one that failed.
struct After {
    success: Directories,
    failure: Directories,
}

impl Walk {
    fn new(context: &Context, lost: Lost) -> Self {
        Self {
            features: Features::default(),
            names: Names::default(),
            directories: Directories::of(context.cwd.as_deref()),
            home: context.home.clone(),
            lost,
            dialect: Dialect::Bash,
            moves: 0,
            depth: 0,
            visits: 0,
            kept_len: 0,
        }
    }

    pub(crate) fn opaque(&mut self, why: Opaque) {
        self.features.opaque.push(why);
    }

    /// Counts a command; whether it is still to be looked at.
    pub(crate) fn visit(&mut self) -> bool {
        self.visits += 1;
        if self.visits > VISITS_MAX {
            self.opaque(Opaque::Bounds);
        }
        self.visits <= VISITS_MAX
    }

    /// Counts what words take that are kept, with the directories that they are seen from; whether that is within the bound.
    pub(crate) fn fits(&mut self, words: &[Word]) -> bool {
        let each = self.directories.len() + size_of::<Place>() + size_of::<String>();
        let len: usize = words.iter().map(|word| word.prefix.len() + each).sum();
        self.kept_len = self.kept_len.saturating_add(len);
        if self.kept_len > KEPT_LEN_MAX {
            self.opaque(Opaque::Bounds);
        }
        self.kept_len <= KEPT_LEN_MAX
    }

    pub(crate) fn directories(&self) -> Directories {
        if self.lost.directory { Directories::ANYWHERE } else { self.directories.clone() }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Runs what is run at any time, anywhere; what it changes is changed at any time, too.
    pub(crate) fn whenever(&mut self, run: impl FnOnce(&mut Self)) {
        let moves = self.moves;
        self.aside(|walk| {
            walk.directories = Directories::ANYWHERE;
            run(walk);
        });
        self.lost.directory |= self.moves != moves;
    }

    /// Goes to another directory, or, without one, anywhere.
    pub(crate) fn go(&mut self, path: Option<&str>) {
        self.moves += 1;
        self.directories = path.map_or(Directories::ANYWHERE, |path| self.directories.join(path));
    }

    /// Goes back to where it was.
    pub(crate) fn restore(&mut self, directories: Directories) {
        self.directories = directories;
    }

    pub(crate) fn home(&self) -> Option<&str> {
        self.home.as_deref().filter(|_| !self.lost.home && !self.lost.splitting)
    }

    /// Has another home, or none that is known; the former one.
    pub(crate) fn change_home(&mut self, home: Option<String>) -> Option<String> {
        std::mem::replace(&mut self.home, home)
    }

    /// Whether words are split at blanks.
    pub(crate) fn splits_as_usual(&self) -> bool {
        !self.lost.splitting
    }

    /// Notes that the value of a variable has to be a number.
    pub(crate) fn uses_number(&mut self, name: &str) {
        self.names.use_of(name);
    }

    pub(crate) fn assign_array(&mut self, name: &str) {
        self.names.array(name);
        self.assign(name, &Word::unknown());
    }

    /// Notes a value that would be read as a list, if the variable were an array.
    pub(crate) fn assign_list(&mut self, name: &str) {
        self.names.list(name);
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.lost.name(name);
    }

    pub(crate) fn assign(&mut self, name: &str, value: &Word) {
        self.lost.name(name);
        self.names.assign(name, value.text().is_some_and(is_number));
        if variables::changes(name, value.text()) {
            self.opaque(Opaque::Environment);
        }
    }

    /// What does not change the directory of what comes behind it.
    fn aside(&mut self, run: impl FnOnce(&mut Self)) {
        let before = self.directories.clone();
        run(self);
        self.directories = before;
    }

    /// Runs what may be run never, once, or again and again.
    fn again(&mut self, mut run: impl FnMut(&mut Self)) {
        let before = self.directories.clone();
        run(self);
        if self.directories != before {
            self.directories = Directories::ANYWHERE;
            run(self);
            self.directories = Directories::ANYWHERE;
        }
    }

    /// Commands in a text, run where we are.
    pub(crate) fn text(&mut self, text: &str) {
        if self.depth >= TEXTS_MAX {
            return self.opaque(Opaque::Bounds);
        }
        self.depth += 1;
        match parse(text, self.dialect) {
            Ok(tree) => {
                for list in &tree.program.complete_commands {
                    self.list(&tree, list);
                }
            }
            Err(why) => self.opaque(why),
        }
        self.depth -= 1;
    }

    /// Commands in a text for another shell.
    pub(crate) fn text_of(&mut self, dialect: Dialect, text: &str) {
        let before = std::mem::replace(&mut self.dialect, dialect);
        self.text(text);
        self.dialect = before;
    }

    /// Takes up what was found in a word.
    fn take(&mut self, found: Found) {
        self.features.opaque.extend(found.opaque);
        for name in ["HOME", "PWD", "IFS"].into_iter().filter(|name| found.names.is_assigned(name)) {
            self.lost.name(name);
        }
        self.names.extend(found.names);
        for command in found.commands {
            self.aside(|walk| walk.text(&command));
        }
    }

    pub(crate) fn with_found<T>(&mut self, read: impl FnOnce(word::Values<'_>, &mut Found) -> T) -> T {
        let mut found = Found::default();
        let lost = self.lost;
        let home = self.home().map(str::to_owned);
        let knows_pwd = !lost.pwd && !lost.splitting;
        let pwd = self.directories().only().map(str::to_owned).filter(|_| knows_pwd);
        let values = |name: &str| match name {
            "HOME" => home.clone(),
            "PWD" => pwd.clone(),
            // Blanks, and nothing else that a number or a path could have in it.
            "IFS" => (!lost.splitting).then(String::new),
            // What stands for a number that no text says.
            "$(nproc)" => (!lost.nproc).then(String::new),
            _ => None,
        };
        let result = read(&values, &mut found);
        self.take(found);
        result
    }

    /// A word as it is written.
    pub(crate) fn read(&mut self, text: &str) -> Word {
        self.with_found(|values, found| word::read(text, values, found))
    }

    pub(crate) fn arithmetic(&mut self, code: &str) {
        self.with_found(|values, found| arithmetic::read(code, values, found));
    }

    fn expression(&mut self, expression: Option<&UnexpandedArithmeticExpr>) {
        if let Some(expression) = expression {
            self.arithmetic(&expression.value);
        }
    }

    pub(crate) fn word(&mut self, tree: &Tree<'_>, word: &brush_parser::ast::Word) -> Word {
        match tree.word(word) {
            Ok(text) => self.read(text),
            Err(why) => {
                self.opaque(why);
                Word::unknown()
            }
        }
    }

    fn list(&mut self, tree: &Tree<'_>, list: &CompoundList) {
        for item in &list.0 {
            match item.1 {
                SeparatorOperator::Async => self.aside(|walk| walk.and_or(tree, &item.0)),
                SeparatorOperator::Sequence => self.and_or(tree, &item.0),
            }
        }
    }

    fn and_or(&mut self, tree: &Tree<'_>, list: &AndOrList) {
        let mut after = self.pipeline(tree, &list.first);
        for next in &list.additional {
            let (pipeline, before) = match next {
                AndOr::And(pipeline) => (pipeline, &after.success),
                AndOr::Or(pipeline) => (pipeline, &after.failure),
            };
            self.directories = before.clone();
            let then = self.pipeline(tree, pipeline);
            after = match next {
                AndOr::And(_) => After { success: then.success, failure: after.failure.or(&then.failure) },
                AndOr::Or(_) => After { success: after.success.or(&then.success), failure: then.failure },
            };
        }
        self.directories = after.success.or(&after.failure);
    }

    fn pipeline(&mut self, tree: &Tree<'_>, pipeline: &Pipeline) -> After {
        let before = self.directories.clone();
        match pipeline.seq.as_slice() {
            [Command::Simple(simple)] => {
                let moves = self.moves;
                self.simple(tree, simple);
                let success = self.directories.clone();
                // Only what was to change the directory and failed has not.
                let failure = if self.moves == moves { success.clone() } else { before };
                let after = After { success, failure };
                return if pipeline.bang {
                    After { success: after.failure, failure: after.success }
                } else {
                    after
                };
            }
            [command] => self.command(tree, command),
            commands => {
                for command in commands {
                    self.aside(|walk| walk.command(tree, command));
                }
            }
        }
        After { success: self.directories.clone(), failure: self.directories.clone() }
    }

    fn command(&mut self, tree: &Tree<'_>, command: &Command) {
        match command {
            Command::Simple(simple) => self.simple(tree, simple),
            Command::Compound(compound, redirects) => {
                self.redirects(tree, redirects.as_ref());
                self.compound(tree, compound);
            }
            Command::Function(function) => self.function(tree, function),
            Command::ExtendedTest(test, redirects) => {
                self.redirects(tree, redirects.as_ref());
                self.test(tree, &test.expr);
            }
        }
    }

    fn compound(&mut self, tree: &Tree<'_>, compound: &CompoundCommand) {
        match compound {
            CompoundCommand::Arithmetic(arithmetic) => self.expression(Some(&arithmetic.expr)),
            CompoundCommand::ArithmeticForClause(clause) => {
                for expression in [&clause.initializer, &clause.condition, &clause.updater] {
                    self.expression(expression.as_ref());
                }
                self.again(|walk| walk.list(tree, &clause.body.list));
            }
            CompoundCommand::BraceGroup(group) => self.list(tree, &group.list),
            CompoundCommand::Subshell(subshell) => self.subshell(tree, subshell),
            CompoundCommand::ForClause(clause) => self.for_clause(tree, clause),
            CompoundCommand::CaseClause(clause) => self.case(tree, clause),
            CompoundCommand::IfClause(clause) => self.if_clause(tree, clause),
            CompoundCommand::WhileClause(clause) | CompoundCommand::UntilClause(clause) => {
                self.again(|walk| {
                    walk.list(tree, &clause.0);
                    walk.list(tree, &clause.1.list);
                });
            }
            CompoundCommand::Coprocess(CoprocessCommand { body, .. }) => {
                self.aside(|walk| walk.command(tree, body));
            }
        }
    }

    pub(crate) fn subshell(&mut self, tree: &Tree<'_>, subshell: &SubshellCommand) {
        self.aside(|walk| walk.list(tree, &subshell.list));
    }

    fn for_clause(&mut self, tree: &Tree<'_>, clause: &ForClauseCommand) {
        let name = &clause.variable_name;
        for value in clause.values.iter().flatten() {
            let word = self.word(tree, value);
            let is_sequence = tree.word(value).is_ok_and(is_sequence);
            let word = if is_sequence { Word::of("0") } else { word };
            self.assign(name, &word);
        }
        if clause.values.is_none() {
            self.assign(name, &Word::unknown());
        }
        self.again(|walk| walk.list(tree, &clause.body.list));
    }

    fn case(&mut self, tree: &Tree<'_>, clause: &CaseClauseCommand) {
        self.word(tree, &clause.value);
        for pattern in clause.cases.iter().flat_map(|case| &case.patterns) {
            self.word(tree, pattern);
        }
        // One can go on with the next.
        self.again(|walk| {
            for list in clause.cases.iter().filter_map(|case| case.cmd.as_ref()) {
                walk.list(tree, list);
            }
        });
    }

    fn if_clause(&mut self, tree: &Tree<'_>, clause: &IfClauseCommand) {
        let elses = clause.elses.iter().flatten();
        let conditions = elses.clone().filter_map(|part| part.condition.as_ref());
        for list in [&clause.condition].into_iter().chain(conditions) {
            self.list(tree, list);
        }
        let before = self.directories.clone();
        let mut after = before.clone();
        for list in [&clause.then].into_iter().chain(elses.map(|part| &part.body)) {
            self.directories = before.clone();
            self.list(tree, list);
            after = after.or(&self.directories);
        }
        self.directories = after;
    }

    /// A function, which is run where it is called: anywhere.
    fn function(&mut self, tree: &Tree<'_>, function: &FunctionDefinition) {
        let name = self.word(tree, &function.fname);
        self.whenever(|walk| {
            walk.redirects(tree, function.body.1.as_ref());
            walk.compound(tree, &function.body.0);
        });
        let is = |names: &[&str]| name.text().is_none_or(|name| names.contains(&name));
        self.lost.directory |= is(&command::MOVING);
        self.lost.splitting |= is(&["read"]);
        self.lost.nproc |= is(&["nproc"]);
    }

    fn test(&mut self, tree: &Tree<'_>, test: &ExtendedTestExpr) {
        use brush_parser::ast::BinaryPredicate as Binary;
        match test {
            ExtendedTestExpr::And(left, right) | ExtendedTestExpr::Or(left, right) => {
                self.test(tree, left);
                self.test(tree, right);
            }
            ExtendedTestExpr::Not(inner) | ExtendedTestExpr::Parenthesized(inner) => self.test(tree, inner),
            ExtendedTestExpr::UnaryTest(predicate, word) => {
                let word = self.word(tree, word);
                // The index of an array in it is evaluated.
                let is_set = matches!(predicate, UnaryPredicate::ShellVariableIsSetAndAssigned);
                if is_set && word.text().is_none_or(|name| name.contains('[')) {
                    self.opaque(Opaque::Arithmetic);
                }
            }
            ExtendedTestExpr::BinaryTest(predicate, left, right) => {
                let is_arithmetic = matches!(
                    predicate,
                    Binary::ArithmeticEqualTo
                        | Binary::ArithmeticNotEqualTo
                        | Binary::ArithmeticLessThan
                        | Binary::ArithmeticLessThanOrEqualTo
                        | Binary::ArithmeticGreaterThan
                        | Binary::ArithmeticGreaterThanOrEqualTo
                );
                for side in [left, right] {
                    match tree.word(side).map(str::to_owned) {
                        Ok(text) if is_arithmetic => self.arithmetic(text.trim_matches('"')),
                        _ => _ = self.word(tree, side),
                    }
                }
            }
        }
    }

    fn simple(&mut self, tree: &Tree<'_>, simple: &SimpleCommand) {
        let prefix = simple.prefix.iter().flat_map(|prefix| &prefix.0);
        let splitting = self.lost.splitting;
        for item in prefix {
            match item {
                CommandPrefixOrSuffixItem::AssignmentWord(assignment, word) => {
                    self.assignment(tree, assignment, word);
                }
                item => _ = self.argument(tree, item),
            }
        }
        // `IFS= read -r line` splits what is read, and no word.
        if simple.word_or_name.as_ref().is_some_and(|name| name.value == "read") {
            self.lost.splitting = splitting;
        }
        let Some(name) = &simple.word_or_name else { return };
        let mut words = vec![self.word(tree, name)];
        for item in simple.suffix.iter().flat_map(|suffix| &suffix.0) {
            words.extend(self.argument(tree, item));
        }
        command::run(self, &words);
    }

    fn argument(&mut self, tree: &Tree<'_>, item: &CommandPrefixOrSuffixItem) -> Option<Word> {
        match item {
            CommandPrefixOrSuffixItem::IoRedirect(redirect) => {
                self.redirect(tree, redirect);
                None
            }
            CommandPrefixOrSuffixItem::Word(word) => Some(self.word(tree, word)),
            CommandPrefixOrSuffixItem::AssignmentWord(assignment, word) => match &assignment.value {
                AssignmentValue::Scalar(_) => Some(self.word(tree, word)),
                // `declare a=(...)`.
                AssignmentValue::Array(_) => {
                    self.assignment(tree, assignment, word);
                    None
                }
            },
            CommandPrefixOrSuffixItem::ProcessSubstitution(_, subshell) => {
                self.subshell(tree, subshell);
                Some(Word { is_many: false, ..Word::unknown() })
            }
        }
    }

    fn assignment(&mut self, tree: &Tree<'_>, assignment: &Assignment, word: &brush_parser::ast::Word) {
        let name = match &assignment.name {
            AssignmentName::VariableName(name) => name,
            AssignmentName::ArrayElementName(name, index) => {
                if !is_number(index) {
                    self.opaque(Opaque::Arithmetic);
                }
                name
            }
        };
        if let AssignmentValue::Array(_) = assignment.value {
            let span = &assignment.loc;
            for text in tree.words(span.start.index, span.end.index) {
                if text.starts_with('[') {
                    self.opaque(Opaque::Arithmetic);
                }
                self.read(text);
            }
            return self.assign_array(name);
        }
        match tree.word(word).map(|text| text.split_once('=').map(|(_, value)| value.to_owned())) {
            Ok(Some(value)) => {
                let read = self.read(&value);
                // The result of arithmetic is a number.
                let is_sum =
                    value.starts_with("$((") && value.ends_with("))") && value.matches("$(").count() == 1;
                let is_number = is_sum || matches!(value.as_str(), "$#" | "$?" | "$$" | "$!");
                let read = if is_number { Word::of("0") } else { read };
                self.assign(name, &read);
            }
            Ok(None) => self.opaque(Opaque::Syntax),
            Err(why) => self.opaque(why),
        }
    }
}

/// Whether a word is `{1..9}`.
fn is_sequence(text: &str) -> bool {
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| inner.contains("..") && inner.split("..").all(is_number))
}
