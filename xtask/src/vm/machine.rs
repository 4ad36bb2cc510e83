//! What a guest is booted as: a kernel, an attach mode, and who is PID 1.

use anyhow::{Result, ensure};
use treeline_vm_tests::DISTRIBUTION_GROUPS;

use super::catalogue::{Catalogue, Pin};
use super::mode::Mode;

/// Who is PID 1 in a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Kind {
    /// A program of ours, and nothing else runs.
    Bare,
    /// systemd, in a whole Debian.
    Distribution,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Bare, Self::Distribution];

    /// What follows the name of a guest.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Bare => "",
            Self::Distribution => "-distribution",
        }
    }

    /// Those of the groups `only` that run in a guest of this kind.
    pub(super) fn groups(self, only: &[String]) -> Vec<String> {
        let is_ours =
            |name: &&String| DISTRIBUTION_GROUPS.contains(&name.as_str()) == (self == Self::Distribution);
        only.iter().filter(is_ours).cloned().collect()
    }
}

/// What to boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Machine<'a> {
    pub(super) pin: &'a Pin,
    pub(super) mode: Mode,
    pub(super) kind: Kind,
    /// Whether it runs more than what decides; mode `lsm` runs everything.
    pub(super) is_thorough: bool,
}

/// What was asked for; nothing in a list is everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) kernels: &'a [String],
    pub(super) modes: &'a [Mode],
    pub(super) kinds: &'a [Kind],
    pub(super) only: &'a [String],
}

/// Every guest that was asked for. Those of a distribution have to be, by kind or by group: they take long.
pub(super) fn machines<'a>(catalogue: &'a Catalogue, asked: Asked<'_>) -> Result<Vec<Machine<'a>>> {
    let modes = if asked.modes.is_empty() { &Mode::ALL } else { asked.modes };
    let mut machines = Vec::new();
    for kind in Kind::ALL {
        let is_usual = kind == Kind::Bare || !asked.only.is_empty();
        let is_asked = asked.kinds.contains(&kind) || asked.kinds.is_empty() && is_usual;
        if !is_asked || !asked.only.is_empty() && kind.groups(asked.only).is_empty() {
            continue;
        }
        let pins = match kind {
            Kind::Bare => catalogue.choose(asked.kernels)?,
            Kind::Distribution => catalogue.choose_for_distribution(asked.kernels)?,
        };
        for pin in pins {
            let is_thorough = kind == Kind::Bare && catalogue.is_thorough(pin);
            machines.extend(modes.iter().map(|mode| Machine { pin, mode: *mode, kind, is_thorough }));
        }
    }
    // The longest first, so that no processor waits for one of them at the end.
    machines.sort_by_key(|machine| machine.mode != Mode::Lsm);
    ensure!(!machines.is_empty(), "no guest of the kind that was asked for has any of these groups");
    Ok(machines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../vm-tests/kernels.toml");

    fn check(kernels: &[&str], kinds: &[Kind], only: &[&str], expect: &[&str]) {
        check_modes(&[Mode::Lsm], kernels, kinds, only, expect);
    }

    fn check_modes(modes: &[Mode], kernels: &[&str], kinds: &[Kind], only: &[&str], expect: &[&str]) {
        let catalogue = Catalogue::parse(SHIPPED).expect("the shipped catalogue parses");
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let (kernels, only) = (owned(kernels), owned(only));
        let asked = Asked { kernels: &kernels, modes, kinds, only: &only };
        let name = |machine: &Machine<'_>| {
            let mode = if machine.mode == Mode::Lsm { "" } else { machine.mode.word() };
            format!("{}{mode}{}", machine.pin.series, machine.kind.suffix())
        };
        let names: Vec<String> =
            machines(&catalogue, asked).into_iter().flatten().map(|one| name(&one)).collect();
        assert_eq!(names, expect);
    }

    #[test]
    fn guests_are_chosen() {
        check(&[], &[], &[], &["7", "5.10", "6.1", "6.12", "6.18"]);
        check(&[], &[Kind::Distribution], &[], &["6.12-distribution"]);
        check(&["6.1"], &[Kind::Bare, Kind::Distribution], &[], &["6.1", "6.1-distribution"]);
        check(&[], &[], &["brokers"], &["6.12-distribution"]);
        check(&["7"], &[], &["pins", "units"], &["7", "7-distribution"]);
        check(&["7"], &[Kind::Bare], &["pins", "units"], &["7"]);
        check(&[], &[Kind::Distribution], &["pins"], &[]);
    }

    #[test]
    fn the_longest_come_first() {
        check_modes(
            &[Mode::Fallback, Mode::Lsm],
            &["6.1", "7"],
            &[],
            &[],
            &["6.1", "7", "6.1fallback", "7fallback"],
        );
    }
}
