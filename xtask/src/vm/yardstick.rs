//! Budgets are times on real hardware, and what is counted here are instructions: a budget is held against them at 3 GHz.

const CYCLES_PER_NS: f64 = 3.0;
/// What a processor does of code that is in its caches, and seldom more.
const PER_CYCLE_MAX: f64 = 3.0;

/// Whether so many instructions can be within a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// At one instruction a cycle already.
    Met,
    /// It takes so many a cycle.
    At(f64),
    Missed,
}

impl Verdict {
    pub(super) fn of(instructions: f64, budget_ns: f64) -> Self {
        let per_cycle = instructions / (budget_ns * CYCLES_PER_NS);
        match per_cycle {
            _ if per_cycle <= 1.0 => Self::Met,
            _ if per_cycle <= PER_CYCLE_MAX => Self::At(per_cycle),
            _ => Self::Missed,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Met => f.write_str(met(true)),
            Self::At(per_cycle) => write!(f, "at {per_cycle:.1} a cycle"),
            Self::Missed => f.write_str(met(false)),
        }
    }
}

/// The word of a table.
pub(super) fn met(is_met: bool) -> &'static str {
    if is_met { "yes" } else { "**no**" }
}

/// A whole number, its digits in groups of three.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    if number < -0.5 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_in_groups_of_three() {
        for (number, expect) in
            [(0.4, "0"), (-0.4, "0"), (999.6, "1 000"), (-12_345.0, "-12 345"), (1e6, "1 000 000")]
        {
            assert_eq!(grouped(number), expect);
        }
    }

    #[test]
    fn a_budget_is_met_at_one_a_cycle_and_missed_beyond_three() {
        for (instructions, expect) in [(90.0, "yes"), (189.0, "at 2.1 a cycle"), (271.0, "**no**")] {
            assert_eq!(Verdict::of(instructions, 30.0).to_string(), expect);
        }
    }
}
