//! What files hold, by identity, and the kernel's table of it.

use std::{collections::HashMap, io, os::fd::AsFd as _, sync::Arc};

use aya::{
    Ebpf,
    maps::{Array, HashMap as KernelMap, Map, MapData, MapError},
};
use treeline_abi::{
    content::{Content, Hold, IMAGES_MAX, bucket},
    paths::{FileKey, ImageRules, NO_RULE, SLOTS},
};
use treeline_event::{FileId, PathBytes};
use treeline_policy::Tables;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::super::{duplicate, file_key};
use crate::backend::BackendError;

/// Files that are remembered. The kernel's table has some more room, for what another sensor left in it.
const FILES_MAX: usize = 15_000;

type Key = [u8; size_of::<FileKey>()];
type Value = [u8; size_of::<Content>()];

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    sha256: [u8; 32],
    /// Its own path; empty when it is not known for certain.
    path: PathBytes,
    /// Those of [`Content`].
    flags: u32,
    writers: u64,
    used: u64,
}

/// The kernel's tables.
struct Kernel {
    images: KernelMap<MapData, Key, Value>,
    writers: Array<MapData, u64>,
    holds: Array<MapData, [u8; size_of::<Hold>()]>,
}

/// What is known.
#[derive(Default)]
pub(in crate::backend::linux) struct Contents {
    /// None in tests.
    kernel: Option<Kernel>,
    files: HashMap<FileId, File>,
    /// What contents mean, by slot.
    slots: [Option<Arc<Tables>>; SLOTS as usize],
    /// What another sensor knew, and the mark of the policy that its answers are for.
    inherited: (u64, Vec<(Key, ImageRules)>),
    uses: u64,
}

impl Contents {
    /// Nothing is known yet.
    ///
    /// # Errors
    /// [`BackendError`] when the tables cannot be had.
    pub(in crate::backend::linux) fn of(ebpf: &Ebpf) -> Result<Self, BackendError> {
        let images = KernelMap::try_from(map(ebpf, "IMAGES")?).map_err(failed)?;
        let writers = Array::try_from(map(ebpf, "WRITERS")?).map_err(failed)?;
        let holds = Array::try_from(map(ebpf, "HOLDS")?).map_err(failed)?;
        Ok(Self { kernel: Some(Kernel { images, writers, holds }), ..Self::default() })
    }

