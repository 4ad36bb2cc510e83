//! A text as what is printed of it: values, and the comments that belong to them.
//!
//! A comment on a line of its own belongs to what follows it, unless it stands deeper than that: then it is the last thing of
//! what comes before. One with an empty line behind it, before the first key of a mapping, belongs to the whole. A comment behind something belongs to that. So each comment has one place, and goes where its place
//! goes.

use std::{collections::VecDeque, iter::Peekable, vec};

use crate::{
    source::Span,
    yaml::{Comment, Node, Value},
};

/// A value with its comments.
#[derive(Debug)]
pub(super) struct Laid {
    pub(super) body: Body,
    /// Comments before the first child.
    pub(super) head: Vec<Line>,
    /// Whether an empty line is between them and the first child.
    pub(super) gap: bool,
    /// Comments behind the last child.
    pub(super) tail: Vec<Line>,
}

#[derive(Debug)]
pub(super) enum Body {
    Scalar { text: String, plain: bool },
    List(Vec<Child>),
    Map(Vec<Child>),
}

/// An item of a list, or a key of a mapping with its value.
#[derive(Debug)]
pub(super) struct Child {
    /// The key, in a mapping.
    pub(super) key: String,
    /// Comments above it.
    pub(super) before: Vec<Line>,
    /// Whether an empty line is between them and it, or what comes before it.
    pub(super) gap: bool,
    /// The comment behind it, or behind its key.
    pub(super) aside: Option<String>,
    pub(super) value: Laid,
}

/// A comment on a line of its own.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    /// Whether an empty line is above it.
    pub(super) gap: bool,
}

impl Laid {
    /// The children, if it can have some.
    pub(super) fn children(&self) -> &[Child] {
        match &self.body {
            Body::Scalar { .. } => &[],
            Body::List(children) | Body::Map(children) => children,
        }
    }

    /// The children, to be changed.
    pub(super) fn children_mut(&mut self) -> &mut [Child] {
        match &mut self.body {
            Body::Scalar { .. } => &mut [],
            Body::List(children) | Body::Map(children) => children,
        }
    }

    /// Gives the comments right above the first key of a mapping to that key, which may not be the first one when it is printed. What
    /// an empty line is behind stays, and so do the first so many.
    fn give_to_first_key(&mut self, stay: usize) {
        let Body::Map(children) = &mut self.body else { return };
        let Some(first) = children.first_mut().filter(|_| !self.gap) else { return };
        let behind_gap = self.head.iter().rposition(|line| line.gap).unwrap_or(0);
        let at = behind_gap.max(stay).min(self.head.len());
        self.gap = at > 0 && self.head.get(at).is_some_and(|line| line.gap);
        first.before.splice(0..0, self.head.drain(at..));
    }

    /// Whether a comment is in it.
    pub(super) fn has_comments(&self) -> bool {
        let in_child =
            |child: &Child| !child.before.is_empty() || child.aside.is_some() || child.value.has_comments();
        !self.head.is_empty() || !self.tail.is_empty() || self.children().iter().any(in_child)
    }
}

/// Lays out what was read from a text.
pub(super) fn lay_out(text: &str, root: &Node, comments: Vec<Comment>) -> Laid {
    Text::of(text).lay(root, 0, comments)
}

/// The comments that are left, in order.
type Rest = Peekable<vec::IntoIter<Comment>>;

/// A text and its lines: what is one long line has as many places as any other.
struct Text<'t> {
    text: &'t str,
    lines: Vec<Extent>,
}

/// A line of a text.
struct Extent {
    /// Its first byte.
    start: usize,
    /// Behind spaces and dashes: what is the first thing on it begins here at the latest.
    first: usize,
    is_empty: bool,
}

impl<'t> Text<'t> {
    fn of(text: &'t str) -> Self {
        let mut start = 0;
        let mut lines = Vec::new();
        for line in text.split_inclusive('\n') {
            let blank = line.len() - line.trim_start_matches([' ', '\t', '-', '?']).len();
            lines.push(Extent { start, first: start + blank, is_empty: line.trim().is_empty() });
            start += line.len();
        }
        lines.push(Extent { start, first: start, is_empty: true });
        Self { text, lines }
    }

