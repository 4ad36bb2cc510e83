//! Approvals as entries of the kernel's table, see `treeline_abi::grant`.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use treeline_abi::{
    grant::{Grant, GrantKey, ObjectKind, abstract_hash, path_hash, port_and_family},
    label::Image,
    network::AbstractRule,
};
use treeline_policy::Tables;

use super::{LinuxBackend, mounts::MountTable};
use crate::backend::{Approved, ApprovedObject, BackendError};

/// The approvals that hold, for the guard: it asks the same list.
pub(super) type Approvals = Arc<Mutex<Vec<Approved>>>;

impl LinuxBackend {
    /// See [`Backend::approve`](crate::backend::Backend::approve).
    pub(super) fn put_approvals(&mut self, approved: &[Approved]) -> Result<(), BackendError> {
        let Some(in_force) = &mut self.in_force else {
            return Err(BackendError::Policy("no policy is in force".to_owned()));
        };
        let grants = grants(approved, &in_force.tables, &self.decoder.mounts);
        // Of those before, the object may be gone meanwhile.
        let is_new = |last: &&Approved| !in_force.installable.approved.contains(last);
        let has_none = |last: &Approved| !grants.iter().any(|(denial, ..)| *denial == last.denial);
        if approved.last().filter(is_new).is_some_and(has_none) {
            return Err(BackendError::Unsupported(
                "the object is on a filesystem that is not mounted where the sensor can see it, or another one hides it".to_owned(),
            ));
        }
        self.kernel_tables.put_grants(&mut self.ebpf, in_force.tables.slot, &entries(&grants))?;
        in_force.installable.approved = approved.to_vec();
        *self.approvals.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = approved.to_vec();
        Ok(())
    }
}

/// The entries of approvals for tables, each with the denial that it is of.
pub(super) fn grants(
    approved: &[Approved],
    tables: &Tables,
    mounts: &MountTable,
) -> Vec<(u64, GrantKey, Grant)> {
    let mut found = Vec::new();
    for one in approved {
        let Some((kind, identity)) = identity(&one.object, tables.table.seed, mounts) else { continue };
        let image = Image { device: one.image.device, pad: 0, inode: one.image.inode };
        let rules = one.rules.iter().filter_map(|id| tables.info.iter().position(|info| info.id == *id));
        for rule in rules {
            let key = GrantKey::of(tables.slot, rule as u32 + 1, one.session.0, &image);
            let key = GrantKey { object: kind as u32, identity, ..key };
            found.push((one.denial, key, Grant::of(&key, one.operations, one.until_ns)));
        }
    }
    found
}

/// The same as the table takes them: of two about the same object each operation lasts as long as it was approved.
pub(super) fn entries(grants: &[(u64, GrantKey, Grant)]) -> Vec<(GrantKey, Grant)> {
    let mut entries: Vec<(GrantKey, Grant)> = Vec::new();
    for (_, key, grant) in grants {
        match entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = known.or(*grant),
            None => entries.push((*key, *grant)),
        }
    }
    entries
}

fn identity(object: &ApprovedObject, seed: u64, mounts: &MountTable) -> Option<(ObjectKind, [u64; 3])> {
    match object {
        ApprovedObject::File { path, inode, device } => {
            let (found, inner) = mounts.locate(path.as_bytes())?;
            // Another filesystem hides it by now.
            if device.is_some_and(|device| device != found) {
                return None;
            }
            Some((ObjectKind::File, [path_hash(seed, &inner)?, *inode, u64::from(found)]))
        }
        ApprovedObject::Address(address) => {
            let mut bytes = [0u8; 16];
            let family = match address {
                SocketAddr::V4(v4) => {
                    bytes[..4].copy_from_slice(&v4.ip().octets());
                    libc::AF_INET
                }
                SocketAddr::V6(v6) => {
                    bytes = v6.ip().octets();
                    libc::AF_INET6
                }
            };
            let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
            let port = port_and_family(u32::from(address.port()), family as u32);
            Some((ObjectKind::Address, [word(0), word(8), port]))
        }
        ApprovedObject::Abstract(name) => {
            let [words, _] = AbstractRule::words_of(name.as_bytes());
            let hash = abstract_hash(seed, name.as_bytes().len() as u32, &words);
            Some((ObjectKind::Abstract, [hash, 0, 0]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 /sub /srv rw - ext4 /dev/sda2 rw\n";

    #[test]
    fn objects_are_told_apart() {
        let mounts = MountTable::parse(MOUNTS).expect("a table");
        let of = |object: ApprovedObject| identity(&object, 7, &mounts);
        let file = |path: &str, inode, device| ApprovedObject::File { path: path.into(), inode, device };
        let there = of(file("/srv/a", 5, Some(8 << 20 | 2))).expect("it is somewhere");
        assert_eq!(there.1[1..], [5, 8 << 20 | 2]);
        // By its own path on its filesystem, whatever the mount's place.
        assert_eq!(there.1[0], path_hash(7, b"/sub/a").expect("a path"));
        assert_eq!(of(file("/srv/a", 5, None)), Some(there));
        assert_eq!(of(file("/srv/a", 5, Some(8 << 20 | 1))), None, "on another filesystem");
        assert_ne!(of(file("/srv/a", 6, None)), Some(there));
        assert_ne!(of(file("/srv/b", 5, None)), Some(there));
        let address = |text: &str| of(ApprovedObject::Address(text.parse().expect("an address")));
        assert_ne!(address("10.0.0.1:443"), address("10.0.0.1:444"));
        assert_ne!(address("10.0.0.1:443"), address("[::ffff:10.0.0.1]:443"));
        assert_eq!(address("[::1]:5").map(|(kind, _)| kind), Some(ObjectKind::Address));
        let name = |text: &str| of(ApprovedObject::Abstract(text.into()));
        assert_ne!(name("a"), name("b"));
        assert_ne!(name("a"), name("a\0"));
    }

    #[test]
    fn the_longer_of_two_approvals_counts() {
        let key = GrantKey::default();
        let grant = |expires_ns, operations| Grant::of(&key, operations, expires_ns);
        let check = |given: &[Grant], expect: Grant| {
            let given: Vec<_> = given.iter().map(|grant| (1, key, *grant)).collect();
            assert_eq!(entries(&given), [(key, expect)]);
        };
        check(&[grant(5, 1), grant(9, 1)], grant(9, 1));
        check(&[grant(9, 1), grant(5, 1)], grant(9, 1));
        // No operation lasts longer than somebody has approved, and none is shorter for another one.
        let both = Grant { expires_ns: [9, 5, 0, 0, 0, 0, 0, 0], ..grant(0, 0) };
        check(&[grant(9, 1), grant(5, 3)], both);
        check(&[grant(5, 2), grant(9, 1)], both);
    }
}
