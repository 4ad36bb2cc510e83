//! The archive format of an initramfs ("newc"), written without root and the same for the same input.
//!
//! Layout: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`. Archives can be put one
//! behind the other.

use std::collections::BTreeSet;
use std::path::Path;

/// Every part of an entry begins at a multiple of this many bytes.
const ALIGN: usize = 4;
const END: &str = "TRAILER!!!";

/// An archive being written.
pub(super) struct Archive {
    bytes: Vec<u8>,
    /// Entries get inode numbers from 1 on: equal ones would be hard links.
    inode: u32,
    /// Directories written so far: the kernel creates no parents.
    directories: BTreeSet<String>,
    /// The modification time of everything, in seconds since 1970.
    modified_s: u32,
}

impl Archive {
    pub(super) fn new(modified_s: u32) -> Self {
        Self { bytes: Vec::new(), inode: 0, directories: BTreeSet::new(), modified_s }
    }

    /// Adds a regular file of root's with these permissions.
    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.parents(path);
        self.entry(path, 0o100_000 | permissions, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path, 0o120_777, (0, 0), target.as_bytes());
    }

    /// Adds a directory and those above it.
    pub(super) fn directory(&mut self, path: &str) {
        self.parents(path);
        if self.directories.insert(path.to_owned()) {
            self.entry(path, 0o040_755, (0, 0), &[]);
        }
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.parents(path);
        self.entry(path, 0o020_600, (major, minor), &[]);
    }

    /// The archive's bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(END, 0, (0, 0), &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        let parent = Path::new(path).parent().and_then(Path::to_str).unwrap_or_default();
        if !parent.is_empty() && parent != "/" {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.inode += 1;
        // Relative names: the archive is unpacked at the root.
        let name = path.trim_start_matches('/');
        let content_bytes = u32::try_from(content.len()).unwrap_or(u32::MAX);
        assert!(content_bytes < u32::MAX, "{path} is larger than the format can hold");
        let name_bytes = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let fields =
            [self.inode, mode, 0, 0, 1, self.modified_s, content_bytes, 0, 0, major, minor, name_bytes, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive as the format says: mode, size and name of each entry, and the target of a link.
    fn list(mut bytes: &[u8]) -> Vec<String> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701", "an entry begins where the one before ends");
            let field = |index: usize| {
                let digits = std::str::from_utf8(&bytes[6 + 8 * index..14 + 8 * index]).expect("hex digits");
                usize::from_str_radix(digits, 16).expect("hex digits")
            };
            let (mode, content_bytes, name_bytes) = (field(1), field(6), field(11));
            let name = std::str::from_utf8(&bytes[110..110 + name_bytes - 1]).expect("a name");
            let content_at = (110 + name_bytes).next_multiple_of(4);
            let content = &bytes[content_at..content_at + content_bytes];
            if name == END {
                return entries;
            }
            let target = if mode == 0o120_777 { std::str::from_utf8(content).expect("a path") } else { "" };
            entries.push(format!("{mode:o} {content_bytes} {name} {target}"));
            bytes = &bytes[(content_at + content_bytes).next_multiple_of(4)..];
        }
    }

    #[test]
    fn entries_follow_the_format() {
        let mut archive = Archive::new(1_790_000_000);
        archive.file("/init", 0o755, b"#!/bin/sh\n");
        archive.file("/usr/bin/odd", 0o644, b"12345");
        archive.link("/bin", "usr/bin");
        archive.directory("/usr/bin");
        archive.device("/dev/console", 5, 1);
        assert_eq!(
            list(&archive.finish()),
            [
                "100755 10 init ",
                "40755 0 usr ",
                "40755 0 usr/bin ",
                "100644 5 usr/bin/odd ",
                "120777 7 bin usr/bin",
                "40755 0 dev ",
                "20600 0 dev/console ",
            ]
        );
    }
}
