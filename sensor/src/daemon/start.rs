//! From settings to a running sensor.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;

use treeline_policy::Moment;

use super::{
    adapters,
    expiry::Expiry,
    itself::OwnFiles,
    lock::{self, Lock},
    policy::{self, LoadError, LoadedPolicy, now},
    sensor::{Parts, Sensor, SensorError},
};
use crate::{backend::Backend, config::Unenforceable, log::LOCK as LOG_LOCK};

/// The policy that was in force last, in the state directory: what a restart falls back to when the policy file was
/// broken meanwhile.
const LAST_GOOD: &str = "policy.last-good.json";

/// Seconds until it is tried again to end a rule.
const EXPIRY_RETRY_S: u64 = 60;

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
    /// Everything that tracked processes are kept from changing, with the files of a policy.
    fn own_files(&self, loaded: &LoadedPolicy) -> OwnFiles {
        let mut own = self.own.clone();
        own.directories.extend([self.state_dir.clone(), self.log_dir.clone()]);
        let included = loaded.bundle.included.keys().map(|path| self.policy.with_file_name(path));
        own.files.extend(included.chain([self.policy.clone()]));
        own.locks.extend([lock::of_dir(&self.state_dir), self.log_dir.join(LOG_LOCK)]);
        own
    }
}

/// A running sensor that holds its state directory.
#[derive(Debug)]
pub struct Running {
    /// The sensor.
    pub sensor: Arc<Sensor>,
    policies: Arc<Policies>,
    /// Ends rules whose time has come, as long as this lives.
    _expiry: Expiry,
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
        let kept = last_good_or_none(&settings).map(|mut kept| {
            settings.own_files(&kept).protect(&mut kept.policy);
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
        let sensor = Arc::new(sensor);
        let policies = Arc::new(Policies {
            sensor: Arc::clone(&sensor),
            settings,
            whole: Mutex::default(),
            reloading: Mutex::default(),
        });
        let applied = policies.apply_first(first);
        let expiry = applied.and_then(|()| {
            let policies = Arc::clone(&policies);
            Expiry::start(move || policies.end_rules()).context("cannot start a thread")
        });
        match expiry {
            Ok(expiry) => Ok(Self { sensor, policies, _expiry: expiry, _lock: lock }),
            Err(error) => {
                drop(sensor.stop("the policy cannot be put in force"));
                Err(error)
            }
        }
    }

    /// Reads the policy file again and puts it in force; if it is bad, the one before stays.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.policies.reload()
    }
}

/// How a policy comes to the sensor.
type Apply = fn(&Sensor, LoadedPolicy) -> Result<(), SensorError>;

/// Which policy is in force, and how it comes to be.
#[derive(Debug)]
struct Policies {
    sensor: Arc<Sensor>,
    settings: Settings,
    /// The policy in force with rules that have yet to end, and when the next one does.
    whole: Mutex<Option<(LoadedPolicy, Option<Moment>)>>,
    /// Held from before the files are read until the copy of them is kept.
    reloading: Mutex<()>,
}

impl Policies {
    fn apply_first(&self, first: FirstPolicy) -> anyhow::Result<()> {
        match first {
            FirstPolicy::None => {
                tracing::warn!(path = %self.settings.policy.display(), "there is no policy: nothing is refused");
                Ok(())
            }
            FirstPolicy::Good(loaded) => Ok(self.apply(*loaded)?),
            FirstPolicy::LastGood(loaded, error) => {
                let why = super::sensor::chain(&error);
                tracing::error!("{why}; the last good policy is in force instead");
                self.put_in_force(*loaded, Sensor::reapply_policy)?;
                // Behind it, so that who reads the log knows, too, that it is not the file.
                Ok(self.sensor.refuse_policy(error.sha256(), why)?)
            }
        }
    }

    fn reload(&self) -> anyhow::Result<()> {
        // What was read first is not put in force last.
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        match policy::load(&self.settings.policy) {
            Ok(loaded) => Ok(self.apply(loaded)?),
            Err(error) => {
                self.sensor.refuse_policy(error.sha256(), super::sensor::chain(&error))?;
                Err(error.into())
            }
        }
    }

    fn apply(&self, loaded: LoadedPolicy) -> Result<(), SensorError> {
        let bundle = loaded.bundle.clone();
        self.put_in_force(loaded, Sensor::apply_policy)?;
        // Only a fall-back: without it the policy is in force all the same.
        if let Err(error) = policy::keep(&self.settings.state_dir.join(LAST_GOOD), &bundle) {
            tracing::warn!("cannot keep a copy of the policy: {error}");
        }
        Ok(())
    }

    fn put_in_force(&self, loaded: LoadedPolicy, apply: Apply) -> Result<(), SensorError> {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.put_in_force_now(&loaded, apply)?;
        *whole = Some((loaded, next));
        Ok(())
    }

    /// Puts in force what of a policy is so now; the moment from which on it is less.
    fn put_in_force_now(&self, loaded: &LoadedPolicy, apply: Apply) -> Result<Option<Moment>, SensorError> {
        let mut in_force = loaded.at(now());
        let next = in_force.policy.next_expiry();
        self.settings.own_files(loaded).protect(&mut in_force.policy);
        apply(&self.sensor, in_force)?;
        Ok(next)
    }

    /// Puts the policy in force without the rules whose time has come, if there are any.
    fn end_rules(&self) {
        let now = now();
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((loaded, next @ Some(_))) = &mut *whole else { return };
        if next.is_some_and(|next| next > now) {
            return;
        }
        *next = self.put_in_force_now(loaded, Sensor::reapply_policy).unwrap_or_else(|error| {
            if matches!(error, SensorError::Stopping) {
                return None;
            }
            tracing::error!(
                "a rule that has expired stays in force, for {EXPIRY_RETRY_S} s at least: {}",
                super::sensor::chain(&error)
            );
            Some(Moment(now.0 + EXPIRY_RETRY_S))
        });
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
            if source.kind() == io::ErrorKind::NotFound && !settings.policy_required =>
        {
            // Without a file there was never one, unless somebody removed it: that must not switch the guard off.
            let last = last_good(settings)?;
            let path = settings.policy.clone();
            Ok(last.map_or(FirstPolicy::None, |loaded| {
                FirstPolicy::LastGood(Box::new(loaded), LoadError::Read { path, source })
            }))
        }
        Err(error) if settings.policy_required => Err(error.into()),
        Err(error) => match last_good_or_none(settings) {
            Some(loaded) => Ok(FirstPolicy::LastGood(Box::new(loaded), error)),
            None => Err(error.into()),
        },
    }
}

/// The copy of the policy that was in force last, if there is one.
fn last_good(settings: &Settings) -> anyhow::Result<Option<LoadedPolicy>> {
    let path = settings.state_dir.join(LAST_GOOD);
    match policy::kept(&path) {
        Ok(kept) => Ok(Some(kept)),
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::NotFound) => {
            Ok(None)
        }
        Err(error) => Err(error.context(format!(
            "there is no policy `{}`, and the copy of the last good one, `{}`, cannot be used; write a policy, or remove the copy",
            settings.policy.display(),
            path.display()
        ))),
    }
}

/// The same where something else says what is wrong.
fn last_good_or_none(settings: &Settings) -> Option<LoadedPolicy> {
    last_good(settings).unwrap_or_else(|error| {
        let cause = error.root_cause();
        tracing::warn!(
            "the copy of the last good policy in `{}` is of no use: {cause}",
            settings.state_dir.display()
        );
        None
    })
}