    /// A value with the comments that are its own; all of them are before what has no children.
    /// `outer` is the column of what it is the value of.
    fn lay(&self, node: &Node, outer: usize, comments: Vec<Comment>) -> Laid {
        let children: VecDeque<(Span, &str, &Node)> = match &node.value {
            Value::Scalar { .. } => VecDeque::new(),
            Value::Sequence(items) => items.iter().map(|item| (item.span, "", item)).collect(),
            Value::Mapping(entries) => {
                entries.iter().map(|(key, value)| (key.span, key.value.as_str(), value)).collect()
            }
        };
        let column = match children.front() {
            Some((first, ..)) if matches!(node.value, Value::Mapping(_)) => self.column(first.start),
            _ if self.is_dash(node.span.start) => self.column(node.span.start),
            // The dashes of a list are never left of its key, but may be below it.
            _ => outer,
        };
        let mut rest = comments.into_iter().peekable();
        let first = children.front().map_or(self.text.len(), |(span, ..)| span.start);
        let head = self.lines_before(first, &mut rest);
        let gap = !head.is_empty() && self.has_gap(first);
        let starts: Vec<usize> = children.iter().map(|(span, ..)| span.start).skip(1).collect();
        let nexts = starts.into_iter().map(Some).chain([None]);
        let mut laid = Vec::with_capacity(children.len());
        for ((own, key, value), next) in children.into_iter().zip(nexts) {
            let before = self.lines_before(own.start, &mut rest);
            let limit = next.unwrap_or(usize::MAX);
            let (inner, behind) = self.own_of(value, limit, column, &mut rest);
            laid.push(self.child((own, key, value), column, before, (inner, behind)));
        }
        // It need not be the first one when it is printed.
        if let Some(first) = laid.first_mut() {
            first.gap = false;
        }
        let tail = rest.map(|comment| self.line(&comment)).collect();
        let body = match &node.value {
            Value::Scalar { text, plain } => Body::Scalar { text: text.clone(), plain: *plain },
            Value::Sequence(_) => Body::List(laid),
            Value::Mapping(_) => Body::Map(laid),
        };
        Laid { body, head, gap, tail }
    }

    /// The comments of a child whose value this is: within it, and behind it before `limit`. Of those on lines of their own
    /// the deeper ones are the last things of a value that has no brackets.
    fn own_of(
        &self,
        value: &Node,
        limit: usize,
        column: usize,
        rest: &mut Rest,
    ) -> (Vec<Comment>, Option<Comment>) {
        let end = value.span.end;
        let mut inner: Vec<Comment> =
            std::iter::from_fn(|| rest.next_if(|comment| comment.start < end)).collect();
        let same_line = |comment: &Comment| comment.start < limit && self.is_one_line(end, comment.start);
        let aside = rest.next_if(same_line);
        if !is_open(value) {
            return (inner, aside);
        }
        inner.extend(aside);
        let deeper = |comment: &Comment| {
            comment.start < limit && comment.is_alone && self.column(comment.start) > column
        };
        inner.extend(std::iter::from_fn(|| rest.next_if(deeper)));
        (inner, None)
    }

    fn child(
        &self,
        (own, key, value): (Span, &str, &Node),
        column: usize,
        mut before: Vec<Line>,
        (inner, behind): (Vec<Comment>, Option<Comment>),
    ) -> Child {
        let has_children = !matches!(&value.value, Value::Scalar { .. }) && !is_empty(value);
        // Behind the key, which the value follows on a line of its own.
        let behind_key =
            |comment: &Comment| comment.start < value.span.start && self.is_one_line(own.end, comment.start);
        let (mut asides, mut inner): (Vec<Comment>, Vec<Comment>) = if has_children {
            let first = inner.iter().take_while(|comment| behind_key(comment)).take(1).count();
            let mut inner = inner;
            let rest = inner.split_off(first);
            (inner, rest)
        } else {
            (inner, Vec::new())
        };
        match behind {
            // What is in brackets is printed without them when it has comments, and ends with this one.
            Some(behind) if !inner.is_empty() => inner.push(behind),
            behind => asides.extend(behind),
        }
        let aside = asides.pop_if(|last| !last.is_alone);
        before.extend(asides.iter().map(|comment| self.line(comment)));
        let gap = self.has_gap(own.start);
        // What is on the line of a bracket is about all that is in it.
        let on_bracket = inner.iter().take_while(|comment| !comment.is_alone).count();
        let mut value = self.lay(value, column, inner);
        if !key.is_empty() {
            value.give_to_first_key(on_bracket);
        }
        Child { key: key.to_owned(), before, gap, aside: aside.map(|comment| comment.text), value }
    }

    fn lines_before(&self, limit: usize, rest: &mut Rest) -> Vec<Line> {
        let before = std::iter::from_fn(|| rest.next_if(|comment| comment.start < limit));
        before.map(|comment| self.line(&comment)).collect()
    }

    fn line(&self, comment: &Comment) -> Line {
        Line { text: comment.text.clone(), gap: comment.is_alone && self.has_gap(comment.start) }
    }

    /// The number of the line that a place is on.
    fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|line| line.start <= at).saturating_sub(1)
    }

    /// Bytes before a place on its line. Of those that are compared, all are spaces.
    fn column(&self, at: usize) -> usize {
        at - self.lines[self.line_of(at)].start
    }

    /// Whether an empty line is above what is the first thing on its line.
    fn has_gap(&self, at: usize) -> bool {
        let line = self.line_of(at);
        let above = line.checked_sub(1).and_then(|above| self.lines.get(above));
        at <= self.lines[line].first && above.is_some_and(|above| above.is_empty)
    }

    fn is_one_line(&self, start: usize, end: usize) -> bool {
        self.line_of(start) == self.line_of(end)
    }

    fn is_dash(&self, at: usize) -> bool {
        let mut chars = self.text[at..].chars();
        chars.next() == Some('-') && chars.next().is_none_or(char::is_whitespace)
    }
}

/// Whether a value has children and no brackets, so that comments below it can be a part of it.
fn is_open(node: &Node) -> bool {
    !node.in_brackets && !matches!(node.value, Value::Scalar { .. }) && !is_empty(node)
}

fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Scalar { .. } => false,
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(entries) => entries.is_empty(),
    }
}
