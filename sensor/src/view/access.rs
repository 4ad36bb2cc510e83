//! Who may see which entries.

use std::collections::{HashMap, VecDeque};

use treeline_event::{Ancestry, Digest, Entry, EntryBody, FileId, Image, Notice, Process, SessionId};

/// Images whose hash is awaited by somebody's entries, oldest forgotten first: some 10 MiB. A notice beyond it is seen
/// by root only, and the hash stays `pending` for everybody else.
const IMAGES_MAX: usize = 65_536;

/// Whose sessions there are, and whose entries wait for which hashes, as far as the log has been read for it.
///
/// A user may see the entries of sessions that the user started, statements about the sensor as a whole that hold
/// nothing private, and the hashes that the user's own entries said were pending. Grows by 16 bytes for every session
/// that the log has ever seen.
#[derive(Debug, Default)]
pub struct Access {
    next: u64,
    by_session: HashMap<SessionId, u32>,
    images: HashMap<FileId, Vec<u32>>,
    order: VecDeque<FileId>,
}

impl Access {
    /// Index of the first entry that was not learnt yet.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes the entry with this index, none when it cannot be read. One that is not the next is passed over: it was
    /// learnt already.
    pub fn learn(&mut self, index: u64, entry: Option<&Entry>) {
        if index != self.next {
            return;
        }
        self.next += 1;
        let Some(entry) = entry else { return };
        match &entry.body {
            EntryBody::Notice(Notice::SessionStarted { session, uid, .. }) => {
                self.by_session.insert(*session, *uid);
            }
            EntryBody::Notice(_) => {}
            EntryBody::Act { process, ancestry, .. } => {
                // Root sees everything anyway.
                let Some(uid) = self.owner(entry.session).filter(|uid| *uid != 0) else { return };
                self.await_hashes(uid, process);
                if let Ancestry::Full(steps) = ancestry {
                    steps.iter().for_each(|step| self.await_hashes(uid, step));
                }
            }
        }
    }

    fn await_hashes(&mut self, uid: u32, process: &Process) {
        let program = &process.program;
        let images: [Option<&Image>; 2] = [Some(&program.image), program.script.as_ref()];
        for image in images.into_iter().flatten().filter(|image| image.digest == Digest::Pending) {
            let uids = self.images.entry(image.file).or_insert_with(|| {
                self.order.push_back(image.file);
                Vec::new()
            });
            if !uids.contains(&uid) {
                uids.push(uid);
            }
        }
        while self.order.len() > IMAGES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.images.remove(&oldest);
        }
    }

    fn owner(&self, session: Option<SessionId>) -> Option<u32> {
        session.and_then(|id| self.by_session.get(&id)).copied()
    }

    /// Whether this user may see the entry, which was learnt; none when it cannot be read. What belongs to nobody is
    /// for root.
    #[must_use]
    pub fn allows(&self, uid: u32, entry: Option<&Entry>) -> bool {
        if uid == 0 {
            return true;
        }
        let Some(entry) = entry else { return false };
        let own = || self.owner(entry.session) == Some(uid);
        match &entry.body {
            EntryBody::Act { .. } => own(),
            EntryBody::Notice(notice) => match notice {
                Notice::SessionStarted { session, .. } | Notice::SessionEnded { session } => {
                    self.owner(Some(*session)) == Some(uid)
                }
                Notice::Started { .. }
                | Notice::Stopped { .. }
                | Notice::PolicyApplied { .. }
                | Notice::PolicyRejected { .. }
                | Notice::Lost { .. } => true,
                // An image's path tells what others run.
                Notice::ImageHashed { image } => {
                    self.images.get(&image.file).is_some_and(|uids| uids.contains(&uid))
                }
                // The words may quote what others did.
                Notice::Malformed { .. } => own(),
                // Of the session that it is about.
                Notice::Approved { .. } | Notice::ApprovalEnded { .. } | Notice::ApprovalRefused { .. } => {
                    own()
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use treeline_event::{Action, ProcessKey, Verdict};

    use super::*;
    use crate::view::fixture::{act, notice};

    fn image(inode: u64) -> Image {
        Image { file: FileId { inode, ..FileId::default() }, ..Image::default() }
    }

    /// An exec of an image whose hash is pending, by a process whose creator runs another such image.
    fn exec(session: SessionId, inode: u64, creator: u64) -> Entry {
        let mut entry = act(session, 5, Some(4), Action::Exec, Verdict::Allow);
        let EntryBody::Act { process, ancestry: Ancestry::Full(steps), .. } = &mut entry.body else {
            panic!("an exec")
        };
        for (process, inode) in [(process, inode), (&mut steps[0], creator)] {
            Arc::make_mut(&mut Arc::make_mut(process).program).image = image(inode);
        }
        entry
    }

    fn hashed(inode: u64) -> Entry {
        let digest = Digest::Sha256([1; 32]);
        notice(Notice::ImageHashed { image: Image { digest, ..image(inode) } })
    }

    #[test]
    fn only_the_own_sessions_are_seen() {
        let (own, other) = (SessionId(1), SessionId(2));
        let started = |session, uid| {
            let root = ProcessKey::default();
            notice(Notice::SessionStarted {
                session,
                root,
                uid,
                origin: "run".into(),
                command: vec![],
                attributes: Default::default(),
            })
        };
        let (kind, site) = ("open".to_owned(), "ring".to_owned());
        let lost = Notice::Lost { kind, site, count: 1, first_ns: 0, last_ns: 0 };
        let malformed = Notice::Malformed { what: "x".into(), error: "y".into() };
        let cases = [
            (exec(own, 1, 2), false),
            (hashed(1), false),
            (started(own, 1000), true),
            (started(other, 1001), false),
            (exec(own, 3, 4), true),
            (exec(other, 5, 4), false),
            (hashed(3), true),
            (hashed(4), true),
            (hashed(5), false),
            (hashed(6), false),
            (notice(lost), true),
            (notice(malformed), false),
            (notice(Notice::SessionEnded { session: other }), false),
            (notice(Notice::SessionEnded { session: own }), true),
        ];
        let mut access = Access::default();
        for (at, (entry, expect)) in (0..).zip(&cases) {
            access.learn(at, Some(entry));
            assert_eq!(access.allows(1000, Some(entry)), *expect, "case {at}");
            assert!(access.allows(0, Some(entry)), "case {at}");
        }
        assert!(access.allows(0, None) && !access.allows(1000, None));
        access.learn(access.next(), None);
        assert_eq!(access.next(), cases.len() as u64 + 1, "what cannot be read does not stop it");
        access.learn(0, Some(&started(other, 1000)));
        assert!(!access.allows(1000, Some(&exec(other, 1, 1))), "an entry is learnt once");
    }

    #[test]
    fn memory_is_bounded() {
        let mut access = Access { by_session: [(SessionId(1), 1000)].into(), ..Access::default() };
        for inode in 0..=IMAGES_MAX as u64 {
            access.learn(inode, Some(&exec(SessionId(1), inode, inode)));
        }
        assert_eq!((access.images.len(), access.order.len()), (IMAGES_MAX, IMAGES_MAX));
        assert!(!access.allows(1000, Some(&hashed(0))) && access.allows(1000, Some(&hashed(1))));
    }
}
