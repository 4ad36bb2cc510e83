//! From settings to a running sensor.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;

use treeline_event::Level;
use treeline_policy::Moment;

use super::{
    adapters,
    expiry::Expiry,
    itself::OwnFiles,
    lock::{self, Lock},
    policy::{
        self, LoadError,
        floor::{Floor, Row},
        now,
        set::{self, LoadedPolicy, Part, PolicyFiles},
        signature::{Signed, Trust, note_of},
    },
    sensor::{Parts, Sensor, SensorError},
    sessions::KnownSessions,
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
    /// The policies.
    pub policies: PolicyFiles,
    /// The file was named on the command line, so it has to be there.
    pub policy_required: bool,
    /// Whose policies are put in force.
    pub trust: Trust,
    /// What becomes of rules that cannot be enforced here.
    pub unenforceable: Unenforceable,
    /// What else is the sensor's own: its socket, its binary, its configuration.
    pub own: OwnFiles,
}

impl Settings {
    /// Everything that tracked processes are kept from changing, with the files of the policies, also those that are not there.
    fn own_files(&self, loaded: &LoadedPolicy) -> OwnFiles {
        let mut own = self.own.clone();
        own.directories.extend([self.state_dir.clone(), self.log_dir.clone()]);
        let included = loaded
            .parts
            .iter()
            .flat_map(|part| part.bundle.included.keys().map(|path| part.path.with_file_name(path)));
        let files = self.policies.all().flat_map(|(_, path)| [path.to_owned(), note_of(path)]);
        own.files.extend(included.chain(files));
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
        let (first, floor) = first_policy(&settings)?;
        let (log, recovery) = adapters::log(&settings.log_dir)
            .with_context(|| format!("cannot open the log `{}`", settings.log_dir.display()))?;
        let enricher = adapters::enricher(&settings.state_dir)?;
        // Whoever signed it: this is only about the rules that are in force already.
        let kept = last_good_or_none(&settings, &Trust::default()).map(|mut kept| {
            settings.own_files(&kept).protect(&mut kept.policy);
            kept
        });
        let sensor = Sensor::start(Parts {
            backend: backend().context("cannot attach to the kernel")?,
            enricher,
            log,
            log_dir: settings.log_dir.clone(),
            state_dir: settings.state_dir.clone(),
            recovery,
            allow_unenforceable: settings.unenforceable == Unenforceable::Observe,
            sessions: KnownSessions::of_dir(&settings.state_dir),
            kept,
        })?;
        let sensor = Arc::new(sensor);
        let policies = Arc::new(Policies {
            sensor: Arc::clone(&sensor),
            settings,
            whole: Mutex::default(),
            floor: Mutex::new(floor),
        });
        let applied = policies.apply_first(first);
        let expiry = applied.and_then(|()| {
            let policies = Arc::clone(&policies);
            Expiry::start(move || policies.look()).context("cannot start a thread")
        });
        match expiry {
            Ok(expiry) => Ok(Self { sensor, policies, _expiry: expiry, _lock: lock }),
            Err(error) => {
                drop(sensor.stop("the policy cannot be put in force"));
                Err(error)
            }
        }
    }

    /// Reads the policies again and puts them in force; if one is bad, those before stay.
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
    /// The highest revision that was in force. Held from before the files are read until the copy of them is kept.
    floor: Mutex<Floor>,
}

