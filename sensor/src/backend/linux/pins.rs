//! Programs and maps that stay in force when the sensor's process ends, however it ends: pinned in bpffs.
//!
//! ```text
//! <directory>/<fingerprint>/maps/NAME    every map
//! <directory>/<fingerprint>/links/N      the link of hook N, in the order of `hooks::of`
//! <directory>/<fingerprint>/complete/    made last: without it the start that made the others did not get far
//! ```
//!
//! A set's name is the fingerprint, and how records and labels are laid out, so that other builds know what they can read.
//! The fingerprint is that of everything that goes into the programs: object, offsets, settings, attach mode, and the
//! release of the kernel. A sensor that finds its own fingerprint takes over what is there, without a gap and without
//! the verifier. One that finds another loads its own programs with the labels of the other, reads what waits in the
//! other's rings, and removes the other's pins when its policy is in force: until then both refuse. bpffs holds no plain files, so what is not a pin is told by
//! directories.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};
use treeline_abi::Label;
use treeline_event::SessionId;

use super::{bpf, itself, labels::Labels, track};
use crate::backend::BackendError;

/// Says that a directory of pins has all of them.
const COMPLETE: &str = "complete";

/// The layout of labels: it and the size of a label say whether programs of another build can read them.
const LABEL_LAYOUT: u32 = 1;

/// How long the kernel may take to take programs away.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// The pins of one set of programs.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    /// Of all sets.
    root: PathBuf,
    /// Of this one.
    own: PathBuf,
}

impl Pins {
    /// The pins of programs that are made of these parts.
    pub(super) fn of(root: &Path, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let name = format!("{}-{}-{}", hex::encode(&hash.finalize()[..8]), records(), labels());
        Self { root: root.to_owned(), own: root.join(name) }
    }

    /// Whether everything is there to be taken over.
    pub(super) fn are_complete(&self) -> bool {
        self.own.join(COMPLETE).is_dir()
    }

    /// The directory of all sets.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of this set.
    pub(super) fn set(&self) -> &Path {
        &self.own
    }

    /// The maps that are pinned, by name.
    pub(super) fn maps(&self) -> Vec<(String, PathBuf)> {
        let Ok(listing) = fs::read_dir(self.own.join("maps")) else { return Vec::new() };
        let named = |entry: fs::DirEntry| Some((entry.file_name().to_str()?.to_owned(), entry.path()));
        listing.flatten().filter_map(named).collect()
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        map_of(&self.own, name)
    }

    /// Where the link of a hook is pinned.
    pub(super) fn link(&self, hook: usize) -> PathBuf {
        self.own.join("links").join(hook.to_string())
    }

    /// The program behind the link of a hook; none where the hook is not attached.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn program(&self, hook: usize) -> io::Result<Option<OwnedFd>> {
        let Some(link) = open(&self.link(hook))? else { return Ok(None) };
        let Some(id) = itself::program_of(&link)? else { return Ok(None) };
        bpf::program_by_id(id).map(Some)
    }

    /// The sets of other builds that label alike.
    pub(super) fn predecessors(&self) -> Vec<PathBuf> {
        let others = self.others().into_iter();
        others.filter(|path| path.join(COMPLETE).is_dir() && labels_alike(path)).collect()
    }

    /// Makes the directories, empty. What an unfinished start left is removed.
    ///
    /// # Errors
    /// There is no bpffs, or no right to write in it.
    pub(super) fn make(&self) -> io::Result<()> {
        remove(&self.own)?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(self.own.join("maps"))?;
        builder.create(self.own.join("links"))
    }

    /// Says that everything is there.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn complete(&self) -> io::Result<()> {
        fs::create_dir(self.own.join(COMPLETE))
    }

    /// Removes what other builds left.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn remove_others(&self) -> io::Result<()> {
        self.others().iter().try_for_each(|path| remove(path))
    }

    /// Removes its own, and with them what nobody else holds.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove(&self.own)
    }

    fn others(&self) -> Vec<PathBuf> {
        sets(&self.root).into_iter().filter(|path| *path != self.own).collect()
    }
}

/// Where a set pins a map.
pub(super) fn map_of(set: &Path, name: &str) -> PathBuf {
    set.join("maps").join(name)
}

