//! From a dentry up to the root of its filesystem: the object's own path, and the matcher over its components.

use treeline_abi::{
    Offsets, name,
    paths::{ANY_STATE, DEPTH_MAX, DeviceKey, EdgeKey, NO_LIST, Table, WILD_MAX, WORDS},
};

use crate::{
    decide::lowest,
    kernel::{GO_ON, PROC_MAGIC, STOP, copy, is_older, masked, offset, read, repeat},
    maps::{DEVICES, EDGES, NAMES, TABLES, WILDS},
    scratch::{Descent, Listed, NAME_WORDS, PATH_BUFFER_LEN, Scratch, Walked, copy_mask},
};

/// Which table a walk runs over.
#[derive(Clone, Copy)]
pub(crate) struct Active {
    pub(crate) table: &'static Table,
    pub(crate) slot: u32,
}

/// What a round of a walk needs, on the stack because `bpf_loop` wants it there.
struct Walk {
    scratch: *mut Scratch,
    table: *const Table,
    slot: u32,
}

/// Walks up and keeps the path in `Scratch::path`, without asking the policy.
#[inline(always)]
pub(crate) fn walk_path(scratch: &mut Scratch, dentry: u64) {
    scratch.object = dentry;
    if is_older() {
        older_walk_path(scratch.number as u32);
    } else {
        // SAFETY: a valid reference, used by nobody else meanwhile.
        unsafe { treeline_walk_path(scratch) };
    }
}

/// As [`treeline_walk_path`], for older kernels: see `kernel::repeat`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_walk_path(number: u32) -> u32 {
    if let Some(scratch) = Scratch::numbered(number) {
        walk_kept(scratch);
    }
    0
}

/// [`walk_path`] as a global function: the verifier walks it once a program and knows nothing of its callers, which
/// it walks as often as they differ in anything.
///
/// # Safety
/// `scratch` is null or a hook's working memory.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn treeline_walk_path(scratch: *mut Scratch) -> u32 {
    // SAFETY: the caller's promise; the verifier does not know it, and asks for the look at null.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else {
        return 0;
    };
    walk_kept(scratch);
    0
}

#[inline(always)]
fn walk_kept(scratch: &mut Scratch) {
    let dentry = scratch.object;
    start(&mut scratch.walked, dentry);
    let number = scratch.number as u32;
    let mut walk = Walk { scratch, table: core::ptr::null(), slot: 0 };
    repeat(DEPTH_MAX as u32, step::<true, false>, &mut walk, |depth| older_step_path(number, depth));
}

/// Walks up, keeps the path and leaves the accepting positions on this filesystem in `Scratch::accepted`.
#[inline(never)]
pub(crate) fn walk_object(scratch: &mut Scratch, dentry: u64, table: &'static Table, slot: u32) -> u32 {
    start(&mut scratch.walked, dentry);
    clear::<true>(scratch, table);
    let number = scratch.number as u32;
    let mut walk = Walk { scratch, table, slot };
    repeat(DEPTH_MAX as u32, step::<true, true>, &mut walk, |depth| older_step_object(number, slot, depth));
    accept::<true>(scratch, table, slot);
    0
}

/// As [`walk_object`], but leaves the path of the walk before it alone: the result is in `Scratch::subject`.
#[inline(never)]
pub(crate) fn walk_subject(scratch: &mut Scratch, dentry: u64, table: &'static Table, slot: u32) -> u32 {
    start(&mut scratch.subject, dentry);
    clear::<false>(scratch, table);
    let number = scratch.number as u32;
    let mut walk = Walk { scratch, table, slot };
    repeat(DEPTH_MAX as u32, step::<false, true>, &mut walk, |depth| older_step_subject(number, slot, depth));
    accept::<false>(scratch, table, slot);
    0
}

/// Puts the matcher in its first state.
#[inline(always)]
pub(crate) fn clear<const KEEP: bool>(scratch: &mut Scratch, table: &'static Table) {
    copy_mask(&mut scratch.state, &table.start);
    listed::<KEEP>(scratch).clear();
}

#[inline(always)]
fn start(walked: &mut Walked, dentry: u64) {
    let sb: u64 = read(dentry + offset!(dentry_sb));
    walked.device = read(sb + offset!(sb_dev));
    walked.start = PATH_BUFFER_LEN as u32;
    walked.flags = folding(sb);
    walked.depth = 0;
    walked.at = dentry;
}

