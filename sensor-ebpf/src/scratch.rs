//! Working memory of a hook: the stack has 512 bytes.
//!
//! Hooks can be preempted by a task that enters the same hook on the same CPU, so each CPU has several slots and a
//! hook takes one for itself. Taking is an add and a look: when two contend, both let go and try the next slot, so
//! that plain adds suffice (fetching atomics need Linux 5.12).

use treeline_abi::{
    Header,
    lift::{LIFT_WORDS, LIFTED_OPERATIONS, RULE_WORDS},
    network::ABSTRACT_WORDS,
    paths::{AliasKey, AncestorKey, DEPTH_MAX, Edge, FileKey, LISTED_MAX, Mask, NO_LIST, WORDS},
    record::DATA_LEN_MAX,
    subject::{ByContent, ByPath, Facts, Lineage},
};

use crate::{
    content::Asked,
    kernel::{add, is_older, masked},
    maps::SCRATCH,
};

/// Slots of one CPU: nesting is at most one hook within another plus a few preempted tasks.
pub(crate) const SCRATCH_SLOTS: u32 = 8;
/// Bytes of the path buffer, which is filled from its end.
pub(crate) const PATH_BUFFER_LEN: usize = 4096;
/// One component's name, in eight-byte words, with one word of slack.
pub(crate) const NAME_WORDS: usize = 33;

/// The state of the walk that goes on, and what the last one found.
///
/// It is kept here and not on the stack so that the verifier knows nothing of its values: each round of the walk then
/// looks like the one before it, and one round is all that is verified.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Walked {
    /// `s_dev` of the superblock.
    pub(crate) device: u32,
    /// Where the path starts in `Scratch::path`; it ends at [`PATH_BUFFER_LEN`].
    pub(crate) start: u32,
    /// Bits of [`Walked::RESOLVED`] and others.
    pub(crate) flags: u32,
    /// Components so far.
    pub(crate) depth: u32,
    /// The dentry that comes next.
    pub(crate) at: u64,
}

impl Walked {
    /// The root was reached.
    pub(crate) const RESOLVED: u32 = 1;
    /// The path did not fit; its beginning is missing.
    pub(crate) const CUT: u32 = 2;
    /// The object is a root of its own without a directory (memfd, pipe, socket).
    pub(crate) const DETACHED: u32 = 4;
    /// A directory on the way compares names in another way than byte for byte; see `walk::folds_names`.
    pub(crate) const FOLDED: u32 = 8;
    /// The filesystem has a way to fold names, in those of its directories that say so.
    pub(crate) const FOLDING: u32 = 16;

    #[inline(always)]
    pub(crate) fn resolved(&self) -> bool {
        self.flags & Self::RESOLVED != 0
    }
}

/// The state of the search through an environment, kept here for the same reason.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Environment {
    /// The variable that comes next, and the end of all.
    pub(crate) at: u64,
    pub(crate) end: u64,
    /// Where the record's data goes on, and how much was taken.
    pub(crate) position: u32,
    pub(crate) taken: u32,
    /// 1 when the end was reached.
    pub(crate) complete: u32,
    pub(crate) pad: u32,
}

/// Lists that a walk has led to.
#[repr(C)]
pub(crate) struct Listed {
    pub(crate) numbers: [u32; LISTED_MAX],
    pub(crate) count: u32,
    /// The next number to look at.
    pub(crate) at: u32,
    /// The next entry of the list that is being looked at, plus 1; 0 before each list.
    pub(crate) entry: u32,
    pub(crate) pad: u32,
}

impl Listed {
    /// Adds a list, unless there is none.
    #[inline(always)]
    pub(crate) fn push(&mut self, list: u32) {
        if list != NO_LIST {
            let at = masked::<{ LISTED_MAX as i32 - 1 }>(self.count) as usize;
            // SAFETY: below LISTED_MAX by the mask, which the verifier sees.
            unsafe { (&raw mut self.numbers).cast::<u32>().add(at).write_volatile(list) };
            self.count += 1;
        }
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.rewind();
    }

