//! A diff in words.

use std::fmt;

use treeline_event::Verdict;

use super::{Change, Decided, Diff, Effect, RuleChange, Subjects};

/// Programs of one change that are shown by name.
const NAMES_MAX: usize = 4;

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing differs");
        }
        for change in &self.rules {
            write!(f, "{change}")?;
        }
        if !self.rules.is_empty() && !self.decisions.is_empty() {
            writeln!(f)?;
        }
        for change in &self.decisions {
            write!(f, "{change}")?;
        }
        if self.decisions.is_empty() {
            writeln!(f, "\nno decision differs, by all that the two name")?;
        } else {
            let [loosens, tightens, others] =
                [Effect::Loosens, Effect::Tightens, Effect::OtherRule].map(|effect| self.count(effect));
            writeln!(f, "\n{loosens} loosen, {tightens} tighten, {others} by another rule")?;
        }
        if self.is_partial {
            writeln!(f, "programs that are named in other rules than the object were not asked about")?;
        }
        Ok(())
    }
}

impl fmt::Display for RuleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.is_added, self.is_removed) {
            (true, _) => "added",
            (_, true) => "removed",
            _ => "changed",
        };
        writeln!(f, "rule `{}` is {what}", self.rule)?;
        for key in &self.keys {
            let lines =
                key.removed.iter().map(|text| ('-', text)).chain(key.added.iter().map(|text| ('+', text)));
            for (sign, text) in lines {
                writeln!(f, "  {sign} {}: {}", key.key, text.replace('\n', " "))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Loosens => "loosens",
            Effect::Tightens => "tightens",
            Effect::OtherRule => "other rule",
        };
        let Self { operations, object, subjects, before, after, example, .. } = self;
        writeln!(f, "{effect:<10}  {} {object}: {before} -> {after}, {subjects}", operations.join(", "))?;
        writeln!(f, "{:<10}  such as {example}", "")
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.verdict {
            Verdict::Allow => "allow",
            Verdict::Audit => "audit",
            Verdict::Deny => "deny",
        })?;
        self.rule.as_ref().map_or(Ok(()), |rule| write!(f, " by `{rule}`"))
    }
}

impl fmt::Display for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match self {
            Self::EverybodyBut(names) if names.is_empty() => return f.write_str("for everybody"),
            Self::EverybodyBut(names) => {
                f.write_str("for everybody but ")?;
                names
            }
            Self::Only(names) => {
                f.write_str("for ")?;
                names
            }
        };
        let shown: Vec<String> = names.iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
        f.write_str(&shown.join(", "))?;
        match names.len().saturating_sub(NAMES_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
