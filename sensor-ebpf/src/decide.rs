//! From accepting positions to a verdict.

use treeline_abi::{
    Label, LabelFlags, Verdict,
    lift::LIFT,
    paths::{
        Accept, AliasKey, AliasRules, LISTED_MAX, LISTS_MAX, Operation, RULES_MAX, RULES_PER_ALIAS_MAX, Rule,
        SLOTS, Table, WORDS,
    },
    subject::{AcceptKind, SETS_MAX},
};

use crate::{
    content, grants,
    kernel::{GO_ON, STOP, inode, is_older, masked, offset, read, repeat, repeat_plainly},
    lifts,
    maps::{ACCEPTS, ACTIVE, ALIASES, HOLDS, IMAGES, LISTS, RULES, SESSIONS, TABLES},
    scratch::{Found, Listed, Scratch},
    tasks,
    walk::{self, Active},
};

/// Positions and entries of lists that are looked at for one object: more than there are rules several times over. An
/// object under more counts as unresolved.
const ACCEPTED_MAX: usize = 16_384;
const BITS: u32 = (WORDS * 64) as u32;

/// What a hook does with an object.
///
/// The verdict is a number that comes from memory or from a global function, so that the verifier knows nothing of it.
/// Of constants on a hook's ways it keeps track, and loses it: that of Linux 6.1 took ways for the same that differed
/// in the verdict alone, looked at one of them, and made the branch on the verdict unconditional.
#[derive(Clone, Copy)]
pub(crate) struct Decision {
    /// [`Verdict`]; the severer is the higher.
    verdict: u64,
    /// Rule index + 1, or 0.
    pub(crate) rule: u32,
    pub(crate) generation: u64,
}

impl Decision {
    pub(crate) const ALLOW: Self = Self { verdict: Verdict::Allow as u64, rule: 0, generation: 0 };

    /// That of one rule: refuses, if `enforce` is 1, or records, if it is 0.
    #[inline(always)]
    pub(crate) fn of(rule: u32, enforce: u32) -> Self {
        Self { verdict: Verdict::Audit as u64 + masked::<1>(enforce) as u64, rule, generation: 0 }
    }

    /// That of one rule of the policy in force, packed.
    #[inline(always)]
    pub(crate) fn packed_of(rule: u32, enforce: u32) -> u64 {
        Self::of(rule, enforce).pack()
    }

    /// The severer of two decisions; the lower rule of two that are equally severe.
    #[inline(always)]
    pub(crate) fn or(self, other: Self) -> Self {
        let is_severer = other.verdict > self.verdict;
        let is_first = other.verdict == self.verdict && other.rule < self.rule;
        let winner = if is_severer || is_first { other } else { self };
        Self { generation: self.generation, ..winner }
    }

    /// The verdict and rule in one register: subprograms return one.
    #[inline(always)]
    pub(crate) fn pack(self) -> u64 {
        self.verdict << 32 | self.rule as u64
    }

    /// From [`Self::pack`], by way of memory.
    #[inline(always)]
    pub(crate) fn unpack(scratch: &mut Scratch, packed: u64, generation: u64) -> Self {
        let place = &raw mut scratch.packed;
        // SAFETY: a field of a valid reference; volatile, so that the verifier sees both.
        let packed = unsafe {
            place.write_volatile(packed);
            place.read_volatile()
        };
        Self { verdict: packed >> 32, rule: packed as u32, generation }
    }

    /// [`Verdict`] as a number.
    #[inline(always)]
    pub(crate) fn verdict(self) -> u64 {
        self.verdict
    }

    #[inline(always)]
    pub(crate) fn is_deny(self) -> bool {
        self.verdict == Verdict::Deny as u64
    }

    #[inline(always)]
    pub(crate) fn is_allow(self) -> bool {
        self.verdict == Verdict::Allow as u64
    }

    /// None, by the same policy.
    #[inline(always)]
    pub(crate) fn lifted(self) -> Self {
        Self { generation: self.generation, ..Self::ALLOW }
    }