/// A round of [`walk_path`] on older kernels.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_step_path(number: u32, depth: u32) -> u64 {
    let Some(scratch) = Scratch::numbered(number) else {
        return STOP;
    };
    one_step::<true, false>(depth as u64, &mut Walk { scratch, table: core::ptr::null(), slot: 0 })
}

/// A round of [`walk_object`] on older kernels.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_step_object(number: u32, slot: u32, depth: u32) -> u64 {
    let (Some(scratch), Some(table)) = (Scratch::numbered(number), TABLES.get(slot)) else {
        return STOP;
    };
    one_step::<true, true>(depth as u64, &mut Walk { scratch, table, slot })
}

/// A round of [`walk_subject`] on older kernels.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_step_subject(number: u32, slot: u32, depth: u32) -> u64 {
    let (Some(scratch), Some(table)) = (Scratch::numbered(number), TABLES.get(slot)) else {
        return STOP;
    };
    one_step::<false, true>(depth as u64, &mut Walk { scratch, table, slot })
}

/// A round of the three walks.
extern "C" fn step<const KEEP: bool, const MATCH: bool>(depth: u64, walk: *mut Walk) -> u64 {
    one_step::<KEEP, MATCH>(depth, walk)
}

/// One component. `KEEP` the path (and the state in `Scratch::walked`), `MATCH` it against the table.
#[inline(always)]
fn one_step<const KEEP: bool, const MATCH: bool>(depth: u64, walk: *mut Walk) -> u64 {
    // SAFETY: the pointers were put there by the three callers above and outlive the loop; the verifier tracks them
    // through the stack. `table` is only used by the instances that have one.
    let (walk, scratch) = unsafe { (&*walk, &mut *(*walk).scratch) };
    let at = if KEEP { scratch.walked.at } else { scratch.subject.at };
    let parent: u64 = read(at + offset!(dentry_parent));
    if parent == at {
        if !is_root(at) {
            return STOP;
        }
        if KEEP {
            scratch.walked.flags |= Walked::RESOLVED;
        } else {
            scratch.subject.flags |= Walked::RESOLVED;
        }
        if KEEP && depth == 0 {
            detached_name(scratch);
        }
        return STOP;
    }
    let len = read_name(scratch, at);
    if len == 0 {
        return STOP;
    }
    if KEEP {
        prepend(scratch, len);
        scratch.walked.at = parent;
    } else {
        scratch.subject.at = parent;
    }
    if MATCH {
        let of = walked::<KEEP>(scratch);
        if folds_names(parent, of.flags) {
            of.flags |= Walked::FOLDED;
        }
        // SAFETY: as above.
        advance::<KEEP>(scratch, len, unsafe { &*walk.table }, walk.slot, depth as u32);
        walked::<KEEP>(scratch).depth = depth as u32 + 1;
    }
    GO_ON
}

/// Whether a dentry that is its own parent is where a path begins: the root of a filesystem, or an object that never
/// had a directory.
///
/// A file that was opened by handle and whose directory the kernel has not looked up is neither: its path exists, and
/// is not known here. (`DCACHE_DISCONNECTED` is bit 5 at least from Linux 2.6.37 to 7.3.)
#[inline(always)]
pub(crate) fn is_root(dentry: u64) -> bool {
    const DCACHE_DISCONNECTED: u32 = 1 << 5;
    dentry != 0 && read::<u32>(dentry + offset!(dentry_flags)) & DCACHE_DISCONNECTED == 0
}

/// Whether a directory may compare names in another way than byte for byte. The name that the kernel has for a file in it
/// is then the one that somebody used, and need not be the one on the disk that a pattern means: `.SSH`, which finds
/// `.ssh`. `flags` are those of the walk, which begin with [`folding`].
///
/// ext4, f2fs and tmpfs do so in each directory that has the attribute for it (`S_CASEFOLD`, bit 15 since Linux 5.2), if
/// the filesystem was made for it. What the kernel has in the dentry says less: until Linux 6.9 the root and what was
/// opened by handle had none of it. Other filesystems say it there (`DCACHE_OP_COMPARE`, bit 1 at least from Linux 3.0 to
/// 7.3); procfs compares what is below `/proc/sys`, for namespaces.
#[inline(always)]
pub(crate) fn folds_names(directory: u64, flags: u32) -> bool {
    const DCACHE_OP_COMPARE: u32 = 1 << 1;
    if flags & Walked::FOLDING != 0 {
        return has_attribute(directory) != 0;
    }
    read::<u32>(directory + offset!(dentry_flags)) & DCACHE_OP_COMPARE != 0 && compares(directory) != 0
}

