//! The sessions of a log: what is known of each from its beginning on.

use std::{collections::HashMap, sync::Arc};

use treeline_event::{Notice, SessionId};

use crate::session::Session;

/// Sessions that are known, some 200 bytes each. Of one more nothing is known.
const SESSIONS_MAX: usize = 65_536;

/// What is known of sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<SessionId, Arc<Session>>);

impl Sessions {
    /// Takes what an entry says of a session's beginning. One that goes on with another sensor begins again.
    pub(super) fn take(&mut self, notice: &Notice) {
        let Notice::SessionStarted { session, attributes, .. } = notice else { return };
        if self.0.len() < SESSIONS_MAX || self.0.contains_key(session) {
            self.0.insert(*session, Arc::new(Session::new(attributes)));
        }
    }

    /// What is known of a session.
    pub(super) fn get(&self, session: Option<SessionId>) -> Arc<Session> {
        session.and_then(|session| self.0.get(&session)).cloned().unwrap_or_default()
    }
}