    /// The same where nothing can be refused any more.
    #[inline(always)]
    pub(crate) fn only_recorded(self) -> Self {
        Self { verdict: (self.rule != 0) as u64 * Verdict::Audit as u64, ..self }
    }
}

/// Adds one rule to what a pass has found.
#[inline(always)]
pub(crate) fn add(found: &mut Found, rule: u32, enforce: u32) {
    let packed = found.packed;
    let before = Decision { verdict: packed >> 32, rule: packed as u32, generation: 0 };
    found.packed = before.or(Decision::of(rule, enforce)).pack();
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

/// Whether the policy in force refuses anything: then what cannot be judged is refused.
#[inline(always)]
pub(crate) fn enforcing() -> bool {
    active().is_some_and(|active| active.table.enforcing != 0)
}

/// The refusal of what cannot be decided by the rule with that index + 1, if there is one.
#[inline(always)]
pub(crate) fn undecidable_by(rule: u32) -> Decision {
    match rule {
        0 => Decision::ALLOW,
        rule => Decision::of(rule, 1),
    }
}

/// Walks an object and judges an operation on it. The path is in `Scratch::path` afterwards.
#[inline(always)]
pub(crate) fn judge_dentry(scratch: &mut Scratch, dentry: u64, operations: u32, label: &Label) -> Decision {
    let packed = judge_named(scratch, dentry, operations, label.flags);
    let packed = grants::of_object(scratch, dentry, operations, label.flags, packed);
    let generation = scratch.generation;
    Decision::unpack(scratch, packed, generation)
}

/// [`judge_dentry`], with the result packed.
#[inline(always)]
pub(crate) fn judge_named(scratch: &mut Scratch, dentry: u64, operations: u32, label_flags: u32) -> u64 {
    scratch.object = dentry;
    if is_older() {
        return older_judge_dentry(scratch.number as u32, operations, label_flags);
    }
    // SAFETY: a valid reference, used by nobody else meanwhile.
    unsafe { treeline_judge_dentry(scratch, operations, label_flags) }
}

/// [`judge_dentry`] as a global function: the verifier walks it once a program, whoever calls it and how often. The
/// object is in `Scratch::object`; the result is packed, see [`judge`]; the generation is in `Scratch::generation`.
///
/// # Safety
/// `scratch` is null or a hook's working memory.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn treeline_judge_dentry(scratch: *mut Scratch, operations: u32, label_flags: u32) -> u64 {
    // SAFETY: the caller's promise; the verifier does not know it, and asks for the look at null.
    match unsafe { scratch.as_mut() } {
        Some(scratch) => judge_object(scratch, operations, label_flags),
        None => 0,
    }
}

/// As [`treeline_judge_dentry`], for older kernels: see `kernel::repeat`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_judge_dentry(number: u32, operations: u32, label_flags: u32) -> u64 {
    match Scratch::numbered(number) {
        Some(scratch) => judge_object(scratch, operations, label_flags),
        None => 0,
    }
}

#[inline(always)]
fn judge_object(scratch: &mut Scratch, operations: u32, label_flags: u32) -> u64 {
    let dentry = scratch.object;
    scratch.generation = 0;
    let Some(active) = active() else {
        walk::walk_path(scratch, dentry);
        return 0;
    };
    scratch.generation = active.table.generation;
    walk::walk_object(scratch, dentry, active.table, active.slot);
    let node: u64 = read(dentry + offset!(dentry_inode));
    let names = if node == 0 { 0 } else { read::<u32>(node + offset!(inode_nlink)) };
    // A directory has as many as there are in it, and each is one.
    let is_directory = node != 0 && read::<u16>(node + offset!(inode_mode)) & 0o170_000 == 0o040_000;
    scratch.several_names = (names > 1 && !is_directory) as u32;
    let packed = judge::<false>(scratch, active.table, active.slot, operations, label_flags);
    if names < 2 {
        return packed;
    }
    // Another name of it may be a protected one.
    scratch.alias =
        AliasKey { slot: active.slot, device: scratch.walked.device, inode: read(node + offset!(inode_ino)) };
    let alias = judge_alias(scratch, active.table, active.slot, operations, label_flags);
    severer(scratch, packed, alias)
}

