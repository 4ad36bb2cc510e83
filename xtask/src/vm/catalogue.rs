//! `vm-tests/kernels.toml`: which kernels there are, by exact package and hash.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The file's content.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalogue {
    /// The series that are booted when none is asked for.
    default: Vec<String>,
    /// The same for distribution guests.
    distribution: Vec<String>,
    /// Those whose guests of every mode run more than what decides.
    thorough: Vec<String>,
    #[serde(rename = "kernel")]
    kernels: Vec<Pin>,
}

/// One kernel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    /// What `--kernel` takes and the release begins with, e.g. `6.12`.
    pub(super) series: String,
    /// The archive's suite, e.g. `trixie-security`.
    pub(super) suite: String,
    /// What `uname -r` prints.
    pub(super) release: String,
    /// Package name to SHA-256, in hex.
    pub(super) packages: BTreeMap<String, String>,
}

impl Catalogue {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let catalogue: Self = toml::from_str(text)?;
        for pin in &catalogue.kernels {
            if !pin.release.starts_with(&format!("{}.", pin.series)) {
                bail!("release {} is not of series {}", pin.release, pin.series);
            }
        }
        catalogue.choose(&[])?;
        catalogue.choose_for_distribution(&[])?;
        catalogue.choose(&catalogue.thorough)?;
        Ok(catalogue)
    }

    /// Every kernel, in the file's order.
    pub(super) fn all(&self) -> &[Pin] {
        &self.kernels
    }

    /// Whether guests with this kernel run more in every mode than what decides.
    pub(super) fn is_thorough(&self, pin: &Pin) -> bool {
        self.thorough.contains(&pin.series)
    }

    /// As [`Self::choose`], for distribution guests.
    pub(super) fn choose_for_distribution(&self, asked: &[String]) -> Result<Vec<&Pin>> {
        self.choose(if asked.is_empty() { &self.distribution } else { asked })
    }

    /// The kernels of the `asked` series; of the default ones when none is asked for, and all for `all`.
    pub(super) fn choose(&self, asked: &[String]) -> Result<Vec<&Pin>> {
        let asked = if asked.is_empty() { &self.default } else { asked };
        let mut chosen = Vec::new();
        for series in asked {
            match self.kernels.iter().find(|pin| pin.series == *series) {
                Some(pin) => chosen.push(pin),
                None if series == "all" => chosen.extend(&self.kernels),
                None => {
                    let known: Vec<&str> = self.kernels.iter().map(|pin| pin.series.as_str()).collect();
                    bail!(
                        "no kernel of series `{series}` is pinned; there are {} and `all`",
                        known.join(", ")
                    );
                }
            }
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../vm-tests/kernels.toml");

    #[test]
    fn the_shipped_file_is_whole() {
        let catalogue = Catalogue::parse(SHIPPED).expect("the shipped catalogue parses");
        for pin in catalogue.all() {
            for (package, hash) in &pin.packages {
                assert!(package.ends_with(&pin.release), "{package}");
                assert_eq!(hex::decode(hash).map(|bytes| bytes.len()), Ok(32), "{package}");
            }
        }
    }

    fn check(asked: &[&str], expect: Result<&[&str], &str>) {
        let catalogue = Catalogue::parse(SHIPPED).expect("the shipped catalogue parses");
        let asked: Vec<String> = asked.iter().map(|&series| series.to_owned()).collect();
        let chosen = catalogue.choose(&asked);
        match (chosen, expect) {
            (Ok(pins), Ok(expect)) => {
                let series: Vec<&str> = pins.iter().map(|pin| pin.series.as_str()).collect();
                assert_eq!(series, expect);
            }
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (chosen, _) => panic!("{asked:?}: {chosen:?}"),
        }
    }

    #[test]
    fn series_are_chosen_by_name() {
        check(&[], Ok(&["7", "5.10", "6.1", "6.12", "6.18"]));
        check(&["6.1"], Ok(&["6.1"]));
        check(&["all"], Ok(&["5.10", "6.1", "6.12", "6.18", "7"]));
        check(&["6"], Err("no kernel of series `6` is pinned"));
    }

    #[test]
    fn a_release_of_another_series_is_an_error() {
        let text = SHIPPED.replace("release = \"6.1.0-56", "release = \"6.12.0-56");
        assert!(
            Catalogue::parse(&text).expect_err("6.12 is not 6.1").to_string().contains("not of series 6.1")
        );
    }
}
