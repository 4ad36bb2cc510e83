//! What sessions are, for rules that ask, and the kernel's table of it.

use std::{
    collections::{BTreeMap, HashSet},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aya::{
    Ebpf,
    maps::{HashMap as KernelMap, Map, MapData, MapError},
};
use treeline_abi::{
    paths::SLOTS,
    subject::{Facts, SessionFacts},
};
use treeline_event::SessionId;
use treeline_policy::{Session, Tables, compile::SessionSets};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::duplicate;
use crate::backend::BackendError;

type Value = [u8; size_of::<SessionFacts>()];

/// The sessions that live, shared with who judges in this process.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// None in tests.
    kernel: Option<KernelMap<MapData, u64, Value>>,
    known: BTreeMap<SessionId, Arc<Session>>,
    /// What is asked of sessions, by slot; none for a slot that another sensor filled.
    slots: [Option<Arc<SessionSets>>; SLOTS as usize],
}

impl Sessions {
    /// Nothing is known yet.
    ///
    /// # Errors
    /// [`BackendError`] when the table cannot be had.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, BackendError> {
        let Some(Map::HashMap(map)) = ebpf.map("SESSIONS") else {
            return Err(BackendError::Unsupported(
                "the kernel object has no map `SESSIONS`: rebuild with `cargo xtask build`".to_owned(),
            ));
        };
        let own = MapData::from_fd(duplicate(&map.fd().as_fd())?).map_err(failed)?;
        let kernel = Map::from_map_data(own).and_then(KernelMap::try_from).map_err(failed)?;
        let kernel = Some(kernel);
        Ok(Self(Arc::new(Mutex::new(Table { kernel, ..Table::default() }))))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a session; nothing of one that is not known.
    pub(super) fn get(&self, session: SessionId) -> Arc<Session> {
        self.table().known.get(&session).cloned().unwrap_or_default()
    }

    /// Takes what is known of a session, before anybody is in it.
    ///
    /// # Errors
    /// [`BackendError::Io`] when the kernel does not take it: nothing is known of it then.
    pub(super) fn begin(&self, session: SessionId, known: Arc<Session>) -> Result<(), BackendError> {
        let mut table = self.table();
        table.publish(session, &known)?;
        table.known.insert(session, known);
        Ok(())
    }

    /// Nobody is in these sessions any more.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(super) fn end(&self, sessions: &[SessionId]) -> Result<(), BackendError> {
        let mut table = self.table();
        // As many as can be: what is left is removed when a policy is put in force.
        let removed = sessions.iter().map(|session| {
            table.known.remove(session);
            table.remove(session.0)
        });
        removed.fold(Ok(()), Result::and)
    }

    /// Makes the table ready for the policy that will be in force in its slot, at which no hook looks any more; that of the other
    /// slot stays.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(super) fn prepare(&self, tables: &Tables) -> Result<(), BackendError> {
        let mut table = self.table();
        table.slots[(tables.slot % SLOTS) as usize] = Some(Arc::new(tables.sessions.clone()));
        // Those that ended while no sensor ran.
        let known: HashSet<u64> = table.known.keys().map(|session| session.0).collect();
        let held = table.kernel.as_ref().map(|kernel| kernel.keys().collect::<Result<Vec<_>, _>>());
        let held = held.transpose().map_err(failed)?.unwrap_or_default();
        held.into_iter().filter(|session| !known.contains(session)).try_for_each(|one| table.remove(one))?;
        let known: Vec<(SessionId, Arc<Session>)> =
            table.known.iter().map(|(session, known)| (*session, Arc::clone(known))).collect();
        known.into_iter().try_for_each(|(session, known)| table.publish(session, &known))
    }
}

impl Table {
    fn publish(&mut self, session: SessionId, known: &Session) -> Result<(), BackendError> {
        let slots = self.slots.clone();
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let before = match kernel.get(&session.0, 0) {
            Ok(value) => SessionFacts::read_from_bytes(&value).ok(),
            Err(MapError::KeyNotFound) => None,
            Err(error) => return Err(failed(error)),
        };
        let facts = facts(session, &slots, before, known);
        let mut value: Value = [0; size_of::<SessionFacts>()];
        value.copy_from_slice(facts.as_bytes());
        kernel.insert(session.0, value, 0).map_err(failed)
    }

    fn remove(&mut self, session: u64) -> Result<(), BackendError> {
        match self.kernel.as_mut().map(|kernel| kernel.remove(&session)) {
            None | Some(Ok(()) | Err(MapError::KeyNotFound)) => Ok(()),
            Some(Err(error)) => Err(failed(error)),
        }
    }
}

/// What a session leaves of the sets in each slot. What another sensor said of one that it filled stays; where it said
/// nothing, nothing is sure.
fn facts(
    session: SessionId,
    slots: &[Option<Arc<SessionSets>>; SLOTS as usize],
    before: Option<SessionFacts>,
    known: &Session,
) -> SessionFacts {
    let nothing = SessionFacts { session: session.0, of_slot: [Facts::UNKNOWN; SLOTS as usize] };
    let mut facts = before.unwrap_or(nothing);
    for (facts, asked) in facts.of_slot.iter_mut().zip(slots) {
        if let Some(asked) = asked {
            *facts = asked.of(known);
        }
    }
    facts
}

fn failed(error: MapError) -> BackendError {
    BackendError::Io {
        attempt: "tell the kernel what a session is".to_owned(),
        source: std::io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use treeline_policy::{Host, Known, MountTable, Target, compile, parse};

    use super::*;

    #[test]
    fn what_another_sensor_said_stays_until_its_slot_is_filled() {
        let text = "version: 1\nname: t\nrules:\n  - {id: a, kind: file, paths: [/x], reason: r, only: [{session: {users: [ada]}}]}\n";
        let policy = parse("t", text).expect("a policy");
        let tables = |slot| {
            let target = Target { seed: 1, generation: 1, slot };
            let tables = compile(&policy, &Host::default(), &MountTable::single(1), target).expect("tables");
            Some(Arc::new(tables.sessions.clone()))
        };
        let user = |name: &str| Session {
            user: Some(Known { id: None, name: Some(name.to_owned()) }),
            ..Session::default()
        };
        let said = Facts { sure: 7, possible: 7 };
        let before = SessionFacts { session: 1, of_slot: [said; SLOTS as usize] };
        let check = |slots, before, name, expect: [Facts; 2]| {
            let found = facts(SessionId(1), &slots, before, &user(name));
            assert_eq!((found.session, found.of_slot), (1, expect), "{name}");
        };
        let (yes, no) = (
            Facts { sure: u64::MAX, possible: u64::MAX },
            Facts { sure: u64::MAX - 1, possible: u64::MAX - 1 },
        );
        check([None, None], Some(before), "ada", [said, said]);
        check([None, tables(1)], Some(before), "ada", [said, yes]);
        check([tables(0), tables(1)], Some(before), "bob", [no, no]);
        check([None, tables(1)], None, "bob", [Facts::UNKNOWN, no]);
    }

    #[test]
    fn of_what_has_ended_nothing_is_known() {
        let sessions = Sessions::default();
        let known = Arc::new(Session { groups: Some(Vec::new()), ..Session::default() });
        sessions.begin(SessionId(1), Arc::clone(&known)).expect("it begins");
        assert_eq!((sessions.get(SessionId(1)), sessions.get(SessionId(2))), (known, Arc::default()));
        sessions.end(&[SessionId(1), SessionId(2)]).expect("they end");
        assert_eq!(sessions.get(SessionId(1)), Arc::default());
    }
}
