//! A backend that plays what it is told: the sensor above it is tested without a kernel and without root.

use std::{
    collections::VecDeque,
    os::fd::BorrowedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use treeline_event::{
    AttachMode, FileId, HookState, HookStatus, PathBytes, ProcessKey, RuleState, RuleStatus, SessionId,
};

use super::{Backend, BackendError, Capabilities, Delivery, Installable, TrackRequest};

/// Deliveries that wait to be played: a script, not a stream, so that a runaway test ends.
const SCRIPT_LEN_MAX: usize = 1 << 20;

/// Deliveries per poll, as a real backend's poll is bounded.
const DELIVERIES_PER_POLL_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Script {
    deliveries: VecDeque<Delivery>,
    policy_refusal: Option<String>,
    track_refusal: bool,
    failure: Option<String>,
    panic: bool,
    tracked: Vec<(SessionId, u32)>,
    installed: Vec<u64>,
    known: Vec<[u8; 32]>,
    within: Option<SessionId>,
}

/// Tells a [`ReplayBackend`] what to do and asks what was done to it.
#[derive(Clone, Debug, Default)]
pub struct ReplayHandle {
    script: Arc<(Mutex<Script>, Condvar)>,
}

impl ReplayHandle {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script());
        self.script.1.notify_all();
    }

    /// Has the next polls deliver this.
    ///
    /// # Panics
    /// If a million deliveries wait already.
    pub fn play(&self, delivery: Delivery) {
        self.change(|script| {
            assert!(script.deliveries.len() < SCRIPT_LEN_MAX, "the script is too long");
            script.deliveries.push_back(delivery);
        });
    }

    /// Has policies refused with these words, or accepted again.
    pub fn refuse_policies(&self, words: Option<&str>) {
        self.change(|script| script.policy_refusal = words.map(str::to_owned));
    }

    /// Has processes be gone when they are to be tracked.
    pub fn refuse_tracking(&self, refuse: bool) {
        self.change(|script| script.track_refusal = refuse);
    }

    /// Has every process be in this session already, or in none.
    pub fn be_within(&self, session: Option<SessionId>) {
        self.change(|script| script.within = session);
    }

    /// Has the next poll fail.
    pub fn fail(&self, words: &str) {
        self.change(|script| script.failure = Some(words.to_owned()));
    }

    /// Has the next poll panic.
    pub fn panic(&self) {
        self.change(|script| script.panic = true);
    }

    /// What was tracked.
    #[must_use]
    pub fn tracked(&self) -> Vec<(SessionId, u32)> {
        self.script().tracked.clone()
    }

    /// Generations that were installed.
    #[must_use]
    pub fn installed(&self) -> Vec<u64> {
        self.script().installed.clone()
    }

    /// Contents that were made known.
    #[must_use]
    pub fn known(&self) -> Vec<[u8; 32]> {
        self.script().known.clone()
    }
}

/// The backend. It tracks nothing by itself; every rule counts as enforced.
#[derive(Debug)]
pub struct ReplayBackend {
    handle: ReplayHandle,
}

impl ReplayBackend {
    /// A backend with an empty script, and its handle.
    #[must_use]
    pub fn new() -> (Self, ReplayHandle) {
        let handle = ReplayHandle::default();
        (Self { handle: handle.clone() }, handle)
    }
}

impl Backend for ReplayBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mode: AttachMode::Replay,
            kernel: "replay".to_owned(),
            hooks: vec![HookStatus { hook: "replay".to_owned(), state: HookState::Attached }],
            start: None,
        }
    }

    fn install(&mut self, policy: &Installable) -> Result<Vec<RuleStatus>, BackendError> {
        let mut script = self.handle.script();
        if let Some(words) = &script.policy_refusal {
            return Err(BackendError::Policy(words.clone()));
        }
        script.installed.push(policy.generation);
        let status = |rule: &treeline_policy::policy::Rule| RuleStatus {
            rule: rule.id.clone(),
            state: RuleState::Enforced,
            enforced: vec![rule.kind.name().to_owned()],
            observed: Vec::new(),
            unseen: Vec::new(),
            reason: None,
            policy: None,
        };
        Ok(policy.policy.rules.iter().map(status).collect())
    }

    fn track(&mut self, request: &TrackRequest) -> Result<Vec<ProcessKey>, BackendError> {
        let mut script = self.handle.script();
        if script.track_refusal {
            return Err(BackendError::Gone { pid: request.pid });
        }
        script.tracked.push((request.session, request.pid));
        Ok(vec![ProcessKey { pid: request.pid, start_ticks: 0 }])
    }

    fn session_of(&mut self, _process: BorrowedFd<'_>) -> Result<Option<SessionId>, BackendError> {
        Ok(self.handle.script().within)
    }

    fn content_known(&mut self, _path: &PathBytes, _file: &FileId, sha256: &[u8; 32]) {
        self.handle.script().known.push(*sha256);
    }

    fn poll(&mut self, timeout: Duration, deliver: &mut dyn FnMut(Delivery)) -> Result<(), BackendError> {
        let batch: Vec<Delivery> = {
            let idle = |script: &mut Script| {
                script.deliveries.is_empty() && script.failure.is_none() && !script.panic
            };
            let (mut script, _) = self
                .handle
                .script
                .1
                .wait_timeout_while(self.handle.script(), timeout, idle)
                .unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut script.panic) {
                drop(script);
                panic!("the script asked for a panic");
            }
            if let Some(words) = script.failure.take() {
                let source = std::io::Error::other(words);
                return Err(BackendError::Io { attempt: "read the script".to_owned(), source });
            }
            let count = script.deliveries.len().min(DELIVERIES_PER_POLL_MAX);
            script.deliveries.drain(..count).collect()
        };
        batch.into_iter().for_each(deliver);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_plays_in_order_and_waits_no_longer_than_it_may() {
        let (mut backend, handle) = ReplayBackend::new();
        for word in ["a", "b"] {
            handle.play(Delivery::Malformed { what: "ring record", error: word.to_owned() });
        }
        let mut seen = Vec::new();
        for _ in 0..2 {
            backend
                .poll(Duration::from_millis(1), &mut |delivery| match delivery {
                    Delivery::Malformed { error: word, .. } => seen.push(word),
                    other => panic!("{other:?} was not played"),
                })
                .expect("no failure was asked for");
        }
        assert_eq!(seen, ["a", "b"]);
        handle.fail("gone");
        assert!(backend.poll(Duration::ZERO, &mut |_| ()).is_err());
        assert!(backend.poll(Duration::ZERO, &mut |_| ()).is_ok());
    }
}
