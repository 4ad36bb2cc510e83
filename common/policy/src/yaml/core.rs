//! What a scalar without quotes is by the core schema of YAML 1.2, as editors and other readers take it.

/// The type of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `null`.
    Nothing,
    Boolean(bool),
    Number,
    Text,
}

impl Type {
    /// Of a scalar without quotes.
    pub(crate) fn of_plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Nothing,
            "true" | "True" | "TRUE" => Self::Boolean(true),
            "false" | "False" | "FALSE" => Self::Boolean(false),
            number if is_number(number) => Self::Number,
            _ => Self::Text,
        }
    }
}

fn is_number(text: &str) -> bool {
    let all = |digits: &str, is_digit: fn(&u8) -> bool| {
        !digits.is_empty() && digits.as_bytes().iter().all(is_digit)
    };
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |byte| (b'0'..=b'7').contains(byte));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, u8::is_ascii_hexdigit);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = unsigned
        .split_once(['e', 'E'])
        .map_or((unsigned, None), |(mantissa, exponent)| (mantissa, Some(exponent)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |digits: &str| digits.is_empty() || all(digits, u8::is_ascii_digit);
    let has_digit = !whole.is_empty() || !fraction.is_empty();
    let exponent = exponent.map(|exponent| exponent.strip_prefix(['-', '+']).unwrap_or(exponent));
    has_digit
        && is_digits(whole)
        && is_digits(fraction)
        && exponent.is_none_or(|exponent| all(exponent, u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let check = |texts: &[&str], expect: Type| {
            for text in texts {
                assert_eq!(Type::of_plain(text), expect, "{text}");
            }
        };
        check(&["", "~", "null", "NULL"], Type::Nothing);
        check(&["true", "TRUE"], Type::Boolean(true));
        check(&["False"], Type::Boolean(false));
        check(&["0", "-17", "+1", "007", "0o17", "0x1F", "1.5", "1.", ".5", "-.5e+3", "1e5"], Type::Number);
        check(&[".inf", "-.INF", ".nan"], Type::Number);
        check(&["nan", "inf", "-.nan", "0o8", "0x", "1_000", "1e", "e5", ".", "+", "-", "1.2.3"], Type::Text);
        check(&["yes", "on", "tRUE", "nULL", "10.0.0.1", "12:30"], Type::Text);
    }
}
