//! The kernel programs as the running kernel can take them: one object is for all kernels, and the verifier drops what a
//! setting rules out, but some things it refuses before it looks whether they are ever reached.
//!
//! Before anything else it resolves what instructions refer to. Kernels before 5.13 know no references to functions,
//! which callbacks are. Kernels before 6.8 check a global function also if nobody can reach a call of it. So a reference
//! that is for other kernels is replaced by a plain number in the bytes of the object, and its relocation is moved to
//! where there is no instruction; the loader then leaves out what nothing refers to. Kernels before 5.11 know no task
//! storage either: its map becomes a hash map that nobody uses.

use treeline_abi::Settings;
use zerocopy::IntoBytes as _;

/// The object's bytes, at an address that an ELF header may have.
pub(super) struct Suited(Vec<u64>, usize);

impl Suited {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.as_bytes()[..self.1]
    }
}

/// The object is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel programs' object cannot be made ready for this kernel: {0}")]
pub(super) struct UnsuitedError(&'static str);

/// The object for a kernel of these settings.
///
/// # Errors
/// [`UnsuitedError`]: the object is malformed.
pub(super) fn suited(object: &[u8], settings: &Settings) -> Result<Suited, UnsuitedError> {
    let mut bytes = object.to_vec();
    let is_older = settings.older != 0;
    drop_references(&mut bytes, is_older).ok_or(UnsuitedError("its relocations are malformed"))?;
    if is_older {
        replace_task_storage(&mut bytes).ok_or(UnsuitedError("its types are malformed"))?;
    }
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    words.as_mut_bytes()[..bytes.len()].copy_from_slice(&bytes);
    Ok(Suited(words, bytes.len()))
}

/// `SHT_SYMTAB`, `SHT_REL`, `SHF_EXECINSTR` (System V ABI).
const SYMBOLS: u32 = 2;
const RELOCATIONS: u32 = 9;
const EXECUTABLE: u64 = 4;
const SECTION_HEADER_LEN: usize = 64;
const SYMBOL_LEN: usize = 24;
const RELOCATION_LEN: usize = 16;

/// `R_BPF_64_64` is on a load of an address, `R_BPF_64_32` on a call.
const ADDRESS: u32 = 1;
const CALL: u32 = 10;

/// Behind every section.
const NOWHERE: u64 = u64::MAX - 7;

/// `r0 = 0`.
const RETURNS_ZERO: [u8; 8] = [0xb7, 0, 0, 0, 0, 0, 0, 0];

/// A section header.
#[derive(Clone, Copy)]
struct Section {
    /// Where its name begins among the names of sections.
    name: usize,
    kind: u32,
    flags: u64,
    offset: usize,
    len: usize,
    link: usize,
    info: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes).map(usize::from)
}

fn size_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64_at(bytes, at)?).ok()
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) -> Option<()> {
    bytes.get_mut(at..at.checked_add(new.len())?)?.copy_from_slice(new);
    Some(())
}

/// The text that begins at a place of a section of texts.
fn text_at(bytes: &[u8], texts: Section, at: usize) -> Option<&[u8]> {
    bytes.get(texts.offset.checked_add(at)?..)?.split(|byte| *byte == 0).next()
}

fn sections(bytes: &[u8]) -> Option<Vec<Section>> {
    let start = size_at(bytes, 0x28)?;
    let section = |index: usize| {
        let at = start.checked_add(index * SECTION_HEADER_LEN)?;
        Some(Section {
            name: u32_at(bytes, at)? as usize,
            kind: u32_at(bytes, at.saturating_add(4))?,
            flags: u64_at(bytes, at.saturating_add(8))?,
            offset: size_at(bytes, at.saturating_add(24))?,
            len: size_at(bytes, at.saturating_add(32))?,
            link: u32_at(bytes, at.saturating_add(40))? as usize,
            info: u32_at(bytes, at.saturating_add(44))? as usize,
        })
    };
    (0..u16_at(bytes, 0x3c)?).map(section).collect()
}

/// Takes out references to callbacks on an older kernel, and calls of functions that are for others.
fn drop_references(bytes: &mut [u8], is_older: bool) -> Option<()> {
    let sections = sections(bytes)?;
    let unwanted = if is_older { Settings::NEWER_PREFIX } else { Settings::OLDER_PREFIX };
    for relocations in sections.iter().filter(|section| section.kind == RELOCATIONS) {
        let target = sections.get(relocations.info)?;
        if target.flags & EXECUTABLE == 0 {
            continue;
        }
        for number in 0..relocations.len / RELOCATION_LEN {
            let at = relocations.offset.saturating_add(number * RELOCATION_LEN);
            let place = target.offset.checked_add(size_at(bytes, at)?)?;
            let (kind, symbol) =
                (u32_at(bytes, at.saturating_add(8))?, u32_at(bytes, at.saturating_add(12))? as usize);
            let (name, is_code) = symbol_of(bytes, &sections, relocations.link, symbol)?;
            match kind {
                CALL if name.starts_with(unwanted.as_bytes()) => put(bytes, place, &RETURNS_ZERO)?,
                ADDRESS if is_code && is_older => {
                    // Both halves of the load's number.
                    put(bytes, place.saturating_add(4), &[0; 4])?;
                    put(bytes, place.saturating_add(12), &[0; 4])?;
                }
                _ => continue,
            }
            put(bytes, at, &NOWHERE.to_le_bytes())?;
        }
    }
    Some(())
}

