//! Connect rules: where a subject connects or sends to, judged by address, by abstract name, or, where a socket says
//! nothing of it, as any address.
//!
//! Each judgement is up to two passes: rules that are for everybody, and then, when there were others, the subject's
//! executable is looked at, once, and they are weighed. Results are packed, see `Decision::pack`.

use treeline_abi::{
    Label,
    lift::LIFT,
    network::{
        ABSTRACT_WORDS_USED, ABSTRACTS_MAX, AbstractRule, Prefix4, Prefix6, PrefixRules, RULES_PER_PREFIX_MAX,
    },
    paths::{NO_RULE, Operation, RULES_MAX, Rule},
};

use crate::{
    cgroup::AF_INET,
    decide::{self, active, subject_sets},
    grants,
    kernel::{GO_ON, STOP, copy, masked, repeat},
    lifts,
    maps::{ABSTRACTS, PREFIXES4, PREFIXES6, RULES},
    scratch::{Found, Scratch},
    walk::Active,
};

/// The first pass has left rules.
const NOTED: u64 = 1 << 63;
/// And to weigh them it has to be known who acts.
const ASKS: u64 = 1 << 62;
const LOOPBACK4: [u8; 4] = [127, 0, 0, 1];

/// What a pass knows, the same in all its rounds. What it finds is in `Scratch::found`, see there.
#[derive(Clone, Copy)]
struct Weighing {
    scratch: *mut Scratch,
    slot: u32,
    /// 1 in the first pass, which weighs the rules that are for everybody and only notes the others.
    plain: u32,
}

impl Weighing {
    #[inline(always)]
    fn new(scratch: &mut Scratch, slot: u32, plain: u32) -> Self {
        scratch.found = Found::default();
        Self { scratch, slot, plain }
    }

    /// Weighs a rule that matches; `asked` is 0 where nothing can lift it.
    #[inline(always)]
    fn add(&self, index: u32, rule: &Rule, asked: u32) {
        // SAFETY: the pointer was put there by `new` and outlives the loop; the verifier tracks it.
        decide::weigh_rule(unsafe { &mut *self.scratch }, index, rule, self.plain, asked);
    }

    /// As [`Self::add`], by the rule's index; or notes a lift.
    #[inline(always)]
    fn add_index(&self, index: u32) {
        if index & LIFT != 0 {
            if self.plain != 0 {
                // SAFETY: as in `add`.
                lifts::note(unsafe { &mut *self.scratch }, index);
            }
            return;
        }
        let index = index & (RULES_MAX - 1);
        if let Some(rule) = RULES.get(self.slot * RULES_MAX + index) {
            self.add(index, rule, 1 << Operation::CONNECT);
        }
    }

    /// Numbers of the working memory and the tables, and [`Self::plain`], a byte each: by them a global function of
    /// older kernels makes [`Self::again`] of it.
    #[inline(always)]
    fn at(&self) -> u32 {
        // SAFETY: as in `add`.
        let number = unsafe { (*self.scratch).number as u32 };
        number | self.slot << 8 | self.plain << 16
    }

    /// The same in a global function.
    #[inline(always)]
    fn again(at: u32) -> Option<Self> {
        let scratch = Scratch::numbered(at & 0xff)?;
        Some(Self { scratch, slot: at >> 8 & 0xff, plain: at >> 16 })
    }

    #[inline(always)]
    fn packed(&self) -> u64 {
        // SAFETY: as in `add`.
        let found = unsafe { &(*self.scratch).found };
        let noted = found.is_incomplete() as u64 * NOTED;
        found.packed | noted | found.needs_subject() as u64 * ASKS
    }
}

/// The severer of two passes. Both are of one generation, which is put in later.
#[inline(always)]
fn severer(scratch: &mut Scratch, one: u64, other: u64) -> u64 {
    decide::severer(scratch, one & !(NOTED | ASKS), other & !(NOTED | ASKS))
}

/// Judges by one pass, and a second one if the first has left rules. Each is given whether it is the first: 1, or 0.
#[inline(always)]
fn judge_by(
    scratch: &mut Scratch,
    active: &Active,
    label_flags: u32,
    pass: impl Fn(&mut Scratch, u32) -> u64,
) -> u64 {
    lifts::forget(scratch);
    let first = pass(scratch, 1);
    if first & NOTED == 0 {
        return first & !ASKS;
    }
    if first & ASKS != 0 {
        subject_sets(scratch, active.table, active.slot, label_flags);
    }
    lifts::weigh(scratch, active.slot);
    let second = pass(scratch, 0);
    severer(scratch, first, second)
}

