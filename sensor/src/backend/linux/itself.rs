//! What the kernel programs have to keep tracked tasks away from: this process, and the objects that it holds.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use treeline_abi::sensor::ObjectKey;

use super::track;
use crate::backend::BackendError;

/// What /proc calls a descriptor of an object, the attribute of `fdinfo` that has its id, and what it is.
const SORTS: [(&str, &str, u32); 4] = [
    ("anon_inode:bpf-map", "map_id:", ObjectKey::MAP),
    ("anon_inode:bpf-prog", "prog_id:", ObjectKey::PROGRAM),
    ("anon_inode:bpf_link", "link_id:", ObjectKey::LINK),
    // One that was had by its id or from bpffs.
    ("anon_inode:bpf-link", "link_id:", ObjectKey::LINK),
];

/// Tells the kernel programs of this process, of every map, program and link that it holds, and of the filesystems that
/// must stay mounted for what is pinned in `pin_dir`.
///
/// # Errors
/// [`BackendError`] when /proc cannot be read or a table is full.
pub(super) fn protect(ebpf: &mut Ebpf, pin_dir: Option<&Path>) -> Result<(), BackendError> {
    let failed =
        |source| BackendError::Io { attempt: "find out what of the sensor to protect".into(), source };
    let own = track::key_of(std::process::id()).map_err(failed)?;
    let mut objects = objects().map_err(failed)?;
    objects.extend(pin_dir.map(filesystems).unwrap_or_default());
    objects.extend(cgroups());
    let full = |error: aya::maps::MapError| BackendError::Io {
        attempt: "tell the kernel programs of the sensor".into(),
        source: io::Error::other(error),
    };
    let mut sensors = map::<u32, u64>(ebpf, "SENSORS")?;
    // Those that ended, when their maps were taken over.
    let before: Vec<u32> = sensors.keys().flatten().filter(|pid| *pid != own.pid).collect();
    sensors.insert(own.pid, own.start_ticks, 0).map_err(full)?;
    for pid in before {
        sensors.remove(&pid).map_err(full)?;
    }
    let mut known = map::<[u8; size_of::<ObjectKey>()], u32>(ebpf, "OBJECTS")?;
    for object in objects {
        let key: [u8; size_of::<ObjectKey>()] = zerocopy::transmute!(object);
        known.insert(key, 0, 0).map_err(full)?;
    }
    Ok(())
}

fn map<'e, K: aya::Pod, V: aya::Pod>(
    ebpf: &'e mut Ebpf,
    name: &str,
) -> Result<HashMap<&'e mut MapData, K, V>, BackendError> {
    let missing = || BackendError::Unsupported(format!("the kernel object has no map `{name}`"));
    HashMap::try_from(ebpf.map_mut(name).ok_or_else(missing)?)
        .map_err(|error| BackendError::Unsupported(format!("map `{name}`: {error}")))
}

/// The descriptor of the newest link of this process, by its id.
pub(super) fn newest_link() -> io::Result<Option<i32>> {
    let mut newest = None;
    for (descriptor, object) in descriptors()? {
        if object.kind == ObjectKey::LINK && newest.is_none_or(|(id, _)| id < object.id) {
            newest = Some((object.id, descriptor));
        }
    }
    Ok(newest.map(|(_, descriptor)| descriptor))
}

/// The id of the program that a link attaches.
pub(super) fn program_of(link: &OwnedFd) -> io::Result<Option<u32>> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
    Ok(id(&info, "prog_id:"))
}

/// The filesystems from the one of a directory up to that of the root, which is not among them: whoever makes a root
/// directory of its own takes the old one away.
fn filesystems(directory: &Path) -> Vec<ObjectKey> {
    let root = fs::metadata("/").map(|root| root.dev()).ok();
    let devices = directory.ancestors().filter_map(|above| Some(fs::metadata(above).ok()?.dev()));
    let mut ids: Vec<u32> = devices.filter(|device| Some(*device) != root).map(kernel_device).collect();
    ids.dedup();
    ids.into_iter().map(|id| ObjectKey { kind: ObjectKey::FILESYSTEM, id }).collect()
}

/// The control group of this process and those above it, without the root: its files concern nobody in particular.
fn cgroups() -> Vec<ObjectKey> {
    let (Ok(root), Ok(own)) = (super::mounts::cgroup2_root(), fs::read_to_string("/proc/self/cgroup")) else {
        return Vec::new();
    };
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let groups = Path::new(own).ancestors().filter(|group| !group.as_os_str().is_empty());
    let inodes = groups.filter_map(|group| Some(fs::metadata(Path::new(&root).join(group)).ok()?.ino()));
    inodes.map(|inode| ObjectKey { kind: ObjectKey::CGROUP, id: inode as u32 }).collect()
}

/// As `s_dev` has it (include/linux/kdev_t.h).
fn kernel_device(device: u64) -> u32 {
    rustix::fs::major(device) << 20 | rustix::fs::minor(device)
}

/// The objects behind this process's descriptors.
fn objects() -> io::Result<Vec<ObjectKey>> {
    Ok(descriptors()?.into_iter().map(|(_, object)| object).collect())
}

fn descriptors() -> io::Result<Vec<(i32, ObjectKey)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let (Ok(target), name) = (fs::read_link(entry.path()), entry.file_name()) else { continue };
        let Some((_, attribute, kind)) =
            SORTS.iter().find(|(sort, ..)| target.as_os_str().as_encoded_bytes() == sort.as_bytes())
        else {
            continue;
        };
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", name.to_string_lossy()))?;
        if let Some(id) = id(&info, attribute) {
            let Ok(descriptor) = name.to_string_lossy().parse() else { continue };
            found.push((descriptor, ObjectKey { kind: *kind, id }));
        }
    }
    Ok(found)
}

fn id(info: &str, attribute: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix(attribute)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_objects() {
        let check = |info, attribute, expect| assert_eq!(id(info, attribute), expect, "{info}");
        check("pos:\t0\nmap_type:\t2\nmap_id:\t17\n", "map_id:", Some(17));
        check("link_type:\ttracing\nlink_id:\t3\nprog_id:\t9\n", "link_id:", Some(3));
        check("pos:\t0\n", "map_id:", None);
        check("map_id:\tx\n", "map_id:", None);
    }
}
