//! Rules by SHA-256: what is known of a file's content, and what becomes of a file of which nothing is known.
//!
//! `treeline_abi::content` says when a content is known. The agent sees to it that it is, while whoever executes the
//! file waits (fanotify); these programs only look it up, and refuse what is not there.

use treeline_abi::{
    content::{Content, OVERLAYFS, RAMFS, TMPFS, bucket},
    paths::{FileKey, ImageRules, RULES_MAX, SLOTS, Table},
    record::Flags,
};

use crate::{
    decide::{Decision, subject_sets},
    kernel::{add, inode, masked, offset, read},
    maps::{HOLDS, IMAGES, RULES, WANTED, WRITERS},
    scratch::Scratch,
    tasks,
};

/// What is asked about one file. In the working memory, so that the verifier knows nothing of it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Asked {
    /// 1 when it must be known, 0 when it is enough that it is not known to be denied.
    pub(crate) strict: u32,
    /// [`Flags::CONTENT_UNKNOWN`] if it is not known, else 0; the answer.
    pub(crate) unknown: u32,
    /// 1 when it was refused for that; the answer.
    pub(crate) refused: u32,
    pub(crate) pad: u32,
}

/// Judges the file whose identity is in `Scratch::key` and whose inode is at `node` by its content. The result is packed,
/// see `Decision::pack`; more is in `Scratch::asked`.
#[inline(never)]
pub(crate) fn judge(
    scratch: &mut Scratch,
    table: &'static Table,
    slot: u32,
    label_flags: u32,
    node: u64,
) -> u64 {
    scratch.asked.unknown = 0;
    scratch.asked.refused = 0;
    let Some(hold) = HOLDS.get(slot & (SLOTS - 1)) else {
        return 0;
    };
    let mut index = 0;
    let mut unknown = (hold.rule != 0) as u32;
    // SAFETY: the value stays in place while the program runs (RCU).
    if let Some(content) = unsafe { IMAGES.get(&scratch.key) } {
        index = rules(content, slot).exec_rule;
        if is_valid(content, node, &scratch.key) {
            unknown = 0;
        }
    }
    scratch.asked.unknown = unknown * Flags::CONTENT_UNKNOWN;
    if index == 0 {
        if unknown & scratch.asked.strict == 0 {
            return 0;
        }
        scratch.asked.refused = 1;
        return unless(
            scratch,
            (hold.only, hold.exceptions),
            table,
            slot,
            label_flags,
            Decision::of(hold.rule, 1),
        );
    }
    let Some(rule) = RULES.get(slot * RULES_MAX + ((index - 1) & (RULES_MAX - 1))) else {
        return 0;
    };
    unless(scratch, (rule.only, rule.exceptions), table, slot, label_flags, Decision::of(index, rule.enforce))
}

/// The decision, packed, unless the rule is for others only, or an exception lifts it.
#[inline(always)]
fn unless(
    scratch: &mut Scratch,
    (only, exceptions): (u64, u64),
    table: &'static Table,
    slot: u32,
    label_flags: u32,
    decision: Decision,
) -> u64 {
    if only | exceptions != 0 {
        subject_sets(scratch, table, slot, label_flags);
        if !scratch.holds.fall_under(only, exceptions) {
            scratch.asked.refused = 0;
            return 0;
        }
    }
    decision.pack()
}

/// What a content means to the policy of a slot.
#[inline(always)]
pub(crate) fn rules(content: &Content, slot: u32) -> &ImageRules {
    let at = masked::<{ SLOTS as i32 - 1 }>(slot) as usize;
    // SAFETY: below SLOTS by the mask, which the verifier sees.
    unsafe { &*(&raw const content.rules).cast::<ImageRules>().add(at) }
}

/// Whether an entry is what the file holds now.
#[inline(always)]
pub(crate) fn is_valid(content: &Content, node: u64, key: &FileKey) -> bool {
    if content.flags & Content::SURE == 0 {
        return false;
    }
    // Whoever executes keeps writers out, but for Linux 6.11 and 6.12.
    if read::<i32>(node + offset!(inode_writecount)) > 0 {
        return false;
    }
    if content.flags & Content::COUNTED == 0 {
        return true;
    }
    WRITERS.get(bucket(key.device, key.inode)).is_some_and(|count| *count == content.writers)
}

/// Counts an open for writing, where the change time does not tell.
#[inline(always)]
pub(crate) fn note_writer(file: u64) {
    let node: u64 = read(file + offset!(file_inode));
    let sb: u64 = read(node + offset!(inode_sb));
    let magic: u64 = read(sb + offset!(sb_magic));
    if magic != TMPFS && magic != RAMFS && magic != OVERLAYFS {
        return;
    }
    let device: u32 = read(sb + offset!(sb_dev));
    if let Some(count) = WRITERS.get_ptr_mut(bucket(device, read(node + offset!(inode_ino)))) {
        add(count, 1);
    }
}

/// Whether the current task runs a program that loads programs, and that was executed itself.
#[inline(never)]
pub(crate) fn runs_a_loader(scratch: &mut Scratch) -> u32 {
    let node = tasks::image_inode(tasks::current() as u64);
    if node == 0 {
        return 0;
    }
    scratch.key = inode(node).key;
    // SAFETY: as in `judge`.
    let flags = unsafe { IMAGES.get(&scratch.key) }.map_or(0, |content| content.flags);
    (flags & Content::LOADER != 0) as u32
}

/// Whether the agent is to be told of the file in `Scratch::key`, whose content is not known: once.
#[inline(always)]
pub(crate) fn is_news(scratch: &Scratch) -> bool {
    // SAFETY: as in `judge`.
    if unsafe { WANTED.get(&scratch.key) }.is_some() {
        return false;
    }
    WANTED.insert(&scratch.key, &1, 0).is_ok()
}
