//! Wall-clock times as people read and write them, always in UTC.

/// Milliseconds in a day.
const DAY_MS: u64 = 86_400_000;

/// Such as `2026-11-23T05:00:00.250Z`, from milliseconds since the epoch.
#[must_use]
pub fn utc(ms: u64) -> String {
    let (year, month, day) = civil(ms / DAY_MS);
    let rest = ms % DAY_MS;
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1000)
}

/// Reads a point in time: RFC 3339 in UTC, a time before `now_ms` (`15m`), or milliseconds since the epoch.
///
/// # Errors
/// Names the three forms.
pub fn parse(text: &str, now_ms: u64) -> Result<u64, String> {
    let ms = if text.contains('T') { rfc3339(text) } else { ago(text, now_ms).or_else(|| digits(text)) };
    ms.ok_or_else(|| {
        format!(
            "`{}` is not a time; write UTC as `2026-11-23T05:00:00Z`, a time ago as `30s`, `15m`, `2h` or `3d`, \
             or milliseconds since the epoch",
            text.escape_debug()
        )
    })
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn ago(text: &str, now_ms: u64) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let unit_ms = match unit {
        's' => 1000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => DAY_MS,
        _ => return None,
    };
    Some(now_ms.saturating_sub(digits(text.strip_suffix(unit)?)?.checked_mul(unit_ms)?))
}

fn rfc3339(text: &str) -> Option<u64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = fields(clock, ':', [2, 2, 2])?;
    // Nine digits are what any clock prints; what is below a millisecond is cut off.
    let fraction_fits = (1..=9).contains(&fraction.len());
    let millis = digits(fraction_fits.then(|| format!("{fraction:0<3}"))?.get(..3)?)?;
    // A leap second counts as the first moment after it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    digits(fraction)?;
    let days = days(year, month, day)?;
    Some(days * DAY_MS + hour * 3_600_000 + minute * 60_000 + second * 1000 + millis)
}

fn fields(text: &str, separator: char, widths: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut values = [0; 3];
    for (value, width) in values.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        *value = digits(part)?;
    }
    parts.next().is_none().then_some(values)
}

/// Days since the epoch; none for a day that the calendar does not have or that is before the epoch.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is the last.
    let shifted = if month > 2 { year } else { year - 1 };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        (shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + of_year).checked_sub(719_468)?;
    (civil(days) == (year, month, day)).then_some(days)
}

/// Year, month and day of a number of days since the epoch.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_forms_are_read() {
        let now_ms = 1_000_000_000_000;
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600_500)),
            ("2026-11-23T05:00:00Z", Some(1_795_410_000_000)),
            ("15m", Some(now_ms - 900_000)),
            ("2h", Some(now_ms - 7_200_000)),
            ("3d", Some(now_ms - 3 * DAY_MS)),
            ("999999d", Some(0)),
            ("12", Some(12)),
            ("2001-02-29T00:00:00Z", None),
            ("2026-11-23T05:00:00", None),
            ("2026-11-23T05:00:00+01:00", None),
            ("2026-11-23T24:00:00Z", None),
            ("2026-11-23T05:00:00.Z", None),
            ("2026-1-23T05:00:00Z", None),
            ("", None),
            ("m", None),
            ("-5m", None),
            ("+5", None),
            ("5w", None),
            ("99999999999999999999d", None),
        ];
        for (text, expect) in cases {
            assert_eq!(parse(text, now_ms).ok(), expect, "{text}");
        }
        let error = parse("tomorrow\u{1b}", now_ms).expect_err("no time");
        assert!(error.contains("15m") && error.contains("2026-") && !error.contains('\u{1b}'), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ms in 0u64..253_402_300_800_000) {
            prop_assert_eq!(parse(&utc(ms), 0), Ok(ms));
        }

        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = parse(&text, 5);
        }
    }
}
