//! The GNU build-id of an ELF file, from its headers and note segments only.

use std::os::unix::fs::FileExt;

use object::{
    Endianness,
    elf::{FileHeader32, FileHeader64, NT_GNU_BUILD_ID, PT_DYNAMIC, PT_INTERP, PT_NOTE},
    read::elf::{FileHeader, NoteIterator, ProgramHeader},
};

/// Program headers that are looked at; real files have some 15.
const SEGMENTS_MAX: usize = 256;
/// Longest note segment that is read, in bytes; real ones are below 1 KiB.
const NOTES_LEN_MAX: u64 = 64 * 1024;
/// Longest build-id, in bytes: linkers make 8 to 20, and SHA-512 would be 64.
const ID_LEN_MAX: usize = 64;
/// Note segments that are read.
const NOTE_SEGMENTS_MAX: usize = 8;

/// The build-id in lower-case hexadecimal; none when there is none, or the file is no sound ELF file.
pub(crate) fn build_id(file: &impl FileExt) -> Option<String> {
    let mut head = [0u8; 64];
    file.read_exact_at(&mut head, 0).ok()?;
    match head[..5] {
        [0x7f, b'E', b'L', b'F', 1] => find::<FileHeader32<Endianness>>(file, &head),
        [0x7f, b'E', b'L', b'F', 2] => find::<FileHeader64<Endianness>>(file, &head),
        _ => None,
    }
}

/// Whether it is a program that loads programs: an ELF file with a dynamic section that names no interpreter, such as
/// `ld-linux-x86-64.so.2`. Programs that were linked with `-static-pie` look the same, and load nothing.
pub(crate) fn loads_programs(file: &impl FileExt) -> bool {
    let mut head = [0u8; 64];
    if file.read_exact_at(&mut head, 0).is_err() {
        return false;
    }
    let kinds = match head[..5] {
        [0x7f, b'E', b'L', b'F', 1] => kinds::<FileHeader32<Endianness>>(file, &head),
        [0x7f, b'E', b'L', b'F', 2] => kinds::<FileHeader64<Endianness>>(file, &head),
        _ => None,
    };
    kinds.is_some_and(|kinds| kinds.contains(&PT_DYNAMIC) && !kinds.contains(&PT_INTERP))
}

fn kinds<Elf: FileHeader<Endian = Endianness>>(file: &impl FileExt, head: &[u8]) -> Option<Vec<u32>> {
    let (endian, table) = segments::<Elf>(file, head)?;
    let count = table.len() / size_of::<Elf::ProgramHeader>();
    let (segments, _) = object::pod::slice_from_bytes::<Elf::ProgramHeader>(&table, count).ok()?;
    Some(segments.iter().map(|segment| segment.p_type(endian)).collect())
}

/// The table of program headers.
fn segments<Elf: FileHeader<Endian = Endianness>>(
    file: &impl FileExt,
    head: &[u8],
) -> Option<(Endianness, Vec<u8>)> {
    let header = Elf::parse(head).ok()?;
    let endian = header.endian().ok()?;
    let count = usize::from(header.e_phnum(endian)).min(SEGMENTS_MAX);
    if usize::from(header.e_phentsize(endian)) != size_of::<Elf::ProgramHeader>() {
        return None;
    }
    let mut table = vec![0u8; count * size_of::<Elf::ProgramHeader>()];
    file.read_exact_at(&mut table, header.e_phoff(endian).into()).ok()?;
    Some((endian, table))
}

fn find<Elf: FileHeader<Endian = Endianness>>(file: &impl FileExt, head: &[u8]) -> Option<String> {
    let (endian, table) = segments::<Elf>(file, head)?;
    let count = table.len() / size_of::<Elf::ProgramHeader>();
    let (segments, _) = object::pod::slice_from_bytes::<Elf::ProgramHeader>(&table, count).ok()?;
    let notes = segments.iter().filter(|segment| segment.p_type(endian) == PT_NOTE).take(NOTE_SEGMENTS_MAX);
    notes.into_iter().find_map(|segment| {
        let len = Some(segment.p_filesz(endian).into()).filter(|len: &u64| *len <= NOTES_LEN_MAX)?;
        let mut data = vec![0u8; usize::try_from(len).ok()?];
        file.read_exact_at(&mut data, segment.p_offset(endian).into()).ok()?;
        let mut notes = NoteIterator::<Elf>::new(endian, segment.p_align(endian), &data).ok()?;
        while let Ok(Some(note)) = notes.next() {
            let fits = (1..=ID_LEN_MAX).contains(&note.desc().len());
            if note.name() == b"GNU" && note.n_type(endian) == NT_GNU_BUILD_ID && fits {
                return Some(hex::encode(note.desc()));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io, process::Command};

    use proptest::prelude::*;

    use super::*;

    struct Bytes(Vec<u8>);

    impl FileExt for Bytes {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
            let len = buffer.len().min(self.0.len() - start);
            buffer[..len].copy_from_slice(&self.0[start..start + len]);
            Ok(len)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// A 64-bit little-endian file with one note segment.
    fn elf(note: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
        bytes.resize(64, 0);
        bytes[32] = 64; // e_phoff
        bytes[54] = 56; // e_phentsize
        bytes[56] = 1; // e_phnum
        let mut segment = [0u8; 56];
        segment[0] = 4; // p_type, PT_NOTE
        segment[8] = 120; // p_offset
        segment[32..40].copy_from_slice(&(note.len() as u64).to_le_bytes()); // p_filesz
        segment[48] = 4; // p_align
        bytes.extend(segment);
        bytes.extend(note);
        bytes
    }

    #[test]
    fn note_is_found() {
        let note = b"\x04\0\0\0\x04\0\0\0\x03\0\0\0GNU\0\xde\xad\xbe\xef";
        assert_eq!(build_id(&Bytes(elf(note))).as_deref(), Some("deadbeef"));
        assert_eq!(build_id(&Bytes(elf(&note[..18]))), None);
        assert_eq!(build_id(&Bytes(b"#!/bin/sh\n".to_vec())), None);
    }

    #[test]
    fn the_dynamic_loader_loads_programs() {
        let check = |path: &str, expect| {
            let Ok(file) = File::open(path) else { return };
            assert_eq!(loads_programs(&file), expect, "{path}");
        };
        check("/lib64/ld-linux-x86-64.so.2", true);
        check("/bin/bash", false);
        check("/etc/passwd", false);
        assert!(!loads_programs(&Bytes(elf(b""))));
    }

    #[test]
    fn agrees_with_readelf() {
        let path = std::env::current_exe().expect("own executable");
        for path in [path.as_path(), "/bin/bash".as_ref()] {
            let Ok(file) = File::open(path) else { continue };
            let Ok(output) = Command::new("readelf").arg("-n").arg(path).output() else { return };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let expect =
                text.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).map(str::to_owned);
            assert_eq!(build_id(&file), expect, "{}", path.display());
        }
    }

    proptest! {
        #[test]
        fn hostile_files_are_survived(
            mut flips in proptest::collection::vec((0usize..140, any::<u8>()), 0..8),
            note in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = elf(&note);
            flips.retain(|(at, _)| *at < bytes.len());
            for (at, byte) in flips {
                bytes[at] = byte;
            }
            let bytes = Bytes(bytes);
            let _ = loads_programs(&bytes);
            if let Some(id) = build_id(&bytes) {
                prop_assert!(id.len() <= 2 * ID_LEN_MAX);
            }
        }
    }
}