/// With what flags a walk on a filesystem begins.
#[inline(always)]
pub(crate) fn folding(sb: u64) -> u32 {
    if offset!(sb_encoding) == Offsets::ABSENT as u64 || read::<u64>(sb + offset!(sb_encoding)) == 0 {
        return 0;
    }
    Walked::FOLDING
}

/// These are functions of their own: nearly no directory gets here.
#[inline(never)]
fn has_attribute(directory: u64) -> u32 {
    const S_CASEFOLD: u32 = 1 << 15;
    let node: u64 = read(directory + offset!(dentry_inode));
    read::<u32>(node + offset!(inode_flags)) & S_CASEFOLD
}

#[inline(never)]
fn compares(directory: u64) -> u32 {
    let sb: u64 = read(directory + offset!(dentry_sb));
    (read::<u64>(sb + offset!(sb_magic)) != PROC_MAGIC) as u32
}

/// Copies the name of a dentry to `Scratch::name`, the last word zero-padded. Its length, or 0 when it is unreadable.
#[inline(always)]
pub(crate) fn read_name(scratch: &mut Scratch, dentry: u64) -> u32 {
    let len: u32 = read(dentry + offset!(dentry_name_len));
    let name: u64 = read(dentry + offset!(dentry_name));
    let len = masked::<0xff>(len);
    if len == 0 || !copy(scratch.name.as_mut_ptr().cast(), len, name) {
        return 0;
    }
    scratch.name_len = len;
    len
}

/// The length of the component in `Scratch::name`, as a number of which the verifier knows nothing but its bound: what
/// it learns in the rounds of a loop makes it walk the code behind once for each.
#[inline(always)]
fn forget_name_len(scratch: &Scratch) -> u32 {
    // SAFETY: a field of a valid reference; volatile, because the compiler knows the value better.
    masked::<0xff>(unsafe { (&raw const scratch.name_len).read_volatile() })
}

/// Puts `/` and the name in front of the path.
#[inline(always)]
fn prepend(scratch: &mut Scratch, len: u32) {
    let start = scratch.walked.start;
    if start < len + 1 {
        scratch.walked.flags |= Walked::CUT;
        return;
    }
    scratch.walked.start = start - len - 1;
    let at = masked::<{ PATH_BUFFER_LEN as i32 - 1 }>(start - len - 1) as usize;
    let name = scratch.name.as_ptr() as u64;
    // SAFETY: `at` is below PATH_BUFFER_LEN by the mask, and 256 bytes follow the buffer.
    unsafe {
        let to = scratch.path.as_mut_ptr().add(at);
        *to = b'/';
        copy(to.add(1), masked::<0xff>(len), name);
    }
}

/// The name of an object without a directory, such as `memfd:x`; `/` for the root of a filesystem.
#[inline(always)]
fn detached_name(scratch: &mut Scratch) {
    let at = scratch.walked.at;
    let len = read_name(scratch, at);
    // SAFETY: the first byte of the name buffer.
    let first = unsafe { *scratch.name.as_ptr().cast::<u8>() };
    if len > 1 || (len == 1 && first != b'/') {
        scratch.walked.flags |= Walked::DETACHED;
        prepend(scratch, len);
    } else {
        prepend(scratch, 0);
    }
}

/// `treeline_abi::name::hash` of the name in `Scratch::name`.
#[inline(always)]
pub(crate) fn hash_name(scratch: &Scratch, len: u32, seed: u64) -> u64 {
    let mut hash = name::mix(seed, len as u64);
    let (full, rest) = ((len / 8) as usize, len % 8);
    for index in 0..NAME_WORDS - 1 {
        if index >= full {
            break;
        }
        hash = name::mix(hash, scratch.name[index]);
    }
    // Behind the loop: a look in each round at whether it is the last teaches the verifier a length per round.
    if rest != 0 {
        let word = scratch.name[full & (NAME_WORDS - 2)];
        hash = name::mix(hash, word & (u64::MAX >> (64 - rest * 8)));
    }
    name::mix(hash, 0)
}

