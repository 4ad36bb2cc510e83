//! One session, named by the beginning of its id.

use std::{collections::BTreeSet, fmt, str::FromStr};

use thiserror::Error;
use treeline_event::SessionId;

/// Hexadecimal digits of a session's id.
const DIGITS: usize = 16;

/// Sessions that are named when a prefix stands for several: enough to see what to type next.
const NAMED_MAX: usize = 4;

/// The first digits of a session's id, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPrefix {
    value: u64,
    digits: usize,
}

impl SessionPrefix {
    /// Whether the id begins so.
    #[must_use]
    pub fn matches(self, id: SessionId) -> bool {
        id.0 >> (4 * (DIGITS - self.digits)) == self.value
    }
}

impl FromStr for SessionPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = text.len() <= DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = valid.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        value.map(|value| Self { value, digits: text.len() }).ok_or_else(|| {
            let text = text.escape_debug();
            format!("`{text}` is not a session id (16 hexadecimal digits) or the beginning of one")
        })
    }
}

impl fmt::Display for SessionPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0digits$x}", self.value, digits = self.digits)
    }
}

/// Why a prefix does not name one session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PickError {
    /// No session begins so.
    #[error("there is no session `{0}` of yours; `treeline session ls` lists them")]
    Unknown(SessionPrefix),
    /// Several do.
    #[error("`{prefix}` is the beginning of {named}; write more of it")]
    Ambiguous {
        /// What was asked for.
        prefix: SessionPrefix,
        /// Some of those that begin so.
        named: String,
    },
}

impl SessionPrefix {
    /// The one session among these that begins so.
    ///
    /// # Errors
    /// [`PickError`].
    pub fn pick(self, ids: impl IntoIterator<Item = SessionId>) -> Result<SessionId, PickError> {
        let found: BTreeSet<SessionId> = ids.into_iter().filter(|id| self.matches(*id)).collect();
        let mut named = found.iter();
        match (named.next(), named.next()) {
            (None, _) => Err(PickError::Unknown(self)),
            (Some(one), None) => Ok(*one),
            _ => {
                let mut named: Vec<_> = found.iter().take(NAMED_MAX).map(|id| format!("`{id}`")).collect();
                if found.len() > NAMED_MAX {
                    named.push(format!("{} more", found.len() - NAMED_MAX));
                }
                Err(PickError::Ambiguous { prefix: self, named: named.join(", ") })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_unique_beginning_is_enough() {
        let ids = [0x10aa_0000_0000_0001, 0x10ab_0000_0000_0002, 0x0300_0000_0000_0000].map(SessionId);
        let pick = |text: &str| text.parse::<SessionPrefix>().expect("digits").pick(ids);
        assert_eq!(pick("10aa0000000000"), Ok(ids[0]));
        assert_eq!(pick("10AB"), Ok(ids[1]));
        assert_eq!(pick("0"), Ok(ids[2]));
        assert_eq!(pick("0300000000000000"), Ok(ids[2]));
        let error = pick("10a").expect_err("two").to_string();
        assert!(error.contains("`10aa000000000001`, `10ab000000000002`"), "{error}");
        assert!(pick("f").expect_err("none").to_string().contains("session ls"));
        let many = (1..9).map(SessionId);
        let error = "0".parse::<SessionPrefix>().expect("a digit").pick(many).expect_err("many").to_string();
        assert!(error.contains("4 more"), "{error}");
    }

    #[test]
    fn what_is_no_prefix() {
        for wrong in ["", "g", "+1", "-1", "10aa0000000000011", "0x1"] {
            assert!(wrong.parse::<SessionPrefix>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_beginning_of_an_id_matches_it(id in 1u64.., digits in 1..=DIGITS) {
            let text = SessionId(id).to_string();
            let prefix: SessionPrefix = text[..digits].parse().expect("digits");
            prop_assert!(prefix.matches(SessionId(id)));
            prop_assert_eq!(prefix.to_string(), &text[..digits]);
        }
    }
}
