//! Moments as policies write them.

use std::{fmt, str::FromStr};

const DAY_S: u64 = 24 * 60 * 60;
/// Days of 400 years of the calendar.
const ERA_DAYS: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// A text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a date nor a moment of UTC, from 1970 to 9999")]
pub struct NoMoment;

impl FromStr for Moment {
    type Err = NoMoment;

    /// Reads a date, which is its first second in UTC, or a date and a time of day in UTC with a `Z`.
    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, time.strip_suffix('Z').ok_or(NoMoment)?),
            None => (text, "00:00:00"),
        };
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
        let there = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        let moment = Self(days_since_epoch(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second);
        there.then_some(moment).ok_or(NoMoment)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / DAY_S);
        let second = self.0 % DAY_S;
        write!(f, "{year:04}-{month:02}-{day:02}")?;
        if second == 0 {
            return Ok(());
        }
        write!(f, "T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

/// Three numbers of so many digits each.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Result<[u64; 3], NoMoment> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().ok_or(NoMoment)?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NoMoment);
        }
        *number = part.parse().map_err(|_| NoMoment)?;
    }
    if parts.next().is_some() { Err(NoMoment) } else { Ok(numbers) }
}

fn days(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counted in years that begin in March, so that the day that comes and goes is the last one.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.saturating_sub(1), month + 9) };
    let in_year = (153 * month + 2) / 5 + day.saturating_sub(1);
    let in_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + in_year;
    (year / 400 * ERA_DAYS + in_era).saturating_sub(EPOCH_DAYS)
}

/// Year, month and day of a day since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(EPOCH_DAYS);
    let in_era = days % ERA_DAYS;
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (days / ERA_DAYS * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(text.parse::<Moment>().ok().map(|moment| moment.0), expect, "{text}");
        };
        check("1970-01-01", Some(0));
        check("1970-01-01T00:00:01Z", Some(1));
        check("2000-02-29", Some(951_782_400));
        check("2027-03-01", Some(1_803_859_200));
        check("2027-03-01T12:30:05Z", Some(1_803_904_205));
        check("9999-12-31T23:59:59Z", Some(253_402_300_799));
        for bad in [
            "",
            "2027",
            "2027-3-1",
            "2027-02-29",
            "2100-02-29",
            "2027-13-01",
            "2027-00-01",
            "2027-01-00",
            "2027-04-31",
            "1969-12-31",
            "10000-01-01",
            "0000-00-00",
            "2027-03-01T24:00:00Z",
            "2027-03-01T12:60:00Z",
            "2027-03-01T12:00:60Z",
            "2027-03-01T12:00:00",
            "2027-03-01T12:00:00+01:00",
            "2027-03-01 12:00:00Z",
            "2027-03-01Z",
            "+027-03-01",
            "2027-03-01-",
            "٢٠٢٧-03-01",
        ] {
            check(bad, None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(second in 0..=253_402_300_799_u64, midnight in any::<bool>()) {
            let moment = Moment(if midnight { second - second % DAY_S } else { second });
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
        }

        #[test]
        fn any_moment_is_written(second in any::<u64>()) {
            prop_assert!(!Moment(second).to_string().is_empty());
        }

        #[test]
        fn any_text_is_answered(text in "[-0-9TZ:]{0,24}|\\PC*") {
            let _ = text.parse::<Moment>();
        }
    }
}