/// Name of a symbol, and whether it is in a section of instructions.
fn symbol_of(bytes: &[u8], sections: &[Section], table: usize, index: usize) -> Option<(Vec<u8>, bool)> {
    let table = sections.get(table).filter(|section| section.kind == SYMBOLS)?;
    let at = table.offset.checked_add(index.checked_mul(SYMBOL_LEN)?)?;
    let names = sections.get(table.link)?;
    let name = text_at(bytes, *names, u32_at(bytes, at)? as usize)?;
    let section = sections.get(u16_at(bytes, at.saturating_add(6))?);
    Some((name.to_vec(), section.is_some_and(|section| section.flags & EXECUTABLE != 0)))
}

/// `BPF_MAP_TYPE_HASH`, `BPF_MAP_TYPE_TASK_STORAGE`.
const HASH: u32 = 1;
const TASK_STORAGE: u32 = 29;

/// What each type begins with, in bytes (include/uapi/linux/btf.h).
const TYPE_LEN: usize = 12;
/// `BTF_KIND_ARRAY`.
const ARRAY: u32 = 3;

/// A map's type is the length of an array in its definition; no other array of the object is as long.
fn replace_task_storage(bytes: &mut [u8]) -> Option<()> {
    let sections = sections(bytes)?;
    let names = *sections.get(u16_at(bytes, 0x3e)?)?;
    let types = sections.iter().find(|section| text_at(bytes, names, section.name) == Some(b".BTF"))?;
    let start = types.offset.checked_add(u32_at(bytes, types.offset.saturating_add(4))? as usize)?;
    let end = start.checked_add(u32_at(bytes, types.offset.saturating_add(12))? as usize)?;
    let mut at = start;
    let mut found = None;
    while at < end {
        let info = u32_at(bytes, at.saturating_add(4))?;
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if kind == ARRAY && u32_at(bytes, at.saturating_add(TYPE_LEN + 8))? == TASK_STORAGE {
            found = Some(at + TYPE_LEN + 8);
        }
        at += TYPE_LEN + trailing_len(kind, count)?;
    }
    put(bytes, found?, &HASH.to_le_bytes())
}

/// Bytes behind the head of a type of a kind, which has `count` members.
fn trailing_len(kind: u32, count: usize) -> Option<usize> {
    match kind {
        2 | 7..=12 | 16 | 18 => Some(0),
        1 | 14 | 17 => Some(4),
        ARRAY => Some(12),
        4 | 5 | 15 | 19 => Some(12 * count),
        6 | 13 => Some(8 * count),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::Object;

    use super::*;
    use crate::backend::linux::object;

    fn settings(older: u32) -> Settings {
        Settings { older, ..Settings::UNSET }
    }

    /// Names of the functions that a program of the object is linked with, and whether it refers to one by address.
    fn linked(older: u32, program: &str) -> Option<(usize, bool)> {
        let suited = suited(object::embedded()?, &settings(older)).expect("our own object");
        let mut object = Object::parse(suited.bytes()).expect("an object");
        let text = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_calls(&text).expect("every call has a target");
        let function = &object.functions[&object.programs[program].function_key()];
        // Lines of loads of addresses whose source says that it is a function.
        let by_address = function.instructions.iter().any(|ins| ins.code == 0x18 && ins.src_reg() == 4);
        Some((function.func_info.func_info.len(), by_address))
    }

    #[test]
    fn an_older_kernel_meets_no_callback_and_a_newer_one_nothing_for_older_ones() {
        let (Some((older, by_address)), Some((newer, has_callbacks))) =
            (linked(1, "file_open"), linked(0, "file_open"))
        else {
            println!("skipped: an_older_kernel_meets_no_callback: no kernel programs in this build");
            return;
        };
        assert!(!by_address && has_callbacks);
        assert!(older > 5 && newer > 5, "{older} {newer}");
    }

    #[test]
    fn task_storage_is_a_hash_map_where_the_kernel_has_none() {
        let Some(object) = object::embedded() else {
            println!("skipped: task_storage_is_a_hash_map: no kernel programs in this build");
            return;
        };
        for (older, expect) in [(0, TASK_STORAGE), (1, HASH)] {
            let suited = suited(object, &settings(older)).expect("our own object");
            let parsed = Object::parse(suited.bytes()).expect("an object");
            assert_eq!(parsed.maps["LABELS"].map_type(), expect);
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bytes in [&b""[..], b"\x7fELF", &[0xff; 128]] {
            assert!(suited(bytes, &settings(1)).is_err());
        }
    }
}