/// The severer of two packed decisions.
#[inline(always)]
pub(crate) fn severer(scratch: &mut Scratch, one: u64, other: u64) -> u64 {
    let one = Decision::unpack(scratch, one, 0);
    one.or(Decision::unpack(scratch, other, 0)).pack()
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
    // On the stack: what a global function gets by pointer cannot be a key before Linux 6.2.
    let key = scratch.alias;
    // SAFETY: the value stays in place while the program runs (RCU).
    let Some(alias) = (unsafe { ALIASES.get(&key) }) else {
        return 0;
    };
    scratch.found = Found::default();
    let mut pass = AliasPass { scratch, alias, slot, operations, plain: 1 };
    weigh_aliases(&mut pass);
    if scratch.found.noted != 0 {
        subject_sets(scratch, table, slot, label_flags);
        pass = AliasPass { scratch, alias, slot, operations, plain: 0 };
        weigh_aliases(&mut pass);
    }
    scratch.found.packed
}

/// One pass over the rules of an alias; see [`Pass`].
struct AliasPass {
    scratch: *mut Scratch,
    alias: *const AliasRules,
    slot: u32,
    operations: u32,
    plain: u32,
}

/// Few enough to be walked one by one where there are no callbacks.
#[inline(always)]
fn weigh_aliases(pass: &mut AliasPass) {
    let context = &raw mut *pass;
    repeat(RULES_PER_ALIAS_MAX as u32, weigh_alias, pass, |index| weigh_alias(index as u64, context));
}

extern "C" fn weigh_alias(index: u64, pass: *mut AliasPass) -> u64 {
    // SAFETY: as in `weigh`.
    let (pass, alias, holds, found) =
        unsafe { (&*pass, &*(*pass).alias, &(*(*pass).scratch).holds, &mut (*(*pass).scratch).found) };
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
    // What lifts a rule is said of names, and another name of the object may be any.
    let plain = rule.exceptions | rule.only == 0;
    if !plain && pass.plain != 0 {
        found.noted = Found::ASKS;
    }
    if plain == (pass.plain != 0) && rule.holds_for(holds) {
        add(found, number, rule.enforce);
    }
    GO_ON
}

/// Judges the object that was just walked. The result is a packed [`Decision`].
///
/// With `GIVEN` the subject's sets are in `Scratch::holds`: the program that is not a hook has no subject.
#[inline(never)]
pub(crate) fn judge<const GIVEN: bool>(
    scratch: &mut Scratch,
    table: &'static Table,
    slot: u32,
    operations: u32,
    label_flags: u32,
) -> u64 {
    scratch.found = Found::default();
    if !scratch.walked.resolved() {
        return unresolved(scratch, table, operations);
    }
    restrict(scratch, table, operations);
    scratch.keep_accepted();
    lifts::forget(scratch);
    weigh_all(scratch, Weighing { slot, operations, plain: 1 });
    if scratch.found.is_incomplete() && scratch.found.word > WORDS as u32 {
        // Only now, and once, is the subject's executable looked at.
        if !GIVEN && scratch.found.needs_subject() {
            subject_sets(scratch, table, slot, label_flags);
        }
        lifts::weigh(scratch, slot);
        scratch.restore_accepted();
        scratch.lists.rewind();
        scratch.found.word = 0;
        weigh_all(scratch, Weighing { slot, operations, plain: 0 });
    }
    if scratch.found.word <= WORDS as u32 {
        return unresolved(scratch, table, operations);
    }
    scratch.found.packed
}

