//! From settings to a running sensor.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{
    adapters,
    itself::OwnFiles,
    lock::{self, Lock},
    policy::{self, LoadError, LoadedPolicy},
    sensor::{Parts, Sensor, SensorError},
};
use crate::{backend::Backend, config::Unenforceable, log::LOCK as LOG_LOCK};

/// The policy that was in force last, in the state directory: what a restart falls back to when the policy file was
/// broken meanwhile.
const LAST_GOOD: &str = "policy.last-good.yaml";

/// What a sensor is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the log.
    pub log_dir: PathBuf,
    /// Directory of everything else.
    pub state_dir: PathBuf,
    /// The policy file.
    pub policy: PathBuf,
    /// The file was named on the command line, so it has to be there.
    pub policy_required: bool,
    /// What becomes of rules that cannot be enforced here.
    pub unenforceable: Unenforceable,
    /// What else is the sensor's own: its socket, its binary, its configuration.
    pub own: OwnFiles,
}

impl Settings {
    /// Everything that tracked processes are kept from changing.
    fn own_files(&self) -> OwnFiles {
        let mut own = self.own.clone();
        own.directories.extend([self.state_dir.clone(), self.log_dir.clone()]);
        own.files.push(self.policy.clone());
        own.locks.extend([lock::of_dir(&self.state_dir), self.log_dir.join(LOG_LOCK)]);
        own
    }
}

/// A running sensor that holds its state directory.
#[derive(Debug)]
pub struct Running {
    /// The sensor.
    pub sensor: Sensor,
    settings: Settings,
    _lock: Lock,
}

impl Running {
    /// Takes the state directory, opens the log, starts the backend and the threads, and puts the policy in force.
    ///
    /// # Errors
    /// Whatever keeps it from running; nothing is left behind.
    pub fn start(
        settings: Settings,
        backend: impl FnOnce() -> Result<Box<dyn Backend>, crate::backend::BackendError>,
    ) -> anyhow::Result<Self> {
        let lock = Lock::of_state_dir(&settings.state_dir)?;
        // A policy that cannot be used is found before anything is attached.
        let first = first_policy(&settings)?;
        let (log, recovery) = adapters::log(&settings.log_dir)
            .with_context(|| format!("cannot open the log `{}`", settings.log_dir.display()))?;
        let enricher = adapters::enricher(&settings.state_dir)?;
        let kept = policy::load(&settings.state_dir.join(LAST_GOOD)).ok().map(|mut kept| {
            settings.own_files().protect(&mut kept.policy);
            kept
        });
        let sensor = Sensor::start(Parts {
            backend: backend().context("cannot attach to the kernel")?,
            enricher,
            log,
            log_dir: settings.log_dir.clone(),
            recovery,
            allow_unenforceable: settings.unenforceable == Unenforceable::Observe,
            kept,
        })?;
        let this = Self { sensor, settings, _lock: lock };
        let applied = this.apply_first(first);
        if let Err(error) = applied {
            drop(this.sensor.stop("the policy cannot be put in force"));
            return Err(error);
        }
        Ok(this)
    }

    fn apply_first(&self, first: FirstPolicy) -> anyhow::Result<()> {
        match first {
            FirstPolicy::None => {
                tracing::warn!(path = %self.settings.policy.display(), "there is no policy: nothing is refused");
                Ok(())
            }
            FirstPolicy::Good(loaded) => Ok(self.apply(*loaded)?),
            FirstPolicy::LastGood(mut loaded, error) => {
                self.settings.own_files().protect(&mut loaded.policy);
                tracing::error!("{error}; the last good policy is in force instead");
                self.sensor.refuse_policy(error.sha256(), error.to_string())?;
                Ok(self.sensor.apply_policy(*loaded)?)
            }
        }
    }

    /// Reads the policy file again and puts it in force; if it is bad, the one before stays.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn reload(&self) -> anyhow::Result<()> {
        match policy::load(&self.settings.policy) {
            Ok(loaded) => Ok(self.apply(loaded)?),
            Err(error) => {
                self.sensor.refuse_policy(error.sha256(), super::sensor::chain(&error))?;
                Err(error.into())
            }
        }
    }

    fn apply(&self, mut loaded: LoadedPolicy) -> Result<(), SensorError> {
        self.settings.own_files().protect(&mut loaded.policy);
        let text = loaded.policy.sources.first().text().to_owned();
        self.sensor.apply_policy(loaded)?;
        // Only a fall-back: without it the policy is in force all the same.
        if let Err(error) = keep(&self.settings.state_dir, &text) {
            tracing::warn!("cannot keep a copy of the policy: {error}");
        }
        Ok(())
    }
}

enum FirstPolicy {
    None,
    Good(Box<LoadedPolicy>),
    LastGood(Box<LoadedPolicy>, LoadError),
}

fn first_policy(settings: &Settings) -> anyhow::Result<FirstPolicy> {
    match policy::load(&settings.policy) {
        Ok(loaded) => Ok(FirstPolicy::Good(Box::new(loaded))),
        Err(LoadError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound && !settings.policy_required =>
        {
            // Without a file there was never one, unless somebody removed it: that must not switch the guard off.
            let last = policy::load(&settings.state_dir.join(LAST_GOOD)).ok();
            let path = settings.policy.clone();
            Ok(last.map_or(FirstPolicy::None, |loaded| {
                FirstPolicy::LastGood(Box::new(loaded), LoadError::Read { path, source })
            }))
        }
        Err(error) if settings.policy_required => Err(error.into()),
        Err(error) => match policy::load(&settings.state_dir.join(LAST_GOOD)) {
            Ok(loaded) => Ok(FirstPolicy::LastGood(Box::new(loaded), error)),
            Err(_) => Err(error.into()),
        },
    }
}

/// Replaces the copy atomically.
fn keep(state_dir: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new_in(state_dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(state_dir.join(LAST_GOOD))?;
    std::fs::File::open(state_dir)?.sync_all()
}
