//! Contents of files, as entries say what they are.

use std::collections::{HashMap, VecDeque};

use treeline_event::{Digest, FileId, Image};

/// Files whose content is remembered, the oldest forgotten first: more than a machine executes in weeks, some 12 MiB.
const FILES_MAX: usize = 65_536;

/// What is known of the contents of files.
#[derive(Debug, Default)]
pub(super) struct Contents {
    by_file: HashMap<FileId, [u8; 32]>,
    order: VecDeque<FileId>,
}

impl Contents {
    /// Takes what an entry says of an image. An identity that nothing was read of is none.
    pub(super) fn learn(&mut self, image: &Image) {
        let Digest::Sha256(sha256) = image.digest else { return };
        if image.file.inode == 0 || self.by_file.insert(image.file, sha256).is_some() {
            return;
        }
        self.order.push_back(image.file);
        if self.order.len() > FILES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_file.remove(&oldest);
        }
    }

    /// The SHA-256 of a file's content, if an entry has said it.
    pub(super) fn sha256(&self, file: &FileId) -> Option<[u8; 32]> {
        self.by_file.get(file).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(inode: u64, digest: Digest) -> Image {
        Image { file: FileId { inode, ..FileId::default() }, digest, ..Image::default() }
    }

    #[test]
    fn only_hashes_are_learnt_and_the_oldest_forgotten() {
        let mut contents = Contents::default();
        let known = |contents: &Contents, inode| contents.sha256(&image(inode, Digest::Gone).file);
        for digest in [Digest::Pending, Digest::Changed, Digest::Gone, Digest::Unreadable] {
            contents.learn(&image(1, digest));
        }
        contents.learn(&image(0, Digest::Sha256([1; 32])));
        assert_eq!((known(&contents, 1), known(&contents, 0)), (None, None));
        for inode in 1..=FILES_MAX as u64 + 1 {
            contents.learn(&image(inode, Digest::Sha256([7; 32])));
        }
        assert_eq!((known(&contents, 1), known(&contents, 2)), (None, Some([7; 32])));
        assert_eq!(contents.by_file.len(), FILES_MAX);
    }
}