/// Judges the destination in the record's head.
#[inline(never)]
pub(crate) fn judge_address(scratch: &mut Scratch, label: &Label) -> u64 {
    let Some(active) = active() else {
        return 0;
    };
    let slot = active.slot;
    let one = judge_by(scratch, &active, label.flags, |scratch, plain| weigh_address(scratch, slot, plain));
    if scratch.header.detail == AF_INET as u32 || scratch.header.address != [0; 16] {
        return grants::of_address(scratch, slot, one);
    }
    // Each of the two by itself: what lifts a rule for one of them says nothing of the other.
    let other =
        judge_by(scratch, &active, label.flags, |scratch, plain| weigh_loopback(scratch, slot, plain));
    let packed = severer(scratch, one, other);
    grants::of_address(scratch, slot, packed)
}

/// One pass over the rules of the longest prefix of the destination, as `treeline_abi::network` says it is looked up.
#[inline(never)]
fn weigh_address(scratch: &mut Scratch, slot: u32, plain: u32) -> u64 {
    let address = scratch.header.address;
    let v4 = scratch.header.detail == AF_INET as u32;
    let mapped = matches!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..]);
    let rules = if v4 || mapped {
        let at = if v4 { 0 } else { 12 };
        let address = match [address[at], address[at + 1], address[at + 2], address[at + 3]] {
            [0, 0, 0, 0] => LOOPBACK4,
            address => address,
        };
        PREFIXES4.get(&aya_ebpf::maps::lpm_trie::Key::new(64, Prefix4 { slot, address }))
    } else {
        let mut address = address;
        if address == [0; 16] {
            address[15] = 1;
        }
        PREFIXES6.get(&aya_ebpf::maps::lpm_trie::Key::new(160, Prefix6 { slot, address }))
    };
    let port = scratch.header.port;
    weigh_ports(rules, port, Weighing::new(scratch, slot, plain))
}

/// One pass over the rules of IPv4's loopback, for the destination `::`: a socket that is bound to a mapped address
/// connects there.
#[inline(never)]
fn weigh_loopback(scratch: &mut Scratch, slot: u32, plain: u32) -> u64 {
    let rules = PREFIXES4.get(&aya_ebpf::maps::lpm_trie::Key::new(64, Prefix4 { slot, address: LOOPBACK4 }));
    let port = scratch.header.port;
    weigh_ports(rules, port, Weighing::new(scratch, slot, plain))
}

#[inline(always)]
fn weigh_ports(rules: Option<&PrefixRules>, port: u32, weighing: Weighing) -> u64 {
    let Some(rules) = rules else {
        return 0;
    };
    let mut pass = PortPass { rules, port, weighing };
    // Few enough to be walked one by one where there are no callbacks.
    let context = &raw mut pass;
    repeat(RULES_PER_PREFIX_MAX as u32, weigh_port, &mut pass, |index| weigh_port(index as u64, context));
    pass.weighing.packed()
}

/// One pass over the rules of a prefix.
struct PortPass {
    rules: *const PrefixRules,
    port: u32,
    weighing: Weighing,
}

extern "C" fn weigh_port(index: u64, pass: *mut PortPass) -> u64 {
    // SAFETY: the pointers were put there by `weigh_ports` and outlive the loop; the verifier tracks them.
    let (pass, rules) = unsafe { (&*pass, &*(*pass).rules) };
    let index = index as usize;
    if index >= RULES_PER_PREFIX_MAX || index as u32 >= rules.count {
        return STOP;
    }
    let candidate = rules.rules[index];
    if pass.port < candidate.port_first as u32 || pass.port > candidate.port_last as u32 {
        return GO_ON;
    }
    pass.weighing.add_index(candidate.rule);
    GO_ON
}

/// Judges what every rule with this bit of [`treeline_abi::paths::Rule::operations`] matches, whatever the object: a
/// socket whose destinations cannot be looked at, access to a process outside of the session.
#[inline(never)]
pub(crate) fn judge_all(scratch: &mut Scratch, label: &Label, bit: u32) -> u64 {
    let Some(active) = active() else {
        return 0;
    };
    let slot = active.slot;
    judge_by(scratch, &active, label.flags, |scratch, plain| weigh_all(scratch, slot, bit, plain))
}

/// One pass over all rules.
struct AllPass {
    bit: u32,
    weighing: Weighing,
}

