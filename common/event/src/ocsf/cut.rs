//! Shortening an event that would make too long an entry: in fixed steps, so that the result is a function of the
//! event, and with a marker, so that nobody takes a part for the whole.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Action, Approval, Asker, Body, Claims, Destination, Event, FileRef, Group, HookState, Image, Notice,
    PathBytes, PolicyPart, Process, Program, RuleStatus, SessionAttributes,
};

/// What was left out of an entry. A text that has exactly `text_bytes`, a list that has exactly `items` or an
/// argument vector marked `argv_cut` may have been longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Argument bytes kept of each process.
    pub argv_bytes: usize,
    /// Bytes kept of each path or text.
    pub text_bytes: usize,
    /// Items kept of each list (hooks, rules, environment, command).
    pub items: usize,
    /// Steps kept of the ancestry, nearest first.
    pub steps: usize,
    /// Steps of the ancestry that were left out.
    pub steps_dropped: usize,
}

/// Tried in this order until the entry fits. The last always does: five processes of 8 texts and 4 variables, two
/// files and a rule, every byte escaped to six, stay below 60 000 bytes.
pub(super) const LADDER: [Cut; 4] = [
    Cut { argv_bytes: 4096, text_bytes: 4096, items: 1024, steps: 256, steps_dropped: 0 },
    Cut { argv_bytes: 512, text_bytes: 1024, items: 256, steps: 64, steps_dropped: 0 },
    Cut { argv_bytes: 64, text_bytes: 256, items: 32, steps: 16, steps_dropped: 0 },
    Cut { argv_bytes: 0, text_bytes: 64, items: 4, steps: 4, steps_dropped: 0 },
];

impl Cut {
    /// The shortened event, and what was done to it.
    pub(super) fn apply(mut self, event: &Event) -> (Event, Self) {
        let mut event = event.clone();
        match &mut event.body {
            Body::Notice(notice) => self.notice(notice),
            Body::Act { subject, action, rule, .. } => {
                subject.process = self.process(&subject.process);
                self.steps_dropped = subject.ancestry.len().saturating_sub(self.steps);
                subject.ancestry.truncate(self.steps);
                for step in &mut subject.ancestry {
                    *step = self.process(step);
                }
                self.action(action);
                if let Some(rule) = rule {
                    let rule = Arc::make_mut(rule);
                    self.text(&mut rule.rule);
                    self.text(&mut rule.reason);
                    self.text(&mut rule.policy);
                    for text in [&mut rule.remedy, &mut rule.link].into_iter().flatten() {
                        self.text(text);
                    }
                }
            }
        }
        (event, self)
    }

    fn text(&self, text: &mut String) {
        text.truncate(text.floor_char_boundary(self.text_bytes));
    }

    fn path(&self, path: &mut PathBytes) {
        if path.as_bytes().len() > self.text_bytes {
            *path = PathBytes::from(&path.as_bytes()[..self.text_bytes]);
        }
    }

    fn list(&self, list: &mut Vec<String>) {
        list.truncate(self.items);
        list.iter_mut().for_each(|text| self.text(text));
    }

    fn image(&self, image: &mut Image) {
        self.path(&mut image.path);
        if let Some(build_id) = &mut image.build_id {
            self.text(build_id);
        }
    }

    fn process(&self, process: &Process) -> Arc<Process> {
        let mut process = process.clone();
        for text in [&mut process.user, &mut process.tty].into_iter().flatten() {
            self.text(text);
        }
        self.program(Arc::make_mut(&mut process.program));
        Arc::new(process)
    }

    fn program(&self, program: &mut Program) {
        self.image(&mut program.image);
        if let Some(script) = &mut program.script {
            self.image(script);
        }
        self.path(&mut program.name_given);
        self.path(&mut program.cwd);
        let mut bytes_left = self.argv_bytes;
        let mut kept = Vec::new();
        for argument in &program.argv {
            // One byte for each argument's end, so that empty arguments are bounded too.
            let Some(room) = bytes_left.checked_sub(1) else { break };
            let bytes = argument.as_bytes();
            kept.push(PathBytes::from(&bytes[..bytes.len().min(room)]));
            bytes_left = room.saturating_sub(bytes.len());
        }
        program.argv_cut |= kept != program.argv;
        program.argv = kept;
        let env = std::mem::take(&mut program.env).into_iter().take(self.items);
        program.env = env
            .map(|(mut name, mut value)| {
                self.text(&mut name);
                self.text(&mut value);
                (name, value)
            })
            .collect();
    }

    fn file(&self, file: &mut FileRef) {
        self.path(&mut file.path);
    }

