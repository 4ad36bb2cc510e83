//! From accepting positions to a verdict.

use treeline_abi::{
    Label, LabelFlags, Verdict,
    network::{Prefix4, Prefix6, PrefixRules, RULES_PER_PREFIX_MAX},
    paths::{AliasKey, AliasRules, Operation, RULES_MAX, RULES_PER_ALIAS_MAX, SLOTS, Table, WORDS},
};

use crate::{
    cgroup::AF_INET,
    kernel::{GO_ON, STOP, inode, offset, read, repeat},
    maps::{ACCEPTS, ACTIVE, ALIASES, IMAGES, PREFIXES4, PREFIXES6, RULES, TABLES},
    scratch::Scratch,
    tasks,
    walk::{self, Active},
};

/// Accepting positions of one object that are looked at one by one; an object under more counts as unresolved.
const ACCEPTED_MAX: usize = 16;
const BITS: u32 = (WORDS * 64) as u32;

/// What a hook does with an object.
#[derive(Clone, Copy)]
pub(crate) struct Decision {
    pub(crate) verdict: Verdict,
    /// Rule index + 1, or 0.
    pub(crate) rule: u32,
    pub(crate) generation: u64,
}

impl Decision {
    pub(crate) const ALLOW: Self = Self { verdict: Verdict::Allow, rule: 0, generation: 0 };

    /// The severer of two decisions; the lower rule of two that are equally severe.
    #[inline(always)]
    pub(crate) fn or(self, other: Self) -> Self {
        let mut both = self;
        if other.rule != 0 {
            both.add(other.rule, matches!(other.verdict, Verdict::Deny));
        }
        both
    }

    /// The verdict and rule in one register.
    #[inline(always)]
    pub(crate) fn pack(self) -> u64 {
        (self.verdict as u64) << 32 | self.rule as u64
    }

    #[inline(always)]
    pub(crate) fn unpack(packed: u64, generation: u64) -> Self {
        let verdict = match packed >> 32 {
            0 => Verdict::Allow,
            1 => Verdict::Audit,
            _ => Verdict::Deny,
        };
        Self { verdict, rule: packed as u32, generation }
    }

    /// Takes up one more matching rule: the lowest rule of the severest verdict decides.
    #[inline(always)]
    fn add(&mut self, rule: u32, enforce: bool) {
        let severer = enforce && !matches!(self.verdict, Verdict::Deny);
        let same = enforce == matches!(self.verdict, Verdict::Deny);
        if severer || (same && (self.rule == 0 || rule < self.rule)) {
            self.verdict = if enforce { Verdict::Deny } else { Verdict::Audit };
            self.rule = rule;
        }
    }
}

/// The tables in force, or nothing before the first policy.
#[inline(always)]
pub(crate) fn active() -> Option<Active> {
    let slot = (*ACTIVE.get(0)?).wrapping_sub(1);
    if slot >= SLOTS {
        return None;
    }
    Some(Active { table: TABLES.get(slot)?, slot })
}

/// Walks an object and judges an operation on it. The path is in `Scratch::path` afterwards.
#[inline(always)]
pub(crate) fn judge_dentry(scratch: &mut Scratch, dentry: u64, operations: u32, label: &Label) -> Decision {
    let Some(active) = active() else {
        walk::walk_path(scratch, dentry);
        return Decision::ALLOW;
    };
    walk::walk_object(scratch, dentry, active.table, active.slot);
    let packed = judge(scratch, active.table, active.slot, operations, label.flags);
    let decision = Decision::unpack(packed, active.table.generation);
    let node: u64 = read(dentry + offset!(dentry_inode));
    if node == 0 || read::<u32>(node + offset!(inode_nlink)) < 2 {
        return decision;
    }
    // Another name of it may be a protected one.
    scratch.alias =
        AliasKey { slot: active.slot, device: scratch.walked.device, inode: read(node + offset!(inode_ino)) };
    let packed = judge_alias(scratch, active.table, active.slot, operations, label.flags);
    decision.or(Decision::unpack(packed, active.table.generation))
}