    /// Takes over what another sensor knew while the policy with this mark was in force in this slot.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(in crate::backend::linux) fn take_over(
        &mut self,
        policy: u64,
        slot: u32,
    ) -> Result<(), BackendError> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let mut found = Vec::new();
        for entry in kernel.images.iter() {
            let (key, value) = entry.map_err(failed)?;
            if let Ok(content) = Content::read_from_bytes(&value) {
                found.push((key, content.rules[(slot % SLOTS) as usize]));
            }
        }
        self.inherited = (policy, found);
        Ok(())
    }

    /// How often files that share a counter with this one were opened for writing.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(super) fn writers(&self, file: &FileId) -> Result<u64, BackendError> {
        let Some(kernel) = &self.kernel else { return Ok(0) };
        let key = file_key(file);
        kernel.writers.get(&bucket(key.device, key.inode), 0).map_err(failed)
    }

    /// The content of a file that was read while nobody could write to it, and that has not been written to since. With
    /// `counted` also where only the kernel programs tell whether it has.
    pub(super) fn sure(&mut self, file: &FileId, counted: bool) -> Option<[u8; 32]> {
        let writers = self.writers(file).ok()?;
        self.uses += 1;
        let known = self.files.get_mut(file).filter(|known| known.flags & Content::SURE != 0)?;
        known.used = self.uses;
        let is_counted = known.flags & Content::COUNTED != 0;
        (!is_counted || counted && known.writers == writers).then_some(known.sha256)
    }

    /// Whether it was read so once.
    pub(super) fn is_sure(&self, file: &FileId) -> bool {
        self.files.get(file).is_some_and(|known| known.flags & Content::SURE != 0)
    }

    /// The content of a file, as far as somebody has seen it.
    pub(in crate::backend::linux) fn sha256(&self, file: &FileId) -> Option<[u8; 32]> {
        self.files.get(file).map(|known| known.sha256)
    }

    /// Remembers what a file holds that was read while nobody could write to it.
    ///
    /// # Errors
    /// [`BackendError::Io`] when the kernel does not take it: the file is not known then.
    pub(super) fn learn(
        &mut self,
        file: &FileId,
        sha256: [u8; 32],
        path: PathBytes,
        flags: u32,
        writers: u64,
    ) -> Result<(), BackendError> {
        self.remember(file, File { sha256, path, flags: flags | Content::SURE, writers, used: 0 })
    }

    /// Remembers what a file was seen to hold.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(in crate::backend::linux) fn note(
        &mut self,
        path: &PathBytes,
        file: &FileId,
        sha256: &[u8; 32],
    ) -> Result<(), BackendError> {
        let known = self.files.get(file).filter(|known| known.flags & Content::SURE != 0);
        let seen = File { sha256: *sha256, path: path.clone(), flags: 0, writers: 0, used: 0 };
        match known {
            // What was read with more care stays, but the kernel knows its path better.
            Some(known) if known.path != *path => {
                self.remember(file, File { path: path.clone(), ..known.clone() })
            }
            Some(_) => Ok(()),
            None => self.remember(file, seen),
        }
    }

    /// Makes the table ready for the policy that will be in force in its slot; that of the other slot stays.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(in crate::backend::linux) fn prepare(&mut self, tables: &Arc<Tables>) -> Result<(), BackendError> {
        let slot = tables.slot % SLOTS;
        self.slots[slot as usize] = Some(Arc::clone(tables));
        if self.inherited.0 != tables.table.policy {
            self.forget_inherited()?;
        }
        let inherited = std::mem::take(&mut self.inherited.1);
        for (key, rules) in &inherited {
            self.inherit(key, *rules)?;
        }
        self.inherited.1 = inherited;
        let files: Vec<FileId> = self.files.keys().copied().collect();
        for file in files {
            self.publish(&file)?;
        }
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let mut hold = [0; size_of::<Hold>()];
        hold.copy_from_slice(tables.hold.as_bytes());
        kernel.holds.set(slot, hold, 0).map_err(failed)
    }

    /// The same answer, whichever slot the same policy is in.
    fn inherit(&mut self, key: &Key, rules: ImageRules) -> Result<(), BackendError> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let value = match kernel.images.get(key, 0) {
            Ok(value) => value,
            Err(MapError::KeyNotFound) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let Ok(mut content) = Content::read_from_bytes(&value) else { return Ok(()) };
        content.rules = [rules; SLOTS as usize];
        kernel.images.insert(key, bytes(&content), 0).map_err(failed)
    }

    fn forget_inherited(&mut self) -> Result<(), BackendError> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        for (key, _) in std::mem::take(&mut self.inherited.1) {
            absent_is_fine(kernel.images.remove(&key))?;
        }
        Ok(())
    }

    fn remember(&mut self, file: &FileId, mut known: File) -> Result<(), BackendError> {
        if self.files.len() >= FILES_MAX && !self.files.contains_key(file) {
            self.evict()?;
        }
        self.uses += 1;
        known.used = self.uses;
        self.files.insert(*file, known);
        self.publish(file)
    }

    /// An eighth at once: those that no rule is about first, and of them those that were not used for longest.
    fn evict(&mut self) -> Result<(), BackendError> {
        let mut order: Vec<(bool, u64, FileId)> = self
            .files
            .iter()
            .map(|(file, known)| {
                let matters = (0..SLOTS).map(|slot| self.rules(slot, known)).any(|rules| {
                    rules.exec_rule != NO_RULE || rules.subject.sets | rules.subject.lineage != 0
                });
                (matters, known.used, *file)
            })
            .collect();
        order.sort_unstable_by_key(|(matters, used, _)| (*matters, *used));
        for (_, _, file) in order.into_iter().take(FILES_MAX / 8) {
            self.files.remove(&file);
            self.publish(&file)?;
        }
        Ok(())
    }

    /// What a file means to the policy of a slot.
    fn rules(&self, slot: u32, known: &File) -> ImageRules {
        let Some(tables) = &self.slots[(slot % SLOTS) as usize] else { return ImageRules::default() };
        let path = (!known.path.as_bytes().is_empty()).then(|| known.path.as_bytes());
        let rules = tables.image_rules(&known.sha256, path);
        // Where nothing is asked of subjects by content, nobody needs to be told that this one is known.
        if tables.asks_for_content() || rules.exec_rule != NO_RULE { rules } else { ImageRules::default() }
    }

    /// Brings the kernel's entry of a file up to date.
    fn publish(&mut self, file: &FileId) -> Result<(), BackendError> {
        let known = self.files.get(file);
        let content = known.map(|known| Content {
            rules: [self.rules(0, known), self.rules(1, known)],
            writers: known.writers,
            flags: known.flags,
            pad: 0,
        });
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let key: Key = bytes(&file_key(file));
        let is_of_use = |content: &Content| {
            content.flags & Content::SURE != 0
                || content.rules.iter().any(|rules| *rules != ImageRules::default())
        };
        match content.filter(is_of_use) {
            None => absent_is_fine(kernel.images.remove(&key)),
            Some(content) => match kernel.images.insert(key, bytes(&content), 0) {
                Ok(()) => Ok(()),
                // What another sensor left takes the room.
                Err(_) if !self.inherited.1.is_empty() => {
                    self.forget_inherited()?;
                    let Some(kernel) = &mut self.kernel else { return Ok(()) };
                    kernel.images.insert(key, bytes(&content), 0).map_err(failed)
                }
                Err(error) => Err(failed(error)),
            },
        }
    }
}