/// The sets of pins below a directory.
pub fn sets(root: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(root) else { return Vec::new() };
    listing.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Whether the labels of a set are laid out as here.
fn labels_alike(set: &Path) -> bool {
    set.as_os_str().as_encoded_bytes().ends_with(format!("-{}", labels()).as_bytes())
}

/// The session that the calling process is in, by the labels that sets have pinned. Those of a build that labels in another
/// way cannot be read.
///
/// # Errors
/// The kernel's; `EPERM` is what its programs answer to sessions.
pub fn session_of_caller(root: &Path) -> io::Result<Option<SessionId>> {
    let own = track::key_of(std::process::id())?;
    for set in sets(root).into_iter().filter(|set| labels_alike(set)) {
        let found = Labels::of_set(&set)?.iter().find_map(|labels| track::label(labels, own));
        if let Some(label) = found {
            return Ok(Some(SessionId(label.session)));
        }
    }
    Ok(None)
}

/// Removes every set of pins, links first, and waits until the kernel has taken the programs away: from then on nothing
/// is refused that no running sensor refuses.
///
/// # Errors
/// [`BackendError::Io`]; also when a program is still there after [`GONE_AFTER`], because somebody else holds it.
pub fn detach_all(root: &Path) -> Result<usize, BackendError> {
    let found = sets(root);
    let programs: Vec<u32> = found.iter().flat_map(|set| programs(set)).collect();
    for set in &found {
        remove(set)
            .map_err(|source| BackendError::Io { attempt: format!("remove `{}`", set.display()), source })?;
    }
    // The kernel does it in the background.
    let started = Instant::now();
    while let Some(id) = programs.iter().find(|id| bpf::program_by_id(**id).is_ok()) {
        if started.elapsed() > GONE_AFTER {
            let source =
                io::Error::other(format!("program {id} is held by another process, see `bpftool link`"));
            return Err(BackendError::Io { attempt: "take the programs away".into(), source });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(found.len())
}

/// The programs behind the links of a set, by id.
pub(super) fn programs(set: &Path) -> Vec<u32> {
    let Ok(listing) = fs::read_dir(set.join("links")) else { return Vec::new() };
    let link = |entry: fs::DirEntry| bpf::pinned(&c_path(&entry.path()).ok()?).ok();
    let links = listing.flatten().filter_map(link);
    links.filter_map(|link| itself::program_of(&link).ok().flatten()).collect()
}

/// Whether the records of a set are laid out as those of this build.
pub(super) fn has_same_records(set: &Path) -> bool {
    let name = set.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let own = records();
    name.split('-').any(|part| part == own)
}

fn records() -> String {
    let mut hash = Sha256::new();
    for text in treeline_abi::RECORD_LAYOUT {
        hash.update(text);
    }
    format!("records{}", hex::encode(&hash.finalize()[..4]))
}

fn labels() -> String {
    format!("labels{LABEL_LAYOUT}x{}", size_of::<Label>())
}

/// Removes a set. `complete` goes first, so that nobody takes over half of it; links go before maps.
fn remove(set: &Path) -> io::Result<()> {
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    absent_is_fine(fs::remove_dir(set.join(COMPLETE)))?;
    for part in ["links", "maps"] {
        let Ok(listing) = fs::read_dir(set.join(part)) else { continue };
        for entry in listing.flatten() {
            fs::remove_file(entry.path())?;
        }
        absent_is_fine(fs::remove_dir(set.join(part)))?;
    }
    absent_is_fine(fs::remove_dir(set))
}

/// Pins the object behind a descriptor of this process.
///
/// # Errors
/// The kernel's.
pub(super) fn pin(descriptor: i32, path: &Path) -> io::Result<()> {
    bpf::pin(descriptor, &c_path(path)?)
}

/// The object that is pinned at a path, if there is one.
///
/// # Errors
/// The kernel's.
pub(super) fn open(path: &Path) -> io::Result<Option<OwnedFd>> {
    match bpf::pinned(&c_path(path)?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in bpffs: pins are files that can be removed.
    fn fill(pins: &Pins) {
        pins.make().expect("an empty set");
        fs::write(pins.map("LABELS"), "").expect("a pin");
        fs::write(pins.link(0), "").expect("a pin");
    }

    #[test]
    fn a_set_is_taken_over_when_it_is_complete_and_by_the_same_build_only() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (old, new) = (Pins::of(root.path(), &[b"a", b"b"]), Pins::of(root.path(), &[b"ab", b""]));
        fill(&old);
        assert!(!old.are_complete() && new.predecessors().is_empty());
        old.complete().expect("a directory");
        assert!(old.are_complete() && !new.are_complete());
        assert!(Pins::of(root.path(), &[b"a", b"b"]).are_complete());
        assert_eq!(new.predecessors(), std::slice::from_ref(&old.own));
        assert!(
            has_same_records(&old.own) && !has_same_records(&root.path().join("01-records02-labels1x72"))
        );
        fill(&new);
        new.complete().expect("a directory");
        new.remove_others().expect("they can be removed");
        assert_eq!(sets(root.path()), std::slice::from_ref(&new.own));
        assert_eq!(detach_all(root.path()).expect("removed"), 1);
        assert_eq!(sets(root.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_an_unfinished_start_left_is_replaced() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let pins = Pins::of(root.path(), &[b"a"]);
        fill(&pins);
        fill(&pins);
        pins.remove().expect("removed");
        pins.remove().expect("nothing to remove");
        assert_eq!(sets(root.path()), Vec::<PathBuf>::new());
    }
}