/// Judges the object in `Scratch::alias` by identity. The result is packed, see [`judge`].
#[inline(never)]
fn judge_alias(
    scratch: &mut Scratch,
    table: &'static Table,
    slot: u32,
    operations: u32,
    label_flags: u32,
) -> u64 {
    // SAFETY: the value stays in place while the program runs (RCU).
    let Some(alias) = (unsafe { ALIASES.get(&scratch.alias) }) else {
        return 0;
    };
    let mut pass =
        AliasPass { alias, slot, operations, sets: 0, plain: 1, exceptions: 0, decision: Decision::ALLOW };
    repeat(RULES_PER_ALIAS_MAX as u32, weigh_alias, &mut pass);
    if pass.exceptions != 0 {
        pass.sets = subject_sets(scratch, table, slot, label_flags);
        pass.plain = 0;
        repeat(RULES_PER_ALIAS_MAX as u32, weigh_alias, &mut pass);
    }
    pass.decision.pack()
}

/// One pass over the rules of an alias; see [`Pass`].
struct AliasPass {
    alias: *const AliasRules,
    slot: u32,
    operations: u32,
    sets: u64,
    plain: u32,
    exceptions: u32,
    decision: Decision,
}

extern "C" fn weigh_alias(index: u64, pass: *mut AliasPass) -> u64 {
    // SAFETY: as in `weigh`.
    let (pass, alias) = unsafe { (&mut *pass, &*(*pass).alias) };
    let number = alias.rules[index as usize & (RULES_PER_ALIAS_MAX - 1)];
    if number == 0 {
        return STOP;
    }
    let Some(rule) = RULES.get(pass.slot * RULES_MAX + ((number - 1) & (RULES_MAX - 1))) else {
        return GO_ON;
    };
    if rule.operations & pass.operations == 0 {
        return GO_ON;
    }
    let plain = rule.exceptions == 0;
    if !plain && pass.plain != 0 {
        pass.exceptions = 1;
    }
    if plain == (pass.plain != 0) && rule.exceptions & pass.sets == 0 {
        pass.decision.add(number, rule.enforce != 0);
    }
    GO_ON
}

/// Judges the object that was just walked. The result is a packed [`Decision`]: subprograms return one register.
#[inline(never)]
fn judge(scratch: &mut Scratch, table: &'static Table, slot: u32, operations: u32, label_flags: u32) -> u64 {
    let mut decision = Decision::ALLOW;
    if !scratch.walked.resolved() {
        if table.unresolved_rule != 0 {
            decision.add(table.unresolved_rule, true);
        }
        return decision.pack();
    }
    restrict(scratch, table, operations);
    scratch.keep_accepted();
    let mut pass = Pass { scratch, slot, word: 0, sets: 0, plain: 1, exceptions: 0, decision };
    repeat(ROUNDS_MAX, weigh, &mut pass);
    if pass.exceptions != 0 && pass.word >= WORDS as u32 {
        // Only now, and once, is the subject's executable looked at.
        let sets = subject_sets(scratch, table, slot, label_flags);
        scratch.restore_accepted();
        pass = Pass { scratch, slot, word: 0, sets, plain: 0, exceptions: 0, decision: pass.decision };
        repeat(ROUNDS_MAX, weigh, &mut pass);
    }
    if pass.word < WORDS as u32 && table.unresolved_rule != 0 {
        pass.decision.add(table.unresolved_rule, true);
    }
    pass.decision.pack()
}

/// Rounds of a pass: every word once, and every position that is looked at.
const ROUNDS_MAX: u32 = (ACCEPTED_MAX + WORDS) as u32;

/// One pass over accepting positions.
struct Pass {
    scratch: *mut Scratch,
    slot: u32,
    /// The word that is being looked at; [`WORDS`] when the pass is complete.
    word: u32,
    /// Exception sets of the subject, for the second pass.
    sets: u64,
    /// 1 in the first pass, which weighs the rules without exceptions and only notes the others.
    plain: u32,
    /// 1 when a rule with exceptions was noted.
    exceptions: u32,
    decision: Decision,
}