const _: () = assert!(FILES_MAX < IMAGES_MAX as usize);

fn map(ebpf: &Ebpf, name: &str) -> Result<Map, BackendError> {
    let Some(Map::HashMap(map) | Map::Array(map)) = ebpf.map(name) else {
        return Err(BackendError::Unsupported(format!(
            "the kernel object has no map `{name}`: rebuild with `cargo xtask build`"
        )));
    };
    let own = MapData::from_fd(duplicate(&map.fd().as_fd())?).map_err(failed)?;
    Map::from_map_data(own).map_err(failed)
}

fn bytes<T: zerocopy::IntoBytes + zerocopy::Immutable, const N: usize>(value: &T) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(value.as_bytes());
    out
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), BackendError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: MapError) -> BackendError {
    BackendError::Io {
        attempt: "fill the kernel's table of files by content".to_owned(),
        source: io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> FileId {
        FileId { inode, ..FileId::default() }
    }

    #[test]
    fn what_was_read_with_care_is_not_replaced_by_what_was_seen() {
        let mut contents = Contents::default();
        contents.note(&"/a".into(), &file(1), &[1; 32]).expect("noted");
        assert_eq!((contents.sure(&file(1), true), contents.sha256(&file(1))), (None, Some([1; 32])));
        contents.learn(&file(1), [2; 32], PathBytes::default(), 0, 0).expect("learnt");
        contents.note(&"/b".into(), &file(1), &[3; 32]).expect("noted");
        assert_eq!(contents.sure(&file(1), false), Some([2; 32]));
        assert_eq!(contents.files[&file(1)].path, "/b".into());
    }

    #[test]
    fn only_kernel_programs_tell_whether_some_files_were_written_to() {
        let mut contents = Contents::default();
        let check = |contents: &mut Contents, counted, expect: Option<[u8; 32]>| {
            assert_eq!(contents.sure(&file(1), counted), expect);
        };
        contents.learn(&file(1), [1; 32], PathBytes::default(), Content::COUNTED, 0).expect("learnt");
        check(&mut contents, true, Some([1; 32]));
        check(&mut contents, false, None);
        contents.learn(&file(1), [1; 32], PathBytes::default(), Content::COUNTED, 7).expect("learnt");
        check(&mut contents, true, None);
    }

    #[test]
    fn bounded_and_the_used_stay() {
        let mut contents = Contents::default();
        for inode in 0..FILES_MAX as u64 + 10 {
            contents.learn(&file(inode), [0; 32], PathBytes::default(), 0, 0).expect("learnt");
            assert!(contents.sure(&file(0), true).is_some());
            assert!(contents.files.len() <= FILES_MAX);
        }
        assert!(!contents.is_sure(&file(1)));
    }
}
