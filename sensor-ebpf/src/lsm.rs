//! LSM hooks: everything that the policy judges is judged here, before it happens.
//!
//! A hook that comes after a refusal of another security module keeps that refusal. Tasks without a label pay for the
//! look at their task storage and nothing else.

mod above;
mod descriptors;
mod exec;
mod files;
mod mounts;
mod sockets;

use treeline_abi::{Kind, Label, Verdict};

use crate::{decide::Decision, emit, scratch::Scratch};

/// `-EPERM`, what every refusal returns.
pub(crate) const REFUSED: i32 = -1;

/// What the hook returns for a decision.
#[inline(always)]
pub(crate) fn answer(decision: Decision) -> i32 {
    if matches!(decision.verdict, Verdict::Deny) { REFUSED } else { 0 }
}

/// Working memory for a hook that judges. Without it the object cannot be judged: that is a refusal.
#[inline(always)]
pub(crate) fn scratch_or_refuse(kind: Kind, _label: &Label) -> Result<&'static mut Scratch, i32> {
    Scratch::take().ok_or_else(|| {
        emit::failed(kind);
        let enforcing = crate::decide::active().is_some_and(|active| active.table.unresolved_rule != 0);
        if enforcing { REFUSED } else { 0 }
    })
}