/// One step of the matcher, see `treeline_abi::paths`. `depth` components were before it.
#[inline(always)]
pub(crate) fn advance<const KEEP: bool>(
    scratch: &mut Scratch,
    len: u32,
    table: &'static Table,
    slot: u32,
    depth: u32,
) {
    let hash = hash_name(scratch, len, table.seed);
    let len = forget_name_len(scratch);
    scratch.hashes[masked::<{ DEPTH_MAX as i32 - 1 }>(depth) as usize & (DEPTH_MAX - 1)] = hash;
    // SAFETY: the value stays in place while the program runs (RCU), at worst it is that of a generation that was
    // replaced meanwhile.
    match unsafe { NAMES.get(&hash) } {
        Some(name) => {
            copy_mask(&mut scratch.step, &name.mask);
            let last = if depth == 0 { name.last } else { NO_LIST };
            let lists = listed::<KEEP>(scratch);
            lists.push(last);
            lists.push(name.inner);
        }
        None => {
            copy_mask(&mut scratch.step, &table.any);
            if table.wilds > 0 {
                add_wilds(scratch, len, table, slot);
            }
        }
    }
    for word in 0..WORDS {
        let state = scratch.state.words[word];
        let star = table.star.words[word];
        let next = ((state << 1) & scratch.step.words[word]) | (state & star);
        scratch.state.words[word] = next | ((next << 1) & star);
    }
}

/// The walk of the object or, without `KEEP`, of the subject.
#[inline(always)]
pub(crate) fn walked<const KEEP: bool>(scratch: &mut Scratch) -> &mut Walked {
    if KEEP { &mut scratch.walked } else { &mut scratch.subject }
}

/// The lists of the object or, without `KEEP`, of the subject.
#[inline(always)]
fn listed<const KEEP: bool>(scratch: &mut Scratch) -> &mut Listed {
    if KEEP { &mut scratch.lists } else { &mut scratch.subject_lists }
}

/// What [`try_wild`] needs.
struct Wilds {
    scratch: *mut Scratch,
    base: u32,
    len: u32,
}

