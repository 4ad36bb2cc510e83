//! A new process for whose label there may be no room.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use treeline_abi::Kind;

use crate::{decide, emit, tasks};

/// `CLONE_THREAD`: without a label of its own a thread goes by that of its process.
const THREAD: u64 = 0x1_0000;
/// `-EAGAIN`, what fork(2) says at every other bound on processes.
const AGAIN: i32 = -11;

/// What a process without a label does is neither seen nor judged, so it is not made, if the policy refuses anything. What
/// it would have recorded counts as lost. Of two that are asked about at the same moment the second may not find the room
/// that there was: where labels are in a table, its label waits, and decides from where it waits; where they are on tasks,
/// some places are kept for that ([`treeline_abi::label::WAITING_SLACK`]).
#[lsm(hook = "task_alloc")]
pub(crate) fn task_alloc(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(2);
    if earlier != 0 {
        return earlier;
    }
    if ctx.arg::<u64>(1) & THREAD != 0 || tasks::current_label().is_none() || tasks::has_room() {
        return 0;
    }
    if !decide::enforcing() {
        // Without room it counts when it is made.
        return 0;
    }
    emit::failed(Kind::Fork);
    AGAIN
}
