//! Wall-clock times as people read and write them, always in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last millisecond that RFC 3339 can write, 9999-12-31T23:59:59.999Z.
const LAST_MS: u64 = 253_402_300_799_999;

/// Such as `2026-11-23T05:00:00.250Z`, from milliseconds since the epoch. What is beyond the year 9999, as only a
/// forged entry can be, is shown as its end.
#[must_use]
pub fn utc(ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(ms.min(LAST_MS));
    humantime::format_rfc3339_millis(time).to_string()
}

/// The wall clock, milliseconds since the epoch.
#[must_use]
pub fn now_ms() -> u64 {
    since_epoch_ms(SystemTime::now())
}

/// Reads a point in time: RFC 3339 in UTC, a time before `now_ms` (`15m`, `1h 30m`), or milliseconds since the epoch,
/// as entries have them.
///
/// # Errors
/// Names the three forms.
pub fn parse(text: &str, now_ms: u64) -> Result<u64, String> {
    if let Ok(time) = humantime::parse_rfc3339(text) {
        return Ok(since_epoch_ms(time));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("`{text}` is more milliseconds than a time can have"));
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
    }
    Err(format!(
        "`{}` is not a time; write UTC as `2026-11-23T05:00:00Z`, a time ago as `30s`, `15m`, `2h` or `3d`, or \
         milliseconds since the epoch",
        text.escape_debug()
    ))
}

fn since_epoch_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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
            ("1h 30m", Some(now_ms - 5_400_000)),
            ("3d", Some(now_ms - 3 * 86_400_000)),
            ("999999d", Some(0)),
            ("12", Some(12)),
            ("2001-02-29T00:00:00Z", None),
            ("2026-11-23T05:00:00", None),
            ("2026-11-23T05:00:00+01:00", None),
            ("2026-11-23T24:00:00Z", None),
            ("2026-1-23T05:00:00Z", None),
            ("", None),
            ("m", None),
            ("-5m", None),
            ("+5", None),
            ("5 fortnights", None),
            ("99999999999999999999d", None),
            ("99999999999999999999", None),
        ];
        for (text, expect) in cases {
            assert_eq!(parse(text, now_ms).ok(), expect, "{text}");
        }
        let error = parse("tomorrow\u{1b}", now_ms).expect_err("no time");
        assert!(error.contains("15m") && error.contains("2026-") && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn no_entry_can_have_a_time_that_is_not_shown() {
        for ms in [LAST_MS, LAST_MS + 1, u64::MAX] {
            assert_eq!(utc(ms), "9999-12-31T23:59:59.999Z");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ms in 0..=LAST_MS) {
            prop_assert_eq!(parse(&utc(ms), 0), Ok(ms));
        }

        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = parse(&text, 5);
        }
    }
}
