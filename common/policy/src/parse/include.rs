//! The files of a policy: its own, and those that it includes.

use std::collections::BTreeMap;

use super::{
    fields::{Fields, clip},
    scalar, version,
};
use crate::{
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    loader::Loader,
    source::{FILES_MAX, FileId, Full, Span, Spanned},
    syntax::{policy_shape::PART, scalars::BELOW},
    yaml::{self, Node, Value},
};

/// Files that include each other: more is not overseen by anybody.
const DEPTH_MAX: usize = 8;

/// What a policy includes.
pub(super) struct Fragments {
    /// The files, in the order in which they are named.
    pub(super) nodes: Vec<Node>,
    /// Whether these are all. What is missing may define what others use.
    pub(super) complete: bool,
}

/// Reads the files that a policy includes, and those that these include.
pub(super) fn fragments(root: &Fields<'_>, loader: &dyn Loader, out: &mut Diagnostics) -> Fragments {
    let name = out.sources().first().name();
    let own = name.rsplit('/').next().unwrap_or(name).to_owned();
    let found = Fragments { nodes: Vec::new(), complete: true };
    let mut reading = Reading { loader, seen: BTreeMap::new(), way: Vec::new(), found };
    reading.includes_of(root, &own, out);
    reading.found
}

/// Whether a file looks like one that is included: it has nothing that such a file cannot have.
pub(super) fn is_fragment(root: &Node) -> bool {
    let Value::Mapping(pairs) = &root.value else { return false };
    let has = |key: &str| pairs.iter().any(|(name, _)| name.value == key);
    has("version") && pairs.len() > 1 && pairs.iter().all(|(name, _)| PART.key(&name.value).is_some())
}

struct Reading<'l> {
    loader: &'l dyn Loader,
    /// Where each file is included.
    seen: BTreeMap<String, Span>,
    /// The files on the way to the one that is read, each with the place where it names the next one.
    way: Vec<(String, Span)>,
    found: Fragments,
}

impl Reading<'_> {
    fn includes_of(&mut self, fields: &Fields<'_>, own: &str, out: &mut Diagnostics) {
        let Some(node) = fields.get("include") else { return };
        for Spanned { value, span } in scalar::list(node, "`include`", out, path) {
            let path = match own.rsplit_once('/') {
                Some((directory, _)) => format!("{directory}/{value}"),
                None => value,
            };
            self.way.push((own.to_owned(), span));
            self.include(&path, span, out);
            self.way.pop();
        }
    }

    fn include(&mut self, path: &str, span: Span, out: &mut Diagnostics) {
        if let Some(from) = self.way.iter().position(|(file, _)| file == path) {
            let message = format!("`{path}` includes itself");
            let cycle = Diagnostic::error(Code::IncludeCycle, span, message).help("remove one of these");
            out.push(self.with_way(cycle, from));
        } else if let Some(first) = self.seen.get(path) {
            let twice =
                Diagnostic::error(Code::DuplicateInclude, span, format!("`{path}` is included twice"))
                    .help("remove one of them; it is a part of the whole policy")
                    .label(*first, "the first one is here");
            out.push(self.with_way(twice, 0));
        } else if self.way.len() > DEPTH_MAX {
            let message = format!("`{path}` is included through more than {DEPTH_MAX} files");
            let deep = Diagnostic::error(Code::IncludeTooDeep, span, message)
                .help("include it in a file that is nearer to the policy's own");
            out.push(self.with_way(deep, 0));
        } else {
            self.seen.insert(path.to_owned(), span);
            let read = self.load(path, span, out).and_then(|file| self.fragment(file, path, out));
            self.found.complete &= read.is_some();
        }
    }

    fn load(&self, path: &str, span: Span, out: &mut Diagnostics) -> Option<FileId> {
        let (code, why, help) = match self.text(path, out) {
            Ok(file) => return Some(file),
            Err(refused) => refused,
        };
        let message = format!("`{path}` cannot be included: {why}");
        out.push(self.with_way(Diagnostic { help, ..Diagnostic::error(code, span, message) }, 0));
        None
    }

    fn text(&self, path: &str, out: &mut Diagnostics) -> Result<FileId, Refused> {
        // The policy's own file is one of them. Those that cannot be read count, too: nobody is asked for more.
        if self.seen.len() >= FILES_MAX {
            return Err(full(Full::Files));
        }
        let source = self.loader.load(path).map_err(|error| (Code::CannotInclude, error.why, error.help))?;
        out.add(source).map_err(full)
    }

    fn fragment(&mut self, file: FileId, path: &str, out: &mut Diagnostics) -> Option<()> {
        let node = yaml::parse(file, out)?;
        let fields = Fields::of(&node, &PART, out)?;
        if let Some(node) = fields.get("version") {
            version(node, out);
        }
        let at = self.found.nodes.len();
        self.includes_of(&fields, path, out);
        self.found.nodes.insert(at, node);
        Some(())
    }

    /// With the way to it from the `from`th file on, but for its last step, which is what the finding is about.
    fn with_way(&self, item: Diagnostic, from: usize) -> Diagnostic {
        let steps = self.way.iter().skip(from).zip(self.way.iter().skip(from + 1));
        steps.fold(item, |item, ((file, span), (next, _))| {
            item.label(*span, format!("`{file}` includes `{next}`"))
        })
    }
}

/// Why a file is not included: code, words and help.
type Refused = (Code, String, Option<String>);

fn full(full: Full) -> Refused {
    let (code, help) = match full {
        Full::Files => (Code::TooManyFiles, "merge some of them"),
        Full::Bytes { .. } => (Code::TooLong, "write fewer rules"),
    };
    (code, full.to_string(), Some(help.to_owned()))
}

/// A path relative to the file that it is in.
pub(super) fn path(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let path = scalar::text(node, "a path", &BELOW, out)?;
    let below = path.split('/').all(|name| !matches!(name, "" | "." | "..")) && !path.starts_with('~');
    if below {
        return Some(path);
    }
    let message = format!("`{}` is not a path below the directory of this file", clip(&path));
    let help = "write it from this directory on, without `.` and `..`";
    out.error(Code::BadInclude, node.span, message, Some(help.into()));
    None
}