#[inline(never)]
fn weigh_all(scratch: &mut Scratch, slot: u32, bit: u32, plain: u32) -> u64 {
    let mut pass = AllPass { bit, weighing: Weighing::new(scratch, slot, plain) };
    let at = pass.weighing.at();
    repeat(RULES_MAX, weigh_with_bit, &mut pass, |index| older_weigh_with_bit(at, index, bit));
    pass.weighing.packed()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_weigh_with_bit(at: u32, index: u32, bit: u32) -> u64 {
    let Some(weighing) = Weighing::again(at) else {
        return STOP;
    };
    one_with_bit(index as u64, &mut AllPass { bit, weighing })
}

extern "C" fn weigh_with_bit(index: u64, pass: *mut AllPass) -> u64 {
    one_with_bit(index, pass)
}

#[inline(always)]
fn one_with_bit(index: u64, pass: *mut AllPass) -> u64 {
    // SAFETY: as in `weigh_port`.
    let pass = unsafe { &*pass };
    let index = index as u32 & (RULES_MAX - 1);
    if let Some(rule) = RULES.get(pass.weighing.slot * RULES_MAX + index)
        && rule.operations & pass.bit != 0
    {
        // Of what is not looked at nothing is lifted.
        pass.weighing.add(index, rule, 0);
    }
    GO_ON
}

/// Judges an abstract name of `len` bytes at a kernel address.
#[inline(never)]
pub(crate) fn judge_abstract(scratch: &mut Scratch, label: &Label, name: u64, len: u32) -> u64 {
    let Some(active) = active() else {
        return 0;
    };
    take_name(scratch, name, len);
    let slot = active.slot;
    let packed = judge_by(scratch, &active, label.flags, |scratch, plain| weigh_name(scratch, slot, plain));
    grants::of_abstract(scratch, &active, packed)
}

/// Copies a name to where it is compared: from its beginning, and aligned to its end.
#[inline(always)]
fn take_name(scratch: &mut Scratch, name: u64, len: u32) {
    let len = masked::<0x7f>(len);
    for word in 0..scratch.name_head.len() {
        // SAFETY: within both arrays; volatile, so that it stays word by word.
        unsafe {
            (&raw mut scratch.name_head[word]).write_volatile(0);
            (&raw mut scratch.name_tail[word]).write_volatile(0);
        }
    }
    scratch.abstract_len = len;
    copy(scratch.name_head.as_mut_ptr().cast(), len, name);
    let at = masked::<0xff>(size_of_val(&scratch.name_tail) as u32 - len) as usize;
    // SAFETY: `at` is at most 128 and `len` fills the rest; the fields behind give the verifier's bounds room.
    copy(unsafe { scratch.name_tail.as_mut_ptr().cast::<u8>().add(at) }, len, name);
}

#[inline(never)]
fn weigh_name(scratch: &mut Scratch, slot: u32, plain: u32) -> u64 {
    let mut pass = Weighing::new(scratch, slot, plain);
    let at = pass.at();
    repeat(ABSTRACTS_MAX, weigh_pattern, &mut pass, |index| older_weigh_pattern(at, index));
    pass.packed()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_weigh_pattern(at: u32, index: u32) -> u64 {
    match Weighing::again(at) {
        Some(mut weighing) => one_pattern(index as u64, &mut weighing),
        None => STOP,
    }
}

extern "C" fn weigh_pattern(index: u64, pass: *mut Weighing) -> u64 {
    one_pattern(index, pass)
}

#[inline(always)]
fn one_pattern(index: u64, pass: *mut Weighing) -> u64 {
    // SAFETY: as in `weigh_port`; nothing of the scratch memory that is read here is written meanwhile.
    let (pass, scratch) = unsafe { (&*pass, &*(*pass).scratch) };
    let Some(pattern) = ABSTRACTS.get(pass.slot * ABSTRACTS_MAX + index as u32) else {
        return STOP;
    };
    let pattern: &AbstractRule = pattern;
    if pattern.rule == NO_RULE {
        return STOP;
    }
    if scratch.abstract_len < pattern.len_min || scratch.abstract_len > pattern.len_max {
        return GO_ON;
    }
    let last = scratch.name_tail.len() - ABSTRACT_WORDS_USED;
    let mut differs = 0;
    for word in 0..ABSTRACT_WORDS_USED {
        differs |= (scratch.name_head[word] & pattern.prefix_mask[word]) ^ pattern.prefix[word];
        differs |=
            (scratch.name_tail[last + word] & pattern.suffix_mask[last + word]) ^ pattern.suffix[last + word];
    }
    if differs == 0 {
        pass.add_index(pattern.rule - 1);
    }
    GO_ON
}
