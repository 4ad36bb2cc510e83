//! Lengths of time as policies and people write them.

use std::{fmt, str::FromStr};

/// The units, the longest first, with their seconds.
const UNITS: [(char, u32); 3] = [('h', 60 * 60), ('m', 60), ('s', 1)];
/// Digits of a number.
const DIGITS_MAX: usize = 5;

/// Some seconds: at least one, and at most [`Period::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(u32);

/// A text is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a length of time from `1s` to `24h`: write a whole number and `s`, `m` or `h`, such as `15m`")]
pub struct NoPeriod;

impl Period {
    /// A day: what is to hold for longer is a change of the policy.
    pub const MAX: Self = Self(24 * 60 * 60);

    /// So many seconds, if a period can have them.
    #[must_use]
    pub fn of_seconds(seconds: u32) -> Option<Self> {
        (1..=Self::MAX.0).contains(&seconds).then_some(Self(seconds))
    }

    /// Its seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl FromStr for Period {
    type Err = NoPeriod;

    /// Reads a whole number and its unit: `90s`, `15m`, `8h`.
    fn from_str(text: &str) -> Result<Self, NoPeriod> {
        let unit = text.chars().next_back().ok_or(NoPeriod)?;
        let (_, seconds) = UNITS.into_iter().find(|(known, _)| *known == unit).ok_or(NoPeriod)?;
        let digits = &text[..text.len() - unit.len_utf8()];
        let is_number = (1..=DIGITS_MAX).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        let number: u32 = digits.parse().ok().filter(|_| is_number).ok_or(NoPeriod)?;
        number.checked_mul(seconds).and_then(Self::of_seconds).ok_or(NoPeriod)
    }
}

impl fmt::Display for Period {
    /// In the longest unit that it is a whole number of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, seconds): &(char, u32)| self.0.is_multiple_of(*seconds);
        let (unit, seconds) = UNITS.into_iter().find(fits).unwrap_or(('s', 1));
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_one_and_what_is_none() {
        for (text, seconds, shown) in [
            ("1s", 1, "1s"),
            ("90s", 90, "90s"),
            ("60s", 60, "1m"),
            ("15m", 900, "15m"),
            ("120m", 7200, "2h"),
            ("24h", 86_400, "24h"),
            ("86400s", 86_400, "24h"),
        ] {
            let period: Period = text.parse().expect("a period");
            assert_eq!((period.seconds(), period.to_string().as_str()), (seconds, shown));
        }
        for wrong in [
            "", "s", "0s", "01m", "15", "15 m", "+5m", "-5m", "25h", "86401s", "1d", "1.5h", "999999s",
            "１m", "5µ",
        ] {
            assert_eq!(wrong.parse::<Period>(), Err(NoPeriod), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(seconds in 1..=86_400_u32) {
            let period = Period::of_seconds(seconds).expect("below the bound");
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,8}") {
            if let Ok(period) = text.parse::<Period>() {
                prop_assert!(Period::of_seconds(period.seconds()).is_some());
            }
        }
    }
}