extern "C" fn weigh(_round: u64, pass: *mut Pass) -> u64 {
    // SAFETY: the pointers were put there by `judge` and outlive the loop; the verifier tracks them.
    let (pass, scratch) = unsafe { (&mut *pass, &mut *(*pass).scratch) };
    if pass.word >= WORDS as u32 {
        return STOP;
    }
    let Some(index) = take_lowest(scratch, pass.word) else {
        pass.word += 1;
        return GO_ON;
    };
    let Some(accept) = ACCEPTS.get(pass.slot * BITS + index) else {
        return GO_ON;
    };
    let Some(rule) = RULES.get(pass.slot * RULES_MAX + (accept.index & (RULES_MAX - 1))) else {
        return GO_ON;
    };
    let plain = rule.exceptions == 0;
    if !plain && pass.plain != 0 {
        pass.exceptions = 1;
    }
    if plain == (pass.plain != 0) && rule.exceptions & pass.sets == 0 {
        pass.decision.add(accept.index + 1, rule.enforce != 0);
    }
    GO_ON
}

/// Takes the lowest accepting position of a word away and returns its index over all words.
#[inline(always)]
fn take_lowest(scratch: &mut Scratch, word: u32) -> Option<u32> {
    let at = word as usize & (WORDS - 1);
    let bits = scratch.accepted.words[at];
    if bits == 0 {
        return None;
    }
    scratch.accepted.words[at] = bits & (bits - 1);
    Some(word * 64 + lowest(bits))
}

/// The exception sets that the current task's executable belongs to; none when its environment told
/// it to load other code. Overwrites `Scratch::accepted` and the matcher's state.
#[inline(never)]
fn subject_sets(scratch: &mut Scratch, table: &'static Table, slot: u32, label_flags: u32) -> u64 {
    if label_flags & LabelFlags::LOADER_ENV != 0 {
        return 0;
    }
    let mm: u64 = read(tasks::current() as u64 + offset!(task_mm));
    if mm == 0 {
        return 0;
    }
    let file: u64 = read(mm + offset!(mm_exe_file));
    let sets = sets_by_content(scratch, read(file + offset!(file_inode)));
    let mut subject = SubjectPass { scratch, slot, word: 0, sets };
    walk::walk_subject(scratch, read(file + offset!(file_path) + offset!(path_dentry)), table, slot);
    if scratch.subject.resolved() {
        restrict(scratch, table, 1 << Operation::SUBJECT);
        repeat(ROUNDS_MAX, add_set, &mut subject);
    }
    subject.sets
}

/// The exception sets that an executable's content belongs to, when it is known. A function of its own to keep its
/// locals off the stack of the walk.
#[inline(never)]
fn sets_by_content(scratch: &mut Scratch, address: u64) -> u64 {
    scratch.key = inode(address).key;
    // SAFETY: the value stays in place while the program runs (RCU).
    unsafe { IMAGES.get(&scratch.key) }.map_or(0, |image| image.exceptions)
}

/// One pass over the subject's accepting positions.
struct SubjectPass {
    scratch: *mut Scratch,
    slot: u32,
    word: u32,
    sets: u64,
}

extern "C" fn add_set(_round: u64, pass: *mut SubjectPass) -> u64 {
    // SAFETY: as in `weigh`.
    let (pass, scratch) = unsafe { (&mut *pass, &mut *(*pass).scratch) };
    if pass.word >= WORDS as u32 {
        return STOP;
    }
    match take_lowest(scratch, pass.word) {
        None => pass.word += 1,
        Some(index) => {
            if let Some(accept) = ACCEPTS.get(pass.slot * BITS + index) {
                pass.sets |= 1 << (accept.index & 63);
            }
        }
    }
    GO_ON
}

/// Judges the executable whose identity is in `Scratch::key` by its content, when that is known. The result is packed,
/// see [`judge`].
#[inline(never)]
pub(crate) fn judge_content(
    scratch: &mut Scratch,
    table: &'static Table,
    slot: u32,
    label_flags: u32,
) -> u64 {
    // SAFETY: the value stays in place while the program runs (RCU).
    let Some(image) = (unsafe { IMAGES.get(&scratch.key) }) else {
        return 0;
    };
    let index = image.exec_rule;
    if index == 0 {
        return 0;
    }
    let Some(rule) = RULES.get(slot * RULES_MAX + ((index - 1) & (RULES_MAX - 1))) else {
        return 0;
    };
    if rule.exceptions != 0 && rule.exceptions & subject_sets(scratch, table, slot, label_flags) != 0 {
        return 0;
    }
    let mut decision = Decision::ALLOW;
    decision.add(index, rule.enforce != 0);
    decision.pack()
}

