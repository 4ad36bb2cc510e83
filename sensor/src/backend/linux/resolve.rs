//! Where the paths of a policy are on this machine, for the policy compiler.

use std::{
    ffi::OsStr,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use treeline_policy::{Located, Mount, Resolver};

use super::mounts::MountTable;

impl Resolver for MountTable {
    fn locate(&self, path: &[u8]) -> Vec<Located> {
        let mut found: Vec<Located> = Vec::new();
        for candidate in [Some(path.to_vec()), without_links(path)].into_iter().flatten() {
            if let Some((device, inner)) = MountTable::locate(self, &candidate) {
                let place = Located { device, inner };
                if !found.contains(&place) {
                    found.push(place);
                }
            }
        }
        found
    }

    fn locate_itself(&self, path: &[u8]) -> Option<Located> {
        MountTable::locate(self, path).map(|(device, inner)| Located { device, inner })
    }

    fn mounts_below(&self, path: &[u8]) -> Vec<Mount> {
        self.below(path).map(mount_of).collect()
    }

    fn mounts_of(&self, device: u32) -> Vec<Mount> {
        self.of(device).map(mount_of).collect()
    }
}

fn mount_of(mount: &super::mounts::Mount) -> Mount {
    Mount { point: mount.point.clone(), root: Located { device: mount.device, inner: mount.root.clone() } }
}

/// The path with the links of its longest existing prefix followed.
fn without_links(path: &[u8]) -> Option<Vec<u8>> {
    let whole = Path::new(OsStr::from_bytes(path));
    for prefix in whole.ancestors() {
        if let Ok(real) = prefix.canonicalize() {
            let rest = whole.strip_prefix(prefix).ok()?;
            let joined = if rest.as_os_str().is_empty() { real } else { real.join(rest) };
            return Some(joined.into_os_string().into_vec());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_are_followed() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let base = scratch.path().canonicalize().expect("it exists");
        std::fs::create_dir(base.join("real")).expect("a directory");
        std::os::unix::fs::symlink("real", base.join("link")).expect("a link");
        let table = MountTable::read().expect("/proc is mounted");
        let path = base.join("link/not/there");
        let places = Resolver::locate(&table, path.as_os_str().as_bytes());
        let real = base.join("real/not/there");
        let expect = MountTable::locate(&table, real.as_os_str().as_bytes()).expect("it is on a filesystem");
        assert_eq!(places.len(), 2);
        assert!(places.contains(&Located { device: expect.0, inner: expect.1 }));
    }
}