/// What was found, with the refusal of what could not be looked at to its end. Packed.
#[inline(always)]
fn unresolved(scratch: &mut Scratch, table: &Table, operations: u32) -> u64 {
    let rule = table.unresolved(operations);
    if rule != 0 {
        add(&mut scratch.found, rule, 1);
    }
    scratch.found.packed
}

/// Rounds of a pass: every word once, and every position that is looked at.
const ROUNDS_MAX: u32 = (ACCEPTED_MAX + WORDS) as u32;

/// Rounds that an older kernel's verifier walks one by one, in a global function that stands for so many of a pass: a
/// pass is as many such functions as its square.
const OLDER_ROUNDS: u32 = 130;

const _: () = assert!(OLDER_ROUNDS * OLDER_ROUNDS >= ROUNDS_MAX);

/// One pass over accepting positions. What changes from round to round is in `Scratch::found`, see there.
struct Pass {
    scratch: *mut Scratch,
    by: Weighing,
}

/// What a pass knows, the same in all its rounds.
#[derive(Clone, Copy)]
struct Weighing {
    slot: u32,
    operations: u32,
    /// 1 in the first pass, which weighs the rules that are for everybody and only notes the others.
    plain: u32,
}

#[inline(always)]
fn weigh_all(scratch: &mut Scratch, by: Weighing) {
    let Weighing { slot, operations, plain } = by;
    let at = scratch.number as u32 | slot << 8 | plain << 16;
    repeat(ROUNDS_MAX, weigh, &mut Pass { scratch, by }, |round| {
        if round < OLDER_ROUNDS { older_weigh_some(at, operations) } else { STOP }
    });
}

/// Some rounds of a pass on older kernels. `at` has the slot of the working memory, that of the tables, and
/// [`Weighing::plain`], a byte each.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_weigh_some(at: u32, operations: u32) -> u64 {
    let mut result = GO_ON;
    repeat_plainly(OLDER_ROUNDS, |_| {
        result = older_weigh(at, operations);
        result
    });
    result
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_weigh(at: u32, operations: u32) -> u64 {
    let Some(scratch) = Scratch::numbered(at & 0xff) else {
        return STOP;
    };
    let by = Weighing { slot: at >> 8 & 0xff, operations, plain: at >> 16 };
    one_weighing(&mut Pass { scratch, by })
}

extern "C" fn weigh(_round: u64, pass: *mut Pass) -> u64 {
    one_weighing(pass)
}

#[inline(always)]
fn one_weighing(pass: *mut Pass) -> u64 {
    // SAFETY: the pointers were put there by the callers above and outlive the loop; the verifier tracks them.
    let (pass, scratch) = unsafe { (&(*pass).by, &mut *(*pass).scratch) };
    let word = scratch.found.word;
    if word > WORDS as u32 {
        return STOP;
    }
    let index = match next(scratch, word, pass.slot, pass.operations, true) {
        Next::Accepted(index) => index,
        Next::None => return GO_ON,
        Next::Word => {
            scratch.found.word = word + 1;
            return GO_ON;
        }
    };
    if index & LIFT != 0 {
        if pass.plain != 0 {
            lifts::note(scratch, index);
        }
        return GO_ON;
    }
    let Some(rule) = RULES.get(pass.slot * RULES_MAX + (index & (RULES_MAX - 1))) else {
        return GO_ON;
    };
    weigh_rule(scratch, index, rule, pass.plain, pass.operations & rule.operations);
    GO_ON
}

