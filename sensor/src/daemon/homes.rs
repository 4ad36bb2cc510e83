//! Whose home `~` stands for.

use std::{collections::BTreeMap, fs, path::PathBuf};

use uzers::os::unix::UserExt as _;

/// Bytes of /etc/passwd that are read: ten thousand users.
const PASSWD_LEN_MAX: u64 = 1 << 20;

/// People; below are system accounts, which have no agents. Root is added.
const UID_MIN: u32 = 1000;

/// `nobody`.
const UID_NOBODY: u32 = 65_534;

/// Homes by user.
#[derive(Clone, Debug, Default)]
pub struct Homes(BTreeMap<u32, PathBuf>);

impl Homes {
    /// Those of the users that /etc/passwd lists. Users of a directory service are learnt when they come.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let short = fs::metadata("/etc/passwd").is_ok_and(|metadata| metadata.len() <= PASSWD_LEN_MAX);
        let text = if short { fs::read_to_string("/etc/passwd").unwrap_or_default() } else { String::new() };
        Self::of_passwd(&text)
    }

    fn of_passwd(text: &str) -> Self {
        let home = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let (uid, home) = (fields.get(2)?.parse().ok()?, *fields.get(5)?);
            let person = uid == 0 || (uid >= UID_MIN && uid != UID_NOBODY);
            (person && home.starts_with('/') && home != "/").then(|| (uid, PathBuf::from(home)))
        };
        Self(text.lines().filter_map(home).collect())
    }

    /// Makes sure that a user's home is known. Says whether it was not.
    pub fn learn(&mut self, uid: u32) -> bool {
        if self.0.contains_key(&uid) {
            return false;
        }
        let home = uzers::get_user_by_uid(uid).map(|user| user.home_dir().to_owned());
        match home.filter(|home| home.is_absolute() && home.parent().is_some()) {
            Some(home) => self.0.insert(uid, home).is_none(),
            None => false,
        }
    }

    /// Undoes [`Homes::learn`].
    pub fn forget(&mut self, uid: u32) {
        self.0.remove(&uid);
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> Vec<(u32, PathBuf)> {
        self.0.iter().map(|(uid, home)| (*uid, home.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_root() {
        let text = "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/usr/sbin:/x\nann:x:1000:1000:A,,:/home/ann:/bin/sh\n\
                    nobody:x:65534:1::/nonexistent:/x\nodd:x:1001:1::/:/x\n:::\nrel:x:1002:1::home:/x\n";
        let homes = Homes::of_passwd(text).list();
        assert_eq!(homes, [(0, PathBuf::from("/root")), (1000, PathBuf::from("/home/ann"))]);
    }

    #[test]
    fn a_known_user_is_not_learnt_again() {
        let mut homes = Homes::default();
        let new = homes.learn(0);
        assert!(new && !homes.learn(0));
        homes.forget(0);
        assert!(homes.learn(0));
    }
}
