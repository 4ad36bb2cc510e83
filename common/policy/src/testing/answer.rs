//! What a policy says of a request, in the words of test files.

use std::fmt;

use treeline_event::Verdict;

use crate::{policy::Policy, request::Decision};

/// What a policy says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// No rule holds.
    Allow,
    /// A rule in `enforce` decides.
    Deny(String),
    /// A rule in `monitor` decides.
    Record(String),
    /// A rule that adopts decides.
    Adopt(String),
}

impl Answer {
    /// A decision of a policy.
    #[must_use]
    pub fn of(decision: Decision, policy: &Policy) -> Self {
        let rule = decision.rule.and_then(|index| policy.rules.get(index));
        match (decision.verdict, rule) {
            (Verdict::Allow, _) => Self::Allow,
            (Verdict::Audit, Some(rule)) if rule.adopts.is_some() => Self::Adopt(rule.id.clone()),
            (verdict, rule) => {
                let id = rule.map(|rule| rule.id.clone()).unwrap_or_default();
                if verdict == Verdict::Deny { Self::Deny(id) } else { Self::Record(id) }
            }
        }
    }

    /// The word for it, without the rule.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny(_) => "deny",
            Self::Record(_) => "record",
            Self::Adopt(_) => "adopt",
        }
    }

    /// The rule that decides.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::Allow => None,
            Self::Deny(rule) | Self::Record(rule) | Self::Adopt(rule) => Some(rule),
        }
    }
}

/// As it is written in a test file: `allow`, `deny RULE`, `record RULE`, `adopt RULE`.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        self.rule().map_or(Ok(()), |rule| write!(f, " {rule}"))
    }
}
