//! The build-id of an executable: a file of whoever made it.

use std::{io, os::unix::fs::FileExt};

use treeline::foreign::build_id;

/// A file in memory.
struct Bytes<'a>(&'a [u8]);

impl FileExt for Bytes<'_> {
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

/// A build-id is some bytes in hexadecimal, at most as many as SHA-512 has.
pub fn run(bytes: &[u8]) -> bool {
    let Some(id) = build_id(&Bytes(bytes)) else { return false };
    assert!((2..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    true
}

/// The smallest file with a build-id in each form of ELF: 32 and 64 bits, both byte orders.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    [(1, 1), (1, 2), (2, 1), (2, 2)].into_iter().map(|(class, order)| elf(class, order)).collect()
}

/// A head, one program header, one note.
fn elf(class: u8, order: u8) -> Vec<u8> {
    let is_wide = class == 2;
    let (head_len, entry_len) = if is_wide { (64, 56) } else { (52, 32) };
    let mut bytes = vec![0x7f, b'E', b'L', b'F', class, order, 1];
    // Half of a 64-bit head would do for the reader of the first bytes, which takes 64 of any file.
    bytes.resize(head_len, 0);
    let mut put = |at: usize, len: usize, value: u64| {
        bytes.resize(bytes.len().max(at + len), 0);
        let (little, big) = (value.to_le_bytes(), value.to_be_bytes());
        bytes[at..at + len].copy_from_slice(if order == 1 { &little[..len] } else { &big[8 - len..] });
    };
    let (word, note_len) = (if is_wide { 8 } else { 4 }, 20);
    let (entry, note) = (head_len, head_len + entry_len);
    put(if is_wide { 32 } else { 28 }, word, entry as u64); // e_phoff
    put(if is_wide { 54 } else { 42 }, 2, entry_len as u64); // e_phentsize
    put(if is_wide { 56 } else { 44 }, 2, 1); // e_phnum
    put(entry, 4, 4); // p_type, PT_NOTE
    put(entry + if is_wide { 8 } else { 4 }, word, note as u64); // p_offset
    put(entry + if is_wide { 32 } else { 16 }, word, note_len); // p_filesz
    put(entry + if is_wide { 48 } else { 28 }, word, 4); // p_align
    put(note, 4, 4); // n_namesz
    put(note + 4, 4, 4); // n_descsz
    put(note + 8, 4, 3); // n_type, NT_GNU_BUILD_ID
    bytes.extend(b"GNU\0\xde\xad\xbe\xef");
    bytes
}