impl Policies {
    fn apply_first(&self, first: FirstPolicy) -> anyhow::Result<()> {
        match first {
            FirstPolicy::None => {
                tracing::warn!(path = %self.settings.policies.organisation.display(), "there is no policy: nothing is refused");
                Ok(())
            }
            FirstPolicy::Good(loaded) => {
                let mut floor = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
                self.apply(*loaded, &mut floor)
            }
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
        let mut floor = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        match load(&self.settings, &floor) {
            Ok(loaded) => self.apply(loaded, &mut floor),
            Err(error) => {
                self.sensor.refuse_policy(error.sha256(), super::sensor::chain(&error))?;
                Err(error.into())
            }
        }
    }

    fn apply(&self, loaded: LoadedPolicy, floor: &mut Floor) -> anyhow::Result<()> {
        if let Err(error) = floor.raise(rows(&loaded)).context("cannot keep which revision is in force") {
            self.sensor.refuse_policy(loaded.sha256, format!("{error:#}"))?;
            return Err(error);
        }
        let kept = loaded.kept();
        self.put_in_force(loaded, Sensor::apply_policy)?;
        // Only a fall-back: without it the policy is in force all the same.
        if let Err(error) = policy::keep(&self.settings.state_dir.join(LAST_GOOD), &kept) {
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

    /// Ends what has to end now.
    fn look(&self) {
        self.end_rules();
        match self.sensor.end_approvals() {
            Ok(()) | Err(SensorError::Stopping) => {}
            Err(error) => {
                tracing::error!("that approvals have ended cannot be said: {}", super::sensor::chain(&error));
            }
        }
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

/// The first policy, and what it must not be older than.
fn first_policy(settings: &Settings) -> anyhow::Result<(FirstPolicy, Floor)> {
    let floor = Floor::read(&settings.state_dir)?;
    let is_signed = settings.trust.asks_for_signatures();
    if !is_signed {
        floor.allows_unsigned()?;
    }
    let first = match load(settings, &floor) {
        Ok(loaded) => FirstPolicy::Good(Box::new(loaded)),
        Err(LoadError::Read { path, source })
            if path == settings.policies.organisation
                && source.kind() == io::ErrorKind::NotFound
                && !settings.policy_required =>
        {
            // Without a file there was never one, unless somebody removed it: that must not switch the guard off.
            let error = LoadError::Read { path, source };
            match last_good(settings, &settings.trust)? {
                Some(loaded) => FirstPolicy::LastGood(Box::new(loaded), error),
                // Whoever asks for signatures, or names others, wants a policy.
                None if is_signed || !settings.policies.is_alone() => return Err(error.into()),
                None => FirstPolicy::None,
            }
        }
        Err(error) if settings.policy_required => return Err(error.into()),
        Err(error) => match last_good_or_none(settings, &settings.trust) {
            Some(loaded) => FirstPolicy::LastGood(Box::new(loaded), error),
            None => return Err(error.into()),
        },
    };
    Ok((first, floor))
}

/// The policies of the files, if they may come after what was in force.
fn load(settings: &Settings, floor: &Floor) -> Result<LoadedPolicy, LoadError> {
    let loaded = set::load_all(&settings.policies, &settings.trust)?;
    for part in &loaded.parts {
        if let Some((row, signed)) = row(part)
            && let Err(error) = floor.admits(row, signed)
        {
            let (path, sha256) = (part.path.clone(), loaded.sha256.clone());
            return Err(LoadError::Signature { path, sha256, source: Box::new(error) });
        }
    }
    Ok(loaded)
}

/// Which rows of numbers the signed ones are in.
fn rows(loaded: &LoadedPolicy) -> impl Iterator<Item = (Row<'_>, &Signed)> {
    loaded.parts.iter().filter_map(row)
}

fn row(part: &Part) -> Option<(Row<'_>, &Signed)> {
    let row = if part.level == Level::Organisation { Row::Organisation } else { Row::Team(&part.name) };
    Some((row, part.signed.as_ref()?))
}

/// The copy of the policy that was in force last, if there is one.
fn last_good(settings: &Settings, trust: &Trust) -> anyhow::Result<Option<LoadedPolicy>> {
    let path = settings.state_dir.join(LAST_GOOD);
    match set::kept(&path, &settings.policies.organisation, trust) {
        Ok(kept) => Ok(Some(kept)),
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::NotFound) => {
            Ok(None)
        }
        Err(error) => Err(error.context(format!(
            "there is no policy `{}`, and the copy of the last good one, `{}`, cannot be used; write a policy, or remove the copy",
            settings.policies.organisation.display(),
            path.display()
        ))),
    }
}

/// The same where something else says what is wrong.
fn last_good_or_none(settings: &Settings, trust: &Trust) -> Option<LoadedPolicy> {
    last_good(settings, trust).unwrap_or_else(|error| {
        let cause = error.root_cause();
        tracing::warn!(
            "the copy of the last good policy in `{}` is of no use: {cause}",
            settings.state_dir.display()
        );
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_all_policies_are_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let text = "version: 1\nname: NAME\ninclude: [more.yaml]\n";
        std::fs::create_dir(at("t")).expect("a directory");
        for (file, text) in [
            ("o.yaml", "version: 1\nname: o\nrules: []\n"),
            ("t/t.yaml", &text.replace("NAME", "t")),
            ("t/more.yaml", "version: 1\nrules: []\n"),
        ] {
            std::fs::write(at(file), text).expect("a file");
        }
        let local = vec![at("not-there.yaml")];
        let policies = PolicyFiles { organisation: at("o.yaml"), team: vec![at("t/t.yaml")], local };
        let loaded = set::load_all(&policies, &Trust::default()).expect("good policies");
        let settings = Settings {
            log_dir: at("log"),
            state_dir: at("state"),
            policies,
            policy_required: false,
            trust: Trust::default(),
            unenforceable: Unenforceable::Refuse,
            own: OwnFiles::default(),
        };
        let own = settings.own_files(&loaded).files;
        for file in ["o.yaml", "o.yaml.note", "t/t.yaml", "t/t.yaml.note", "t/more.yaml", "not-there.yaml"] {
            assert!(own.contains(&at(file)), "{file} is not in {own:?}");
        }
    }
}
