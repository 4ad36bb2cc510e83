//! A diff in words.

use std::fmt;

use crate::explain::word;

use super::{ApprovalChange, Change, Decided, Diff, Effect, KeyChange, RuleChange, Subjects};

/// Changes that are alike, of which so many are shown.
const ALIKE_MAX: usize = 8;
/// Programs of one change that are shown by name.
const NAMES_MAX: usize = 4;

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing differs");
        }
        keys(f, &self.about, "")?;
        for change in &self.rules {
            write!(f, "{change}")?;
        }
        let mut rest = self.decisions.as_slice();
        let is_headed = !self.about.is_empty() || !self.rules.is_empty();
        if is_headed && (!rest.is_empty() || !self.approvals.is_empty()) {
            writeln!(f)?;
        }
        self.approvals.iter().try_for_each(|change| write!(f, "{change}"))?;
        while let Some(first) = rest.first() {
            let alike = rest.iter().take_while(|change| change.is_like(first)).count();
            let (group, behind) = rest.split_at(alike);
            group.iter().take(ALIKE_MAX).try_for_each(|change| write!(f, "{change}"))?;
            if let Some(more) = alike.checked_sub(ALIKE_MAX).filter(|more| *more > 0) {
                writeln!(f, "{:<10}  and the same of {more} others (`--json` has them)", "")?;
            }
            rest = behind;
        }
        let but_calls = if self.is_partial { "; about calls and machines nothing was asked" } else { "" };
        if self.decisions.is_empty() && self.approvals.is_empty() {
            writeln!(f, "\nno decision differs, by all that the two name{but_calls}")?;
        } else {
            let [loosens, tightens, others] =
                [Effect::Loosens, Effect::Tightens, Effect::OtherRule].map(|effect| self.count(effect));
            writeln!(f, "\n{loosens} loosen, {tightens} tighten, {others} by another rule{but_calls}")?;
        }
        for rule in &self.unexplained {
            writeln!(
                f,
                "no decision was found that `{rule}` changes: another rule covers it, or it is about calls or the machine; look at it yourself"
            )?;
        }
        Ok(())
    }
}

impl Change {
    /// Whether it says the same of another object.
    fn is_like(&self, other: &Self) -> bool {
        let of = |change: &Self| (change.effect, change.operations.clone(), change.subjects.clone());
        of(self) == of(other)
            && (self.in_part, &self.before, &self.after) == (other.in_part, &other.before, &other.after)
    }
}

fn keys(f: &mut fmt::Formatter<'_>, changes: &[KeyChange], indent: &str) -> fmt::Result {
    for KeyChange { key, removed, added } in changes {
        let lines = removed.iter().map(|text| ('-', text)).chain(added.iter().map(|text| ('+', text)));
        for (sign, text) in lines {
            writeln!(f, "{indent}{sign} {key}: {}", text.replace('\n', " "))?;
        }
    }
    Ok(())
}

impl fmt::Display for RuleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.is_added, self.is_removed) {
            (true, _) => "added",
            (_, true) => "removed",
            _ => "changed",
        };
        writeln!(f, "rule `{}` is {what}", self.rule)?;
        keys(f, &self.keys, "  ")
    }
}

impl Effect {
    fn word(self) -> &'static str {
        match self {
            Self::Loosens => "loosens",
            Self::Tightens => "tightens",
            Self::OtherRule => "other rule",
        }
    }
}

impl fmt::Display for ApprovalChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |period: &Option<String>| {
            period.as_ref().map_or_else(|| "not at all".to_owned(), |period| format!("for {period}"))
        };
        let Self { effect, rule, by, before, after } = self;
        let (effect, before, after) = (effect.word(), time(before), time(after));
        writeln!(f, "{effect:<10}  what `{rule}` refuses can be approved by {by}: {before} -> {after}")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = self.effect.word();
        let Self { operations, object, subjects, before, after, example, .. } = self;
        let operations = operations.join(", ");
        let part = if self.in_part { ", in part" } else { "" };
        writeln!(f, "{effect:<10}  {operations} {object}{part}: {before} -> {after}, {subjects}")?;
        write!(f, "{:<10}  such as {example}", "")?;
        if let Some(sha256) = &self.example_sha256 {
            write!(f, " with SHA-256 {sha256}")?;
        }
        writeln!(f, "{}", if self.in_other_home { " of somebody else" } else { "" })
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(self.verdict))?;
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