/// Adds the positions of every component glob that the name matches to `Scratch::step`.
#[inline(always)]
fn add_wilds(scratch: &mut Scratch, len: u32, table: &'static Table, slot: u32) {
    let name = scratch.name.as_ptr() as u64;
    // SAFETY: `len` is 1 to 255 and the name buffer has 264 bytes.
    let (first, last) = unsafe {
        let bytes = scratch.name.as_ptr().cast::<u8>();
        (*bytes, *bytes.add(masked::<0xff>(len - 1) as usize))
    };
    let candidates = table.wilds_by_first[first as usize] & table.wilds_by_last[last as usize];
    if candidates == 0 {
        return;
    }
    scratch.tail = [0; 4];
    if len >= 32 {
        copy(scratch.tail.as_mut_ptr().cast(), 32, name + (len as u64 - 32));
    } else {
        // SAFETY: 32 - len .. 32 lies within the four words of `tail`, because len is 1 to 31 here.
        let to = unsafe { scratch.tail.as_mut_ptr().cast::<u8>().add((32 - len) as usize & 31) };
        copy(to, len & 31, name);
    }
    scratch.candidates = candidates;
    let (number, base) = (scratch.number as u32, slot * WILD_MAX as u32);
    let mut wilds = Wilds { scratch, base, len };
    repeat(WILD_MAX as u32, try_wild, &mut wilds, |_| older_try_wild(number, base, len));
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_try_wild(number: u32, base: u32, len: u32) -> u64 {
    let Some(scratch) = Scratch::numbered(number) else {
        return STOP;
    };
    one_wild(&mut Wilds { scratch, base, len })
}

extern "C" fn try_wild(_round: u64, wilds: *mut Wilds) -> u64 {
    one_wild(wilds)
}

#[inline(always)]
fn one_wild(wilds: *mut Wilds) -> u64 {
    // SAFETY: as in `step`.
    let (wilds, scratch) = unsafe { (&*wilds, &mut *(*wilds).scratch) };
    let candidates = scratch.candidates;
    if candidates == 0 {
        return STOP;
    }
    scratch.candidates = candidates & (candidates - 1);
    let Some(wild) = WILDS.get(wilds.base + lowest(candidates)) else {
        return STOP;
    };
    if wilds.len < wild.len_min || wilds.len > wild.len_max {
        return GO_ON;
    }
    let mut differs = 0;
    for word in 0..4 {
        differs |= (scratch.name[word] & wild.prefix_mask[word]) ^ wild.prefix[word];
        differs |= (scratch.tail[word] & wild.suffix_mask[word]) ^ wild.suffix[word];
    }
    if differs == 0 {
        for word in 0..WORDS {
            scratch.step.words[word] |= wild.mask.words[word];
        }
    }
    GO_ON
}

/// Keeps the accepting positions that hold on this filesystem, and runs the tree over the hashes of the components.
#[inline(always)]
pub(crate) fn accept<const KEEP: bool>(scratch: &mut Scratch, table: &'static Table, slot: u32) {
    let Walked { device, depth, .. } = *walked::<KEEP>(scratch);
    let key = DeviceKey { slot, device };
    // SAFETY: as for NAMES in `advance`.
    let device = unsafe { DEVICES.get(&key) };
    let mask = device.map_or(&table.any_device, |device| &device.mask);
    for word in 0..WORDS {
        scratch.accepted.words[word] = scratch.state.words[word] & mask.words[word];
    }
    if let Some(device) = device {
        let walked = walked::<KEEP>(scratch);
        if walked.flags & Walked::FOLDED != 0 {
            // A pattern leads onto this filesystem, and whether to here, the names do not tell.
            walked.flags &= !Walked::RESOLVED;
        }
        listed::<KEEP>(scratch).push(device.root.below);
        scratch.descent = Descent { edge: device.root, left: depth, pad: 0 };
        let number = scratch.number as u32;
        let older = |_| {
            if KEEP { older_descend_object(number, slot) } else { older_descend_subject(number, slot) }
        };
        repeat(DEPTH_MAX as u32, descend::<KEEP>, &mut Down { scratch, slot }, older);
        if scratch.descent.left == 0 {
            let here = scratch.descent.edge.here;
            listed::<KEEP>(scratch).push(here);
        }
    }
}

/// What a round of the walk down the tree needs.
struct Down {
    scratch: *mut Scratch,
    slot: u32,
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_descend_object(number: u32, slot: u32) -> u64 {
    let Some(scratch) = Scratch::numbered(number) else {
        return STOP;
    };
    one_down::<true>(&mut Down { scratch, slot })
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_descend_subject(number: u32, slot: u32) -> u64 {
    let Some(scratch) = Scratch::numbered(number) else {
        return STOP;
    };
    one_down::<false>(&mut Down { scratch, slot })
}

extern "C" fn descend<const KEEP: bool>(_round: u64, down: *mut Down) -> u64 {
    one_down::<KEEP>(down)
}

#[inline(always)]
fn one_down<const KEEP: bool>(down: *mut Down) -> u64 {
    // SAFETY: as in `step`.
    let (down, scratch) = unsafe { (&*down, &mut *(*down).scratch) };
    let Descent { edge, left, .. } = scratch.descent;
    if left == 0 || edge.next == 0 {
        return STOP;
    }
    let at = masked::<{ DEPTH_MAX as i32 - 1 }>(left - 1) as usize & (DEPTH_MAX - 1);
    let mut key = EdgeKey { slot: down.slot, state: edge.next, hash: scratch.hashes[at] };
    // SAFETY: as for NAMES in `advance`.
    let mut found = unsafe { EDGES.get(&key) };
    if found.is_none() && edge.any != 0 {
        key.state |= ANY_STATE;
        key.hash = 0;
        // SAFETY: as above.
        found = unsafe { EDGES.get(&key) };
    }
    let Some(edge) = found else {
        return STOP;
    };
    scratch.descent = Descent { edge: *edge, left: left - 1, pad: 0 };
    listed::<KEEP>(scratch).push(edge.below);
    GO_ON
}