/// Weighs a rule that matches, in the first pass if it is for everybody and nothing can lift it: then `plain` is 1. `asked` are the
/// operations for each of which it would have to be lifted; 0 if nothing lifts it.
#[inline(always)]
pub(crate) fn weigh_rule(scratch: &mut Scratch, index: u32, rule: &Rule, plain: u32, asked: u32) {
    const CONTENT: u32 = 1 << Operation::READ | 1 << Operation::WRITE;
    let is_known = scratch.several_names == 0 || rule.enforce & Rule::ANYWHERE == 0 || asked & CONTENT == 0;
    let is_liftable = rule.enforce & Rule::LIFTABLE != 0 && asked != 0 && is_known;
    let asks = (rule.exceptions | rule.only != 0) as u32 * Found::ASKS;
    let notes = asks | is_liftable as u32 * Found::LIFTABLE;
    if notes != 0 && plain != 0 {
        scratch.found.noted |= notes;
    }
    if (notes == 0) != (plain != 0) || !rule.holds_for(&scratch.holds) {
        return;
    }
    if is_liftable && lifts::is_lifted(scratch, index, asked) || grants::is_left_out(scratch, index) {
        return;
    }
    add(&mut scratch.found, index + 1, rule.enforce);
}

/// What a round of a pass finds.
enum Next {
    /// The index of an [`Accept`].
    Accepted(u32),
    /// Nothing, but there may be more.
    None,
    /// This word, or the lists, have nothing more.
    Word,
}

/// Takes one accepting position of a word away or, when there are no more words, one entry of the lists.
#[inline(always)]
fn next(scratch: &mut Scratch, word: u32, slot: u32, operations: u32, object: bool) -> Next {
    if word < WORDS as u32 {
        return match take_lowest(scratch, word) {
            None => Next::Word,
            Some(position) => match accept_at(slot, position) {
                Some(accept) => Next::Accepted(accept.index),
                None => Next::None,
            },
        };
    }
    let lists = if object { &mut scratch.lists } else { &mut scratch.subject_lists };
    match take_entry(lists, slot) {
        None => Next::Word,
        Some(accept) if accept.operations & operations != 0 => Next::Accepted(accept.index),
        Some(_) => Next::None,
    }
}

/// What an accepting position means.
#[inline(always)]
pub(crate) fn accept_at(slot: u32, position: u32) -> Option<&'static Accept> {
    ACCEPTS.get(slot * BITS + position)
}

/// The next entry of the lists.
#[inline(always)]
fn take_entry(lists: &mut Listed, slot: u32) -> Option<&'static Accept> {
    if lists.entry == 0 {
        if lists.at >= lists.count {
            return None;
        }
        let at = masked::<{ LISTED_MAX as i32 - 1 }>(lists.at) as usize;
        // SAFETY: below LISTED_MAX by the mask, which the verifier sees.
        lists.entry = unsafe { (&raw const lists.numbers).cast::<u32>().add(at).read_volatile() };
        lists.at += 1;
    }
    let accept = LISTS.get(slot * LISTS_MAX + ((lists.entry - 1) & (LISTS_MAX - 1)))?;
    lists.entry = if accept.operations & Accept::LAST != 0 { 0 } else { lists.entry + 1 };
    Some(accept)
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

/// Leaves the current task's subject sets in `Scratch::holds`. Overwrites `Scratch::accepted` and the matcher's state.
#[inline(always)]
pub(crate) fn subject_sets(scratch: &mut Scratch, _table: &'static Table, slot: u32, label_flags: u32) {
    // What nobody finds out is unknown.
    scratch.holds.sure = 0;
    scratch.holds.possible = u64::MAX;
    if is_older() {
        older_subject_sets(scratch.number as u32, slot, label_flags);
        return;
    }
    // SAFETY: a valid reference, used by nobody else meanwhile.
    unsafe { treeline_subject_sets(scratch, slot, label_flags) };
}

/// [`subject_sets`] as a global function, for the same reason as [`treeline_judge_dentry`].
///
/// # Safety
/// `scratch` is null or a hook's working memory.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn treeline_subject_sets(scratch: *mut Scratch, slot: u32, label_flags: u32) -> u64 {
    // SAFETY: the caller's promise; the verifier does not know it, and asks for the look at null.
    match (unsafe { scratch.as_mut() }, TABLES.get(slot)) {
        (Some(scratch), Some(table)) => sets_of_subject(scratch, table, slot, label_flags),
        _ => 0,
    }
}

