//! Names of users and terminals.

use std::collections::HashMap;

/// Users that are remembered; a machine has few, and a flood of made-up ids must not grow the map.
const USERS_MAX: usize = 1024;

/// User names by id, each looked up once.
///
/// A name that is changed while the sensor runs shows after a restart; the id is in every entry.
#[derive(Debug, Default)]
pub struct Users {
    names: HashMap<u32, Option<String>>,
}

impl Users {
    /// The name of a user when the machine knows one.
    pub fn name(&mut self, uid: u32) -> Option<String> {
        if let Some(name) = self.names.get(&uid) {
            return name.clone();
        }
        let name = uzers::get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned());
        if self.names.len() >= USERS_MAX {
            self.names.clear();
        }
        self.names.insert(uid, name.clone());
        name
    }
}

/// The name of a terminal from its device number as in field 7 of /proc/PID/stat, such as `pts/3`.
///
/// Bits 31 to 20 and 7 to 0 are the minor number, bits 19 to 8 the major number. Numbers as in the kernel's list of
/// devices: 4 is consoles (below 64) and serial lines, 136 to 143 are pseudo terminals, 256 apart.
#[must_use]
pub fn tty(number: u32) -> Option<String> {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    match (major, minor) {
        (0, 0) => None,
        (4, 0..=63) => Some(format!("tty{minor}")),
        (4, _) => Some(format!("ttyS{}", minor - 64)),
        (5, 0) => Some("tty".to_owned()),
        (5, 1) => Some("console".to_owned()),
        (136..=143, _) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        _ => Some(format!("{major}:{minor}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_by_number() {
        for (number, name) in [
            (0, None),
            (34816, Some("pts/0")),
            (34819, Some("pts/3")),
            (1025, Some("tty1")),
            (1088, Some("ttyS0")),
            (0x501, Some("console")),
            (0xcc40, Some("204:64")),
            (136 << 8 | 0x10_0000, Some("pts/256")),
        ] {
            assert_eq!(tty(number).as_deref(), name, "{number:#x}");
        }
    }

    #[test]
    fn root_has_a_name() {
        let mut users = Users::default();
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(u32::MAX - 7), None);
    }
}
