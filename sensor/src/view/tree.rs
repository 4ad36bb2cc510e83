//! The process tree of a session.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
};

use serde::Serialize;
use treeline_event::{Action, AdoptedBy, Entry, EntryBody, Notice, Process, ProcessKey, SessionId, Verdict};

use super::{
    PickError, SessionPrefix,
    hashes::Hashes,
    line,
    text::{command_line, shortened},
};

/// Characters of a command line in a tree.
const COMMAND_LEN_MAX: usize = 64;

/// A process of the tree, with what it last ran.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// The process; a hash that was pending is completed from later entries.
    pub process: Process,
    /// Exit code.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// How it came into the session, if it was not created in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopted: Option<AdoptedBy>,
    /// What was refused, as lines.
    pub denials: Vec<String>,
    /// Those whose creator is this process.
    pub children: Vec<Node>,
}

/// The trees of a session: one, unless a process's creator is not in the session.
#[derive(Clone, Debug, Serialize)]
pub struct TreeView {
    /// Which session.
    pub session: SessionId,
    /// The processes without a creator in the session, oldest first.
    pub roots: Vec<Node>,
}

/// Builds the tree of one session from entries that are given in order, oldest first.
#[derive(Debug)]
pub struct TreeSearch {
    wanted: SessionPrefix,
    ids: BTreeSet<SessionId>,
    nodes: HashMap<ProcessKey, Node>,
    order: Vec<ProcessKey>,
    hashes: Hashes,
}

impl TreeSearch {
    /// Begins a tree.
    #[must_use]
    pub fn new(wanted: SessionPrefix) -> Self {
        let (ids, nodes, order, hashes) = Default::default();
        Self { wanted, ids, nodes, order, hashes }
    }

    /// Takes the next entry.
    pub fn add(&mut self, entry: &Entry) {
        if let EntryBody::Notice(Notice::ImageHashed { image }) = &entry.body {
            self.hashes.learn(image);
        }
        let Some(session) = entry.session.filter(|id| self.wanted.matches(*id)) else { return };
        self.ids.insert(session);
        // What is ambiguous will not be shown.
        if self.ids.len() == 1 {
            self.act(entry);
        }
    }

    fn act(&mut self, entry: &Entry) {
        let EntryBody::Act { process, action, verdict, .. } = &entry.body else { return };
        let node = self.nodes.entry(process.key).or_insert_with(|| {
            self.order.push(process.key);
            let process = Process::clone(process);
            Node { process, code: None, signal: None, adopted: None, denials: vec![], children: vec![] }
        });
        node.process = Process::clone(process);
        if let Action::Exit { code, signal } = action {
            (node.code, node.signal) = (*code, *signal);
        }
        if let Action::Adopt { link, .. } = action {
            node.adopted = Some(*link);
        }
        if *verdict == Verdict::Deny {
            node.denials.push(line(entry, false).trim_start().to_owned());
        }
    }

    /// The tree, without roots when none of its processes acted yet.
    ///
    /// # Errors
    /// No session begins so, or several do.
    pub fn finish(mut self) -> Result<TreeView, PickError> {
        let session = self.wanted.pick(self.ids)?;
        for node in self.nodes.values_mut() {
            self.hashes.complete_process(&mut node.process);
        }
        Ok(TreeView { session, roots: assemble(self.nodes, &self.order) })
    }
}

/// Hangs every node under its creator, youngest first, so that no recursion is needed. A creator counts only when it
/// came earlier: whatever the entries say, the result has no cycle.
fn assemble(mut nodes: HashMap<ProcessKey, Node>, order: &[ProcessKey]) -> Vec<Node> {
    let place: BTreeMap<_, _> = order.iter().enumerate().map(|(at, key)| (*key, at)).collect();
    let mut roots = Vec::new();
    for (at, key) in order.iter().enumerate().rev() {
        let Some(mut node) = nodes.remove(key) else { continue };
        node.children.reverse();
        let creator =
            node.process.parent.filter(|parent| place.get(parent).is_some_and(|earlier| *earlier < at));
        match creator.and_then(|creator| nodes.get_mut(&creator)) {
            Some(creator) => creator.children.push(node),
            None => roots.push(node),
        }
    }
    roots.reverse();
    roots
}

impl TreeView {
    /// For people, indented by depth.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut open: Vec<(usize, &Node)> = self.roots.iter().rev().map(|node| (0, node)).collect();
        while let Some((depth, node)) = open.pop() {
            let program = &node.process.program;
            let hash: String = program.image.digest.to_string().chars().take(12).collect();
            let argv = shortened(&command_line(&program.argv), COMMAND_LEN_MAX);
            let path =
                if program.image.path.is_empty() { "?".to_owned() } else { program.image.path.to_string() };
            let ended = match (node.code, node.signal) {
                (Some(code), _) => format!("  status {code}"),
                (None, Some(signal)) => format!("  signal {signal}"),
                (None, None) => String::new(),
            };
            let adopted =
                node.adopted.map_or_else(String::new, |link| format!("  adopted by {}", link.name()));
            let indent = "  ".repeat(depth.min(16));
            let _ = writeln!(out, "{indent}{}  {path}  {hash}  {argv}{adopted}{ended}", node.process.key.pid);
            for denial in &node.denials {
                let _ = writeln!(out, "{indent}  ! {denial}");
            }
            open.extend(node.children.iter().rev().map(|child| (depth + 1, child)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use treeline_event::{Digest, Image};

    use super::*;
    use crate::view::fixture::{act, key, notice};

    #[test]
    fn children_hang_under_creators_and_hashes_are_completed() {
        let session = SessionId(1);
        let exit = Action::Exit { code: Some(3), signal: None };
        let adopted = Action::Adopt { link: AdoptedBy::Job, by: key(4), client: None, file: None };
        let image = Image { digest: Digest::Sha256([0xab; 32]), ..Image::default() };
        let entries = [
            act(session, 5, Some(1), Action::Exec, Verdict::Allow),
            act(session, 6, Some(5), Action::Exec, Verdict::Deny),
            act(session, 7, Some(6), exit, Verdict::Allow),
            act(session, 8, Some(8), adopted, Verdict::Audit),
            notice(Notice::ImageHashed { image }),
        ];
        let tree = |wanted: &str| {
            let mut search = TreeSearch::new(wanted.parse().expect("a prefix"));
            entries.iter().for_each(|entry| search.add(entry));
            search.finish()
        };
        let view = tree("0000000000000001").expect("a tree");
        let text = view.text();
        let starts: Vec<_> = text.lines().map(|line| line.split("  /").next().unwrap_or_default()).collect();
        assert_eq!(starts[0], "5");
        assert_eq!(starts[1], "  6");
        assert!(starts[2].starts_with("    ! "), "{text}");
        assert_eq!(starts[3], "    7");
        assert_eq!(starts[4], "8");
        assert!(text.lines().any(|line| line.starts_with("8") && line.contains("adopted by job")), "{text}");
        assert!(text.contains("abababababab") && text.contains("status 3"), "{text}");
        assert_eq!(tree("2").expect_err("none begins so"), PickError::Unknown("2".parse().expect("a digit")));
    }
}
