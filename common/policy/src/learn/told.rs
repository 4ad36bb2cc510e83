//! What a log tells of itself, and what it does not.

use std::collections::{BTreeMap, BTreeSet};

use treeline_event::{AttachMode, SessionId};

use super::{Kind, few::Few, text::comment};
use crate::replay::Doubt;

/// Sessions that are counted.
const SESSIONS_MAX: usize = 4096;

/// Counts over a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) entries: u64,
    pub(super) sessions: Few<SessionId, SESSIONS_MAX>,
    /// How the sensor was attached; both where it was started in two ways.
    pub(super) has_kernel: bool,
    pub(super) has_fallback: bool,
    /// Records that were lost.
    pub(super) lost: u64,
    /// Objects about which something is not certain.
    pub(super) doubts: BTreeMap<Doubt, u64>,
}

impl Told {
    pub(super) fn attached(&mut self, mode: AttachMode) {
        if mode.judges_in_kernel() { self.has_kernel = true } else { self.has_fallback = true }
    }

    /// As comments.
    pub(super) fn write(&self, kinds: &BTreeSet<Kind>, out: &mut String) {
        comment(out, 0, "");
        comment(out, 0, "What the log does not tell is not learned:");
        let has = |kind| kinds.contains(&kind);
        if has(Kind::Exec) {
            comment(out, 0, "- libraries and other executable mappings, but those that a rule matched;");
        }
        if self.has_fallback {
            comment(
                out,
                0,
                "- it is of mode fallback: names, unix sockets and scripts have the path that the caller gave, and what was sent \
                 without a connect to a unix socket is not in it;",
            );
        }
        if self.lost > 0 {
            comment(out, 0, &format!("- {} records that the sensor lost;", self.lost));
        }
        for (doubt, words) in [
            (Doubt::AsNamed, "are by name, and may be other files"),
            (Doubt::Unresolved, "could not be resolved, and are left out"),
        ] {
            if let Some(count) = self.doubts.get(&doubt) {
                comment(out, 0, &format!("- {count} paths {words};"));
            }
        }
        comment(
            out,
            0,
            "- what other work needs than what was recorded, and what a refused program would have done.",
        );
    }
}
