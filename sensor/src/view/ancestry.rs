//! The chain of executables behind a process.

use std::{fmt::Write as _, sync::Arc};

use serde::Serialize;
use treeline_event::{Ancestry, Entry, EntryBody, Process};

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The process and what it ran.
    pub process: Arc<Process>,
}

/// A process and the chain behind it, nearest first, back to pid 1.
#[derive(Clone, Debug, Serialize)]
pub struct AncestryView {
    /// Index of the entry that says so.
    pub index: u64,
    /// The steps, the process itself first.
    pub steps: Vec<Step>,
}

/// From the last entry that `wanted` accepts and that holds the chain in full.
#[must_use]
pub fn ancestry_of<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    wanted: impl Fn(&Entry) -> bool,
) -> Option<AncestryView> {
    let full = |entry: &Entry| match &entry.body {
        EntryBody::Act { process, ancestry: Ancestry::Full(ancestry), .. } => {
            let steps =
                std::iter::once(process).chain(ancestry).map(|step| Step { process: Arc::clone(step) });
            Some(AncestryView { index: entry.index, steps: steps.collect() })
        }
        _ => None,
    };
    entries.into_iter().filter(|entry| wanted(entry)).filter_map(full).last()
}

impl AncestryView {
    /// For people: a step a line, its hash below.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for Step { process } in &self.steps {
            let program = &process.program;
            let argv: Vec<_> = program.argv.iter().map(ToString::to_string).collect();
            let argv: String = argv.join(" ").chars().take(60).collect();
            let user = process
                .user
                .as_ref()
                .map_or_else(|| process.uid.to_string(), |user| user.escape_debug().to_string());
            let started_s = process.started_ns / 1_000_000_000;
            let _ = writeln!(out, "{}  {}  {user}  boot+{started_s}s", process.key, program.image.path);
            let _ = writeln!(out, "    sha256 {}\n    {argv}", program.image.digest);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use treeline_event::{Action, SessionId, Verdict};

    use super::*;
    use crate::view::fixture::act;

    #[test]
    fn the_chain_starts_with_the_process() {
        let entries = [act(SessionId(1), 6, Some(1), Action::Exec, Verdict::Allow)];
        let view = ancestry_of(&entries, |_| true).expect("a chain");
        let pids: Vec<_> = view.steps.iter().map(|step| step.process.key.pid).collect();
        assert_eq!(pids, [6, 1]);
        assert!(view.text().contains("sha256 pending"));
        assert!(ancestry_of(&entries, |_| false).is_none());
    }
}
