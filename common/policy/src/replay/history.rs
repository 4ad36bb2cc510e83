//! Entries in their order, as questions to a policy.

use std::sync::Arc;

use treeline_event::{Action, AttachMode, Entry, EntryBody, Image, Notice, Process, Verdict, is_own_rule};

use super::{
    Past, Then, Who,
    contents::Contents,
    past::{asked, has_failed},
    processes::Processes,
    sessions::Sessions,
};
use crate::request::Request;

/// What is known of processes and files up to some entry.
///
/// Memory is bounded: what is beyond the bounds counts as not seen.
#[derive(Debug, Default)]
pub struct History {
    processes: Processes,
    contents: Contents,
    sessions: Sessions,
    attached: Option<AttachMode>,
}

/// What an entry is to a policy.
#[derive(Clone, Debug)]
pub enum Step {
    /// Something that a policy is asked about, or nothing of it is.
    Acted(Box<Past>),
    /// The sensor protected itself. No policy changes that.
    Own,
    /// The content of a file became known.
    Content(Image),
    /// Nothing that a policy is asked about.
    Other,
}

impl History {
    /// Takes the next entry.
    pub fn take(&mut self, entry: &Entry) -> Step {
        match &entry.body {
            EntryBody::Notice(notice) => self.notice(notice),
            EntryBody::Act { process, action, verdict, rule, .. } => {
                if matches!(action, Action::Tamper { .. })
                    || rule.as_ref().is_some_and(|hit| is_own_rule(&hit.rule))
                {
                    self.processes.see(process);
                    return Step::Own;
                }
                let then = Then::of(*verdict, rule.as_deref());
                self.act(entry, process, action, then)
            }
        }
    }

    /// The questions of an action, with what is known of contents by now.
    #[must_use]
    pub fn requests(&self, past: &Past) -> Vec<Request> {
        past.requests(&self.contents)
    }

    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    fn notice(&mut self, notice: &Notice) -> Step {
        self.sessions.take(notice);
        match notice {
            Notice::Started { mode, .. } => self.attached = Some(*mode),
            Notice::SessionStarted { root, origin, .. } if origin != "adopt" => self.processes.begin(*root),
            Notice::ImageHashed { image } => {
                self.contents.learn(image);
                return Step::Content(image.clone());
            }
            _ => {}
        }
        Step::Other
    }

    fn act(&mut self, entry: &Entry, process: &Arc<Process>, action: &Action, then: Then) -> Step {
        let (who, judged) = self.who(process, action, then.verdict);
        let failed = has_failed(action, then.verdict);
        let asked = match failed {
            true => Vec::new(),
            false => asked(process, action, self.attached, &judged, &self.contents),
        };
        if asked.is_empty() && !failed {
            return Step::Other;
        }
        let times = match action {
            Action::Open { count, .. } => (*count).max(1),
            _ => 1,
        };
        Step::Acted(Box::new(Past {
            index: entry.index,
            time_ms: entry.time.wall_ms,
            session: entry.session,
            process: process.key,
            who: who.of(self.sessions.get(entry.session)),
            asked,
            times,
            then,
            failed,
        }))
    }

    /// Who acts. For an exec, who it was before, and which files have entries of their own by it.
    fn who(
        &mut self,
        process: &Process,
        action: &Action,
        verdict: Verdict,
    ) -> (Who, Vec<treeline_event::PathBytes>) {
        let who = match action {
            Action::Fork { creator } => {
                self.processes.fork(*creator, process);
                Who::default()
            }
            Action::Exec => {
                self.contents.learn(&process.program.image);
                return self.processes.exec(process);
            }
            Action::Exit { .. } => {
                self.processes.exit(process.key);
                Who::default()
            }
            Action::Adopt { .. } => self.processes.adopt(process),
            _ => self.processes.see(process),
        };
        // What was only recorded goes on, and is then an exec.
        if let Action::ExecDenied { file } = action
            && verdict == Verdict::Audit
        {
            self.processes.judged(process.key, &file.path);
        }
        (who, Vec::new())
    }
}
