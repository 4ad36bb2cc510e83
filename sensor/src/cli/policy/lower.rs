//! Policies that hold together with the one that is named first.

use std::path::{Path, PathBuf};

use treeline_policy::{Diagnostics, Moment, Policy, compose, parse_with, policy::Level};

use super::files::{Below, read};
use crate::daemon::policy::bundle::{Bundle, Recorder};

/// Those below the organisation's, as the configuration has them.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Lower {
    /// A team's policy that holds together with it, which is the organisation's then
    #[arg(long, value_name = "FILE")]
    team: Vec<PathBuf>,
    /// A local policy that holds together with it
    #[arg(long, value_name = "FILE")]
    local: Vec<PathBuf>,
}

/// One of them.
pub(super) struct LowerFile {
    pub(super) level: Level,
    pub(super) bundle: Bundle,
    policy: Result<Policy, Diagnostics>,
}

impl LowerFile {
    /// Its name, if it is valid.
    pub(super) fn name(&self) -> Option<&str> {
        self.policy.as_ref().ok().map(|policy| policy.name.as_str())
    }
}

impl Lower {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.team.is_empty() && self.local.is_empty()
    }

    /// Reads them; with `now`, rules that have expired are warned of.
    ///
    /// # Errors
    /// One cannot be read.
    pub(super) fn read(&self, now: Option<Moment>) -> anyhow::Result<Vec<LowerFile>> {
        let one = |level: Level, file: &Path| {
            let source = read(file)?;
            let recorder = Recorder::new(Below::directory_of(file));
            let policy = parse_with(&recorder, source.clone(), now);
            Ok(LowerFile { level, bundle: Bundle::of(file, source.text(), recorder), policy })
        };
        let team = self.team.iter().map(|file| one(Level::Team, file));
        team.chain(self.local.iter().map(|file| one(Level::Local, file))).collect()
    }
}

/// What they say together.
///
/// # Errors
/// One of them is not valid, or they cannot hold together.
pub(super) fn composed(own: Policy, lower: Vec<LowerFile>) -> Result<Policy, Diagnostics> {
    if lower.is_empty() {
        return Ok(own);
    }
    let mut policies = vec![(Level::Organisation, own)];
    for LowerFile { level, policy, .. } in lower {
        policies.push((level, policy?));
    }
    compose(policies)
}