    fn action(&self, action: &mut Action) {
        match action {
            Action::Fork { .. }
            | Action::Exec
            | Action::Exit { .. }
            | Action::Tamper { .. }
            | Action::Trace { .. } => {}
            Action::Adopt { client, file, .. } => {
                if let Some(Destination::Unix(path) | Destination::Abstract(path)) = client {
                    self.path(path);
                }
                if let Some(file) = file {
                    self.file(file);
                }
            }
            Action::ExecDenied { file }
            | Action::Map { file, .. }
            | Action::Open { file, .. }
            | Action::Delete { file, .. }
            | Action::Modify { file, .. }
            | Action::Receive { file, .. } => self.file(file),
            Action::Mount { at, source, .. } => {
                self.file(at);
                self.path(source);
            }
            Action::Create { file, target, .. } => {
                self.file(file);
                if let Some(target) = target {
                    self.path(target);
                }
            }
            Action::Rename { from, to, .. } | Action::Link { from, to, .. } => {
                self.file(from);
                self.file(to);
            }
            Action::Connect { to, .. } => match to {
                Destination::Unix(path) | Destination::Abstract(path) => self.path(path),
                Destination::V4(..) | Destination::V6(..) | Destination::Socket(_) => {}
            },
        }
    }

    fn notice(&self, notice: &mut Notice) {
        match notice {
            Notice::Started { version, kernel, hooks, recovery, .. } => {
                self.text(version);
                self.text(kernel);
                recovery.iter_mut().for_each(|text| self.text(text));
                hooks.truncate(self.items);
                for hook in hooks {
                    self.text(&mut hook.hook);
                    match &mut hook.state {
                        HookState::Attached => {}
                        HookState::Failed { error: text } | HookState::Unsupported { reason: text } => {
                            self.text(text);
                        }
                    }
                }
            }
            Notice::Stopped { reason } => self.text(reason),
            Notice::PolicyApplied { name, sha256, signed_by, parts, rules, .. } => {
                self.text(name);
                self.text(sha256);
                signed_by.iter_mut().for_each(|key| self.text(key));
                parts.truncate(self.items);
                parts.iter_mut().for_each(|part| self.part(part));
                rules.truncate(self.items);
                rules.iter_mut().for_each(|rule| self.rule(rule));
            }
            Notice::PolicyRejected { sha256, error } => {
                self.text(sha256);
                self.text(error);
            }
            Notice::Lost { kind, site, .. } => {
                self.text(kind);
                self.text(site);
            }
            Notice::SessionStarted { origin, command, attributes, .. } => {
                self.text(origin);
                self.list(command);
                self.attributes(attributes);
            }
            Notice::SessionEnded { .. } => {}
            Notice::ImageHashed { image } => self.image(image),
            Notice::Malformed { what, error } => {
                self.text(what);
                self.text(error);
            }
            Notice::Approved { approval, by } => {
                self.approval(approval);
                self.asker(by);
            }
            Notice::ApprovalEnded { reason, .. } => self.text(reason),
            Notice::ApprovalRefused { by, reason, .. } => {
                self.asker(by);
                self.text(reason);
            }
        }
    }

    /// A name that is cut is another name: what it was is not known any more.
    fn attributes(&self, attributes: &mut SessionAttributes) {
        let SessionAttributes { within: _, uid: _, user, groups, claims } = attributes;
        let Claims { agent, entry_point, repositories } = claims;
        for text in [user, agent, entry_point] {
            if text.as_ref().is_some_and(|text| text.len() > self.text_bytes) {
                *text = None;
            }
        }
        // A group without a name is known to have none.
        let is_cut = |group: &Group| group.name.as_ref().is_some_and(|name| name.len() > self.text_bytes);
        if groups.as_ref().is_some_and(|groups| groups.len() > self.items || groups.iter().any(is_cut)) {
            *groups = None;
        }
        let is_long =
            |all: &Vec<String>| all.len() > self.items || all.iter().any(|one| one.len() > self.text_bytes);
        if repositories.as_ref().is_some_and(is_long) {
            *repositories = None;
        }
    }

    fn approval(&self, approval: &mut Approval) {
        self.path(&mut approval.executable);
        self.text(&mut approval.object);
        self.list(&mut approval.rules);
        self.list(&mut approval.operations);
    }

    fn asker(&self, asker: &mut Asker) {
        asker.user.iter_mut().for_each(|user| self.text(user));
    }

    fn part(&self, part: &mut PolicyPart) {
        self.text(&mut part.name);
        self.text(&mut part.sha256);
        part.signed_by.iter_mut().for_each(|key| self.text(key));
    }

    fn rule(&self, rule: &mut RuleStatus) {
        self.text(&mut rule.rule);
        rule.reason.iter_mut().chain(&mut rule.policy).for_each(|text| self.text(text));
        for list in [&mut rule.enforced, &mut rule.observed, &mut rule.unseen] {
            self.list(list);
        }
    }
}
