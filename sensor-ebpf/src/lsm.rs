//! LSM hooks: everything that the policy judges is judged here, before it happens.
//!
//! A hook that comes after a refusal of another security module keeps that refusal. Tasks without a label pay for the
//! look at their task storage and nothing else.

mod above;
mod descriptors;
mod exec;
mod files;
mod maps;
mod mounts;
mod room;
mod sockets;
pub(crate) mod tamper;
mod trace;

use treeline_abi::{Kind, Label, Verdict};

use crate::{decide::Decision, emit, scratch::Scratch};

/// `-EPERM`, what every refusal returns.
pub(crate) const REFUSED: i32 = -1;

/// What the hook returns for a decision.
#[inline(always)]
pub(crate) fn answer(decision: Decision) -> i32 {
    let mut result = 0;
    // SAFETY: a branch over one assignment. The compiler would make a negation of it, of whose result the verifier knows
    // nothing, and it wants to know that LSM programs return 0 or an error (Linux 6.12).
    unsafe {
        core::arch::asm!(
            "if {verdict} != {deny} goto +1",
            "{result} = {refused}",
            verdict = in(reg) decision.verdict(),
            result = inout(reg) result,
            deny = const Verdict::Deny as i32,
            refused = const REFUSED,
        );
    }
    result
}

/// Working memory for a hook that judges. Without it the object cannot be judged: that is a refusal.
#[inline(always)]
pub(crate) fn scratch_or_refuse(kind: Kind, _label: &Label) -> Result<&'static mut Scratch, i32> {
    Scratch::take().ok_or_else(|| {
        emit::failed(kind);
        if crate::decide::enforcing() { REFUSED } else { 0 }
    })
}