    /// Back to the first entry of the first list.
    #[inline(always)]
    pub(crate) fn rewind(&mut self) {
        self.at = 0;
        self.entry = 0;
    }
}

/// A walk down the tree, kept here for the same reason as [`Found`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Descent {
    pub(crate) edge: Edge,
    /// Components that are still to come.
    pub(crate) left: u32,
    pub(crate) pad: u32,
}

/// A hook's working memory. `header` and `data` are contiguous: together they are the record.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) busy: u64,
    pub(crate) header: Header,
    pub(crate) data: [u8; DATA_LEN_MAX + 4096],
    pub(crate) path: [u8; PATH_BUFFER_LEN + 256],
    pub(crate) name: [u64; NAME_WORDS],
    pub(crate) tail: [u64; 4],
    pub(crate) state: Mask,
    pub(crate) step: Mask,
    pub(crate) accepted: Mask,
    pub(crate) kept: Mask,
    /// Hashes of the components, the object's own first.
    pub(crate) hashes: [u64; DEPTH_MAX],
    /// What the object's names and the tree lead to.
    pub(crate) lists: Listed,
    /// The same for the subject's executable.
    pub(crate) subject_lists: Listed,
    /// Globs of components that are still to be tried with a name, as bits.
    pub(crate) candidates: u64,
    /// Where the walk down the tree is.
    pub(crate) descent: Descent,
    /// The subject's sets, once they were asked for.
    pub(crate) holds: Facts,
    /// A label's lineage, and what an executable's content means, on their way from one function to another.
    pub(crate) lineage: Lineage,
    /// A label's session, alike; 0 for none.
    pub(crate) session: u64,
    /// What that leaves of the subject sets.
    pub(crate) leaves: Facts,
    pub(crate) content: ByContent,
    pub(crate) walked: Walked,
    pub(crate) subject: Walked,
    pub(crate) key: FileKey,
    pub(crate) alias: AliasKey,
    pub(crate) environment: Environment,
    /// What is asked of a file's content, and the answer.
    pub(crate) asked: Asked,
    /// The dentry that is handed to a global function, whose arguments are plain numbers: what the verifier knows as
    /// a pointer is one no more when it comes back from here.
    pub(crate) object: u64,
    /// Length of the component in `name`.
    pub(crate) name_len: u32,
    /// Explicit padding.
    pub(crate) pad_name: u32,
    /// The policy's generation by which an object was judged.
    pub(crate) generation: u64,
    pub(crate) ancestor: AncestorKey,
    /// An abstract name from its beginning, and aligned to its end.
    pub(crate) name_head: [u64; ABSTRACT_WORDS],
    pub(crate) name_tail: [u64; ABSTRACT_WORDS],
    pub(crate) abstract_len: u32,
    pub(crate) pad: u32,
    pub(crate) sent: SentKey,
    pub(crate) found: Found,
    /// Lifts that were found about the object, as bits, until they are looked at.
    pub(crate) lifts: [u64; LIFT_WORDS],
    /// Rules that they take away, as bits, by operation.
    pub(crate) lifted: [[u64; RULE_WORDS]; LIFTED_OPERATIONS],
    /// What a grant of the object would be found by: see `treeline_abi::grant::GrantKey::identity`.
    pub(crate) wanted: [u64; 3],
    /// 1 when the object has more than one name.
    pub(crate) several_names: u32,
    pub(crate) pad_names: u32,
    /// 1 when an object is judged again, without rules that were granted: these, as bits.
    pub(crate) has_granted: u64,
    pub(crate) granted: [u64; RULE_WORDS],
    pub(crate) sets: Sets,
    /// A decision on its way from one function to another, see `Decision::unpack`.
    pub(crate) packed: u64,
    /// The slot on its CPU, by which global functions of older kernels find it again.
    pub(crate) number: u64,
    /// What bounds that the verifier cannot add up may reach.
    pub(crate) slack: [u64; 32],
}

