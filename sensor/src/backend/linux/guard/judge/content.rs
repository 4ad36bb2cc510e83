//! Executions by content in mode `fallback`, where the answer is the verdict.

use std::os::fd::BorrowedFd;

use rustix::fs::fstat;
use treeline_abi::Label;
use treeline_event::{FileRef, Mode, Verdict};
use treeline_policy::{Object, Request, Subject, eval, policy::Kind};

use super::{Access, Judge, Refusal, identity, leads_to, link_target};
use crate::backend::Observation;

impl Judge {
    /// What refuses to execute a file with this content, or one of which nothing is known.
    pub(in crate::backend::linux) fn judge_content(
        &self,
        file: BorrowedFd<'_>,
        pid: i32,
        label: &Label,
        sha256: Option<[u8; 32]>,
    ) -> Option<Observation> {
        let subject = self.subject(pid, label);
        let rule = match sha256 {
            Some(_) => self.refused_for(&subject, sha256),
            None => self.refused_unknown(&subject),
        }?;
        let stat = fstat(file).ok();
        let file = FileRef {
            path: link_target(file).unwrap_or_default(),
            id: stat.as_ref().map(identity),
            mode: stat.as_ref().map(|stat| stat.st_mode),
            as_named: !stat.is_some_and(|stat| link_target(file).is_some_and(|path| leads_to(&path, &stat))),
            content_unknown: sha256.is_none(),
            ..FileRef::default()
        };
        let refusal = Refusal { rule, file, exec: true, access: Access::Exec };
        Some(self.observation(pid, pid, label, refusal))
    }

    /// The rule that refuses a content; paths are asked for by the marks on them.
    fn refused_for(&self, subject: &Subject, sha256: Option<[u8; 32]>) -> Option<usize> {
        let object = Object::Exec { path: Vec::new(), sha256 };
        let decision = eval(&self.policy, &self.host, &Request { subject: subject.clone(), object });
        decision.rule.filter(|_| decision.verdict == Verdict::Deny)
    }

    /// An unknown content may be any: each of those that are refused is asked for.
    fn refused_unknown(&self, subject: &Subject) -> Option<usize> {
        self.policy.rules.iter().find_map(|rule| match &rule.kind {
            Kind::Exec { sha256, .. } if rule.mode == Mode::Enforce => {
                self.refused_for(subject, Some(sha256.first()?.value))
            }
            _ => None,
        })
    }
}