/// Judges the destination in the record's head. The result is packed, see [`judge`].
#[inline(never)]
pub(crate) fn judge_address(scratch: &mut Scratch, label: &Label) -> u64 {
    let Some(active) = active() else {
        return 0;
    };
    let first = weigh_address(scratch, active.slot, 0, 1);
    if first & NOTED == 0 {
        return first;
    }
    let sets = subject_sets(scratch, active.table, active.slot, label.flags);
    let second = weigh_address(scratch, active.slot, sets, 0);
    let first = Decision::unpack(first & !NOTED, 0);
    first.or(Decision::unpack(second & !NOTED, 0)).pack()
}

/// A rule with exceptions was noted, see [`Pass::exceptions`].
const NOTED: u64 = 1 << 63;

/// One pass over the rules of the longest prefix of the destination; an IPv4-mapped IPv6 address counts as IPv4.
#[inline(never)]
fn weigh_address(scratch: &mut Scratch, slot: u32, sets: u64, plain: u32) -> u64 {
    let address = scratch.header.address;
    let v4 = scratch.header.detail == AF_INET as u32;
    let mapped = matches!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..]);
    let rules = if v4 || mapped {
        let at = if v4 { 0 } else { 12 };
        let address = [address[at], address[at + 1], address[at + 2], address[at + 3]];
        PREFIXES4.get(&aya_ebpf::maps::lpm_trie::Key::new(64, Prefix4 { slot, address }))
    } else {
        PREFIXES6.get(&aya_ebpf::maps::lpm_trie::Key::new(160, Prefix6 { slot, address }))
    };
    let Some(rules) = rules else {
        return 0;
    };
    let port = scratch.header.port;
    let mut pass = PortPass { rules, slot, port, sets, plain, exceptions: 0, decision: Decision::ALLOW };
    repeat(RULES_PER_PREFIX_MAX as u32, weigh_port, &mut pass);
    pass.decision.pack() | if pass.exceptions != 0 { NOTED } else { 0 }
}

/// One pass over the rules of a prefix; see [`Pass`].
struct PortPass {
    rules: *const PrefixRules,
    slot: u32,
    port: u32,
    sets: u64,
    plain: u32,
    exceptions: u32,
    decision: Decision,
}

extern "C" fn weigh_port(index: u64, pass: *mut PortPass) -> u64 {
    // SAFETY: as in `weigh`.
    let (pass, rules) = unsafe { (&mut *pass, &*(*pass).rules) };
    let index = index as usize;
    if index >= RULES_PER_PREFIX_MAX || index as u32 >= rules.count {
        return STOP;
    }
    let candidate = rules.rules[index];
    if pass.port < candidate.port_first as u32 || pass.port > candidate.port_last as u32 {
        return GO_ON;
    }
    let Some(rule) = RULES.get(pass.slot * RULES_MAX + (candidate.rule & (RULES_MAX - 1))) else {
        return GO_ON;
    };
    let plain = rule.exceptions == 0;
    if !plain && pass.plain != 0 {
        pass.exceptions = 1;
    }
    if plain == (pass.plain != 0) && rule.exceptions & pass.sets == 0 {
        pass.decision.add(candidate.rule + 1, rule.enforce != 0);
    }
    GO_ON
}

/// Keeps the accepting positions of patterns for these operations.
#[inline(always)]
fn restrict(scratch: &mut Scratch, table: &Table, operations: u32) {
    for word in 0..WORDS {
        let mut wanted = 0;
        for operation in 0..Operation::COUNT {
            if operations & (1 << operation) != 0 {
                wanted |= table.operation[operation].words[word];
            }
        }
        scratch.accepted.words[word] &= wanted;
    }
}

/// Number of the lowest set bit, by multiplication with a de Bruijn sequence: the target has no count instruction,
/// and branches on each bit would multiply the verifier's work.
#[inline(always)]
fn lowest(bits: u64) -> u32 {
    const SEQUENCE: u64 = 0x03f7_9d71_b4cb_0a89;
    static POSITIONS: [u8; 64] = {
        let mut table = [0u8; 64];
        let mut bit = 0;
        while bit < 64 {
            table[((1u64 << bit).wrapping_mul(SEQUENCE) >> 58) as usize] = bit;
            bit += 1;
        }
        table
    };
    let single = bits & bits.wrapping_neg();
    POSITIONS[(single.wrapping_mul(SEQUENCE) >> 58) as usize & 63] as u32
}