/// As [`treeline_subject_sets`], for older kernels: see `kernel::repeat`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_subject_sets(number: u32, slot: u32, label_flags: u32) -> u64 {
    match (Scratch::numbered(number), TABLES.get(slot)) {
        (Some(scratch), Some(table)) => sets_of_subject(scratch, table, slot, label_flags),
        _ => 0,
    }
}

#[inline(always)]
fn sets_of_subject(scratch: &mut Scratch, table: &'static Table, slot: u32, label_flags: u32) -> u64 {
    tasks::take_lineage(scratch);
    let mm: u64 = if tasks::has_its_image() { read(tasks::current() as u64 + offset!(task_mm)) } else { 0 };
    let mut resolved = 0;
    if mm == 0 {
        forget_content(scratch);
    } else {
        let file: u64 = read(mm + offset!(mm_exe_file));
        take_content(scratch, read(file + offset!(file_inode)), slot);
        walk::walk_subject(scratch, read(file + offset!(file_path) + offset!(path_dentry)), table, slot);
        if scratch.subject.resolved() {
            resolved = by_path(scratch, table, slot);
        }
    }
    take_session(scratch, table, slot);
    weigh_subject(scratch, table, resolved, label_flags);
    0
}

/// Finds what the path of an executable leads to that was just walked; the result is in `Scratch::sets`. Returns 1.
#[inline(always)]
pub(crate) fn by_path(scratch: &mut Scratch, table: &'static Table, slot: u32) -> u32 {
    restrict(scratch, table, 1 << Operation::SUBJECT);
    for kind in 0..AcceptKind::COUNT {
        // SAFETY: a field of a valid reference; volatile keeps the loop from becoming `memset`.
        unsafe { (&raw mut scratch.sets.found[kind]).write_volatile(0) };
    }
    scratch.sets.word = 0;
    let number = scratch.number as u32;
    repeat(ROUNDS_MAX, add_set, &mut SubjectPass { scratch, slot }, |round| {
        if round < OLDER_ROUNDS { older_add_sets(number, slot) } else { STOP }
    });
    1
}

/// Puts the subject's sets together from what was found of its executable and its session, `resolved` being 1 if its path
/// is known.
#[inline(never)]
pub(crate) fn weigh_subject(
    scratch: &mut Scratch,
    table: &'static Table,
    resolved: u32,
    label_flags: u32,
) -> u32 {
    let path = if resolved != 0 { Some(&scratch.sets.found) } else { None };
    let lineage = table.subjects.of_label(&scratch.lineage);
    let loads_code = label_flags & LabelFlags::LOADER_ENV != 0;
    scratch.holds = table.subjects.sets(path, &scratch.content, loads_code, lineage, scratch.leaves);
    0
}

/// Finds what the session in `Scratch::session` leaves of the sets; the result is in `Scratch::leaves`. It is looked up only
/// where a set asks. A function of its own, and by way of memory, to keep it off the stack of the walk.
#[inline(never)]
pub(crate) fn take_session(scratch: &mut Scratch, table: &'static Table, slot: u32) -> u32 {
    scratch.leaves.sure = !table.subjects.with_session;
    scratch.leaves.possible = u64::MAX;
    if table.subjects.with_session == 0 {
        return 0;
    }
    let session = scratch.session;
    // SAFETY: the entry's room stays a value of this map while the program runs (RCU), if not that of this session.
    let Some(known) = (unsafe { SESSIONS.get(&session) }) else {
        return 0;
    };
    let facts = &raw const known.of_slot[slot as usize & (SLOTS as usize - 1)];
    // SAFETY: fields of a valid reference; volatile, so that whose they are is read when they are.
    let (sure, possible, whose) = unsafe {
        let (sure, possible) =
            ((&raw const (*facts).sure).read_volatile(), (&raw const (*facts).possible).read_volatile());
        (sure, possible, (&raw const known.session).read_volatile())
    };
    if whose == session {
        // What asks nothing of the session is as without it.
        scratch.leaves.sure |= sure;
        scratch.leaves.possible = possible | !table.subjects.with_session;
    }
    0
}

