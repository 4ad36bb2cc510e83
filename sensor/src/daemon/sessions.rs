//! What is known of the sessions that live: kept in a file, for the sensor that comes next.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group as GroupEntry, getgrouplist};
use serde::{Deserialize, Serialize};
use treeline_event::{Claims, Group, SessionAttributes, SessionId, attributes::GROUPS_MAX};
use treeline_policy::Session;

use crate::durable;

/// The file, in the state directory.
const NAME: &str = "sessions.json";

/// Bytes of it that are read: as many sessions as can be, with as many groups and remotes as are kept.
const FILE_LEN_MAX: u64 = 256 << 20;

/// Sessions without a process that are known all the same: a job that one of them has written may run later.
const ENDED_MAX: usize = 1024;

/// What is known of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// User id of who asked for it.
    pub uid: u32,
    /// What else.
    pub attributes: SessionAttributes,
}

impl Known {
    /// As rules ask for it.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(&self.attributes)
    }
}

/// What is known of the sessions that live.
#[derive(Debug, Default)]
pub struct KnownSessions {
    /// None where nothing is kept.
    path: Option<PathBuf>,
    all: BTreeMap<SessionId, Known>,
    /// Those without a process, the ones that have been without for longest first.
    ended: VecDeque<SessionId>,
}

impl KnownSessions {
    /// With what another sensor has kept in this directory. A file that cannot be read is as if it had kept nothing: what is
    /// not known of a session allows nothing.
    #[must_use]
    pub fn of_dir(dir: &Path) -> Self {
        let path = dir.join(NAME);
        let all = read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), "what sessions are that go on is not known: {error}");
            BTreeMap::new()
        });
        Self { path: Some(path), all, ended: VecDeque::new() }
    }

    /// What is known of a session.
    #[must_use]
    pub fn get(&self, session: SessionId) -> Option<&Known> {
        self.all.get(&session)
    }

    /// Takes what is known of a new one.
    pub fn add(&mut self, session: SessionId, known: Known) {
        self.all.insert(session, known);
        self.keep();
    }

    /// Forgets those that have been without a process for longest, where there are too many of them. `live` are the others.
    /// Answers those that were forgotten.
    pub fn retain(&mut self, live: &BTreeSet<SessionId>) -> Vec<SessionId> {
        self.ended.retain(|session| !live.contains(session));
        let known: BTreeSet<SessionId> = self.ended.iter().copied().collect();
        let is_new = |session: &&SessionId| !live.contains(session) && !known.contains(session);
        self.ended.extend(self.all.keys().filter(is_new));
        let forgotten: Vec<SessionId> =
            self.ended.drain(..self.ended.len().saturating_sub(ENDED_MAX)).collect();
        forgotten.iter().for_each(|session| _ = self.all.remove(session));
        forgotten
    }

    fn keep(&self) {
        let Some(path) = &self.path else { return };
        let kept = serde_json::to_vec(&self.all)
            .map_err(io::Error::other)
            .and_then(|bytes| durable::replace(path, &bytes, 0o600));
        if let Err(error) = kept {
            tracing::warn!(path = %path.display(), "a sensor that comes next will not know what sessions are: {error}");
        }
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<SessionId, Known>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.len() > FILE_LEN_MAX => {
            Err(io::Error::other(format!("it has {} bytes; the bound is {FILE_LEN_MAX}", metadata.len())))
        }
        Ok(_) => serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other),
    }
}

/// What the user database says of a user, and what a session says of itself.
#[must_use]
pub fn attributes(uid: u32, claims: Claims) -> SessionAttributes {
    let user = uzers::get_user_by_uid(uid);
    let name = user.as_ref().and_then(|user| Some(user.name().to_str()?.to_owned()));
    let groups =
        user.as_ref().zip(name.as_deref()).and_then(|(user, name)| groups(name, user.primary_group_id()));
    SessionAttributes { within: None, uid: Some(uid), user: name, groups, claims }
}

/// All groups of a user, of which some may have no name; none if they cannot be told, or are too many to be kept.
fn groups(user: &str, primary: u32) -> Option<Vec<Group>> {
    let gids = getgrouplist(&CString::new(user).ok()?, Gid::from_raw(primary)).ok()?;
    if gids.len() > GROUPS_MAX {
        return None;
    }
    let group = |gid: Gid| {
        let entry = GroupEntry::from_gid(gid).ok()?;
        Some(Group { gid: gid.as_raw(), name: entry.map(|entry| entry.name) })
    };
    gids.into_iter().map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_known_to_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let known = |uid| Known { uid, attributes: attributes(uid, Claims::default()) };
        let mut first = KnownSessions::of_dir(dir.path());
        for session in [1, 2] {
            first.add(SessionId(session), known(session as u32));
        }
        let mut next = KnownSessions::of_dir(dir.path());
        assert_eq!(next.get(SessionId(1)), Some(&known(1)));
        let live: BTreeSet<SessionId> = [SessionId(2), SessionId(3)].into();
        assert!(next.retain(&live).is_empty(), "a job of the first may run later");
        let many = (0..ENDED_MAX as u64).map(|number| SessionId(100 + number));
        next.all.extend(many.map(|session| (session, known(1))));
        assert_eq!(next.retain(&live), [SessionId(1)]);
        assert_eq!((next.get(SessionId(1)), next.get(SessionId(2))), (None, Some(&known(2))));
        next.add(SessionId(4), known(4));
        assert_eq!(KnownSessions::of_dir(dir.path()).all, next.all);
        fs::write(dir.path().join(NAME), "{\"1\": ").expect("it is written");
        assert!(KnownSessions::of_dir(dir.path()).all.is_empty());
    }

    #[test]
    fn root_is_in_its_group() {
        let found = attributes(0, Claims::default());
        let groups = found.groups.expect("root has groups");
        assert_eq!(found.user.as_deref(), Some("root"));
        assert!(groups.iter().any(|group| group.gid == 0 && group.name.as_deref() == Some("root")));
        let nobody = attributes(u32::MAX - 7, Claims::default());
        assert_eq!((nobody.user, nobody.groups), (None, None));
    }
}
