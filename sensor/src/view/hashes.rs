//! Hashes that entries said were pending, from the notices that came later.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use treeline_event::{Digest, FileId, Image, Process};

/// Images that are remembered, oldest forgotten first: more than a machine runs between two starts of a view, some
/// 20 MiB. A hash beyond it stays `pending`.
const IMAGES_MAX: usize = 65_536;

/// What the notices `image_hashed` said.
#[derive(Clone, Debug, Default)]
pub(super) struct Hashes {
    by_file: HashMap<FileId, (Digest, Option<String>)>,
    order: VecDeque<FileId>,
}

impl Hashes {
    /// Takes a notice.
    pub(super) fn learn(&mut self, image: &Image) {
        let known = (image.digest, image.build_id.clone());
        if self.by_file.insert(image.file, known).is_none() {
            self.order.push_back(image.file);
        }
        if self.order.len() > IMAGES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_file.remove(&oldest);
        }
    }

    /// Completes an image whose hash was pending.
    pub(super) fn complete(&self, image: &mut Image) {
        if image.digest == Digest::Pending
            && let Some((digest, build_id)) = self.by_file.get(&image.file)
        {
            image.digest = *digest;
            image.build_id = image.build_id.take().or_else(|| build_id.clone());
        }
    }

    /// Completes what a process runs.
    pub(super) fn complete_process(&self, process: &mut Process) {
        let program = Arc::make_mut(&mut process.program);
        self.complete(&mut program.image);
        program.script.iter_mut().for_each(|script| self.complete(script));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(inode: u64, digest: Digest) -> Image {
        Image { file: FileId { inode, ..FileId::default() }, digest, ..Image::default() }
    }

    #[test]
    fn only_what_was_pending_is_completed() {
        let mut hashes = Hashes::default();
        hashes.learn(&Image { build_id: Some("ab".to_owned()), ..image(1, Digest::Sha256([1; 32])) });
        let check = |inode, before, expect| {
            let mut found = image(inode, before);
            hashes.complete(&mut found);
            assert_eq!(found.digest, expect);
        };
        check(1, Digest::Pending, Digest::Sha256([1; 32]));
        check(1, Digest::Changed, Digest::Changed);
        check(2, Digest::Pending, Digest::Pending);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut hashes = Hashes::default();
        for inode in 0..=IMAGES_MAX as u64 {
            hashes.learn(&image(inode, Digest::Gone));
        }
        assert_eq!((hashes.by_file.len(), hashes.order.len()), (IMAGES_MAX, IMAGES_MAX));
        assert!(!hashes.by_file.contains_key(&image(0, Digest::Gone).file));
    }
}