/// Finds what an executable's content means, when it is known; the result is in `Scratch::content`. A function of its
/// own to keep its locals off the stack of the walk.
#[inline(never)]
pub(crate) fn take_content(scratch: &mut Scratch, address: u64, slot: u32) -> u32 {
    scratch.key = inode(address).key;
    forget_content(scratch);
    // As in `judge_alias`.
    let key = scratch.key;
    // SAFETY: the value stays in place while the program runs (RCU).
    let Some(content) = (unsafe { IMAGES.get(&key) }) else {
        return 0;
    };
    // Where contents have to be known, one that was only seen once gives nothing.
    let holds = HOLDS.get(slot & (SLOTS - 1)).is_some_and(|hold| hold.rule != 0);
    if holds && !content::is_valid(content, address, &key) {
        return 0;
    }
    let image = content::rules(content, slot);
    scratch.content.fingerprint = image.subject.fingerprint;
    scratch.content.sets = image.subject.sets;
    scratch.content.lineage = image.subject.lineage;
    0
}

/// No table has this fingerprint: the content is unknown.
#[inline(always)]
fn forget_content(scratch: &mut Scratch) {
    scratch.content.fingerprint = 0;
}

/// One pass over the subject's accepting positions; what it finds is in `Scratch::sets`.
struct SubjectPass {
    scratch: *mut Scratch,
    slot: u32,
}

/// Some rounds of a pass on older kernels.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_add_sets(number: u32, slot: u32) -> u64 {
    let mut result = GO_ON;
    repeat_plainly(OLDER_ROUNDS, |_| {
        result = older_add_set(number, slot);
        result
    });
    result
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_add_set(number: u32, slot: u32) -> u64 {
    let Some(scratch) = Scratch::numbered(number) else {
        return STOP;
    };
    one_set(&mut SubjectPass { scratch, slot })
}

extern "C" fn add_set(_round: u64, pass: *mut SubjectPass) -> u64 {
    one_set(pass)
}

#[inline(always)]
fn one_set(pass: *mut SubjectPass) -> u64 {
    // SAFETY: as in `weigh`.
    let (pass, scratch) = unsafe { (&*pass, &mut *(*pass).scratch) };
    let word = masked::<0xffff>(scratch.sets.word as u32);
    if word > WORDS as u32 {
        return STOP;
    }
    match next(scratch, word, pass.slot, 1 << Operation::SUBJECT, false) {
        Next::Accepted(index) => {
            let kind = masked::<{ AcceptKind::COUNT as i32 - 1 }>(index / SETS_MAX as u32) as usize;
            // SAFETY: within the array by the mask, which the verifier sees.
            unsafe { *(&raw mut scratch.sets.found).cast::<u64>().add(kind) |= 1 << (index & 63) };
        }
        Next::None => {}
        Next::Word => scratch.sets.word = word as u64 + 1,
    }
    GO_ON
}

/// Keeps the accepting positions of patterns for these operations.
///
/// Without a branch: the verifier would walk every combination of operations.
#[inline(always)]
fn restrict(scratch: &mut Scratch, table: &Table, operations: u32) {
    for word in 0..WORDS {
        let mut wanted = 0;
        for operation in 0..Operation::COUNT {
            let asked = masked::<1>(operations >> operation) as u64;
            wanted |= table.operation[operation].words[word] & asked.wrapping_neg();
        }
        scratch.accepted.words[word] &= wanted;
    }
}

/// Number of the lowest set bit, by multiplication with a de Bruijn sequence: the target has no count instruction,
/// and branches on each bit would multiply the verifier's work.
#[inline(always)]
pub(crate) fn lowest(bits: u64) -> u32 {
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