/// Where a pass over rules is, and what it has found so far.
///
/// Here and not on the stack: before Linux 6.7 the verifier looks at one round of a loop only, with the values that the
/// stack has at its beginning, and takes branches out that these rule out.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Found {
    /// See `Decision::pack`.
    pub(crate) packed: u64,
    /// What was noted for a second pass: bits of [`Found::ASKS`] and others.
    pub(crate) noted: u32,
    /// The word of accepting positions that is being looked at; their number when the pass is complete.
    pub(crate) word: u32,
}

impl Found {
    /// A rule that is not for everybody.
    pub(crate) const ASKS: u32 = 1;
    /// A rule that a lift may take away.
    pub(crate) const LIFTABLE: u32 = 2;
    /// A lift that is not for everybody.
    pub(crate) const LIFT_ASKS: u32 = 4;

    /// Whether there are rules that the first pass has left.
    #[inline(always)]
    pub(crate) fn is_incomplete(&self) -> bool {
        self.noted & (Self::ASKS | Self::LIFTABLE) != 0
    }

    /// Whether the second pass has to know who acts.
    #[inline(always)]
    pub(crate) fn needs_subject(&self) -> bool {
        let lift = Self::LIFTABLE | Self::LIFT_ASKS;
        self.noted & Self::ASKS != 0 || self.noted & lift == lift
    }
}

/// As [`Found`], for what the path of an executable leads to.
#[repr(C)]
pub(crate) struct Sets {
    pub(crate) found: ByPath,
    pub(crate) word: u64,
}

/// A process and where it sent a datagram.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SentKey {
    pub(crate) start_ns: u64,
    pub(crate) generation: u64,
    pub(crate) address: [u8; 16],
    pub(crate) pid: u32,
    pub(crate) family: u16,
    pub(crate) port: u16,
}

const _: () = assert!(size_of::<Scratch>() <= 32 * 1024);

/// Copies a mask word by word: no call of a byte loop, whatever the linker asks of LLVM.
#[inline(always)]
pub(crate) fn copy_mask(to: &mut Mask, from: &Mask) {
    for word in 0..WORDS {
        // SAFETY: both references are valid and aligned; volatile keeps the loop from becoming `memcpy`.
        unsafe { (&raw mut to.words[word]).write_volatile((&raw const from.words[word]).read_volatile()) };
    }
}

impl Scratch {
    /// Keeps the accepting positions for a second pass.
    #[inline(always)]
    pub(crate) fn keep_accepted(&mut self) {
        // SAFETY: two fields of the same value that do not overlap.
        let from = unsafe { &*(&raw const self.accepted) };
        copy_mask(&mut self.kept, from);
    }

    /// Brings the kept accepting positions back.
    #[inline(always)]
    pub(crate) fn restore_accepted(&mut self) {
        // SAFETY: as above.
        let from = unsafe { &*(&raw const self.kept) };
        copy_mask(&mut self.accepted, from);
    }

    /// Takes a free slot of this CPU.
    #[inline(always)]
    pub(crate) fn take() -> Option<&'static mut Self> {
        for slot in 0..SCRATCH_SLOTS {
            let scratch = SCRATCH.get_ptr_mut(slot)?;
            // SAFETY: the pointer comes from the map and the verifier knows its bounds.
            let busy = unsafe { &raw mut (*scratch).busy };
            add(busy, 1);
            // SAFETY: as above; volatile, because others on this CPU add to it.
            if unsafe { busy.read_volatile() } == 1 {
                // SAFETY: `busy` makes this hook the only user of the slot until `release`.
                let scratch = unsafe { &mut *scratch };
                if is_older() {
                    scratch.number = slot as u64;
                }
                return Some(scratch);
            }
            add(busy, u64::MAX);
        }
        None
    }

    /// The slot that a hook has taken, in a global function that the hook has told its number.
    #[inline(always)]
    pub(crate) fn numbered(number: u32) -> Option<&'static mut Self> {
        // SAFETY: the pointer comes from the map; the hook, which took the slot, waits for the function.
        unsafe { SCRATCH.get_ptr_mut(number)?.as_mut() }
    }

    /// Gives the slot back.
    #[inline(always)]
    pub(crate) fn release(&mut self) {
        add(&raw mut self.busy, u64::MAX);
    }
}
