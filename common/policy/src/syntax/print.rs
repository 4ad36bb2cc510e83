//! Values, printed in the one way that is canonical: keys in the order of the description, two spaces for each level, lists
//! of scalars and short mappings on one line where they fit, and quotes only where they are needed.

use super::{
    layout::{Body, Child, Laid, Line},
    scalar::{self, Place, on_one_line},
    shape::{Form, Key, Shape, Text},
};

/// Columns of a line, where it can be broken.
const COLUMNS: usize = 120;
/// Columns of each level.
const LEVEL: usize = 2;

/// Prints a file whose root has this shape.
pub(super) fn print(mut laid: Laid, shape: Shape) -> String {
    hoist(&mut laid, Some(shape));
    let mut printer = Printer { out: String::new(), is_first: true };
    if laid.children().is_empty() {
        printer.lines(&laid.head, 0);
        let text = on_line(&Laid { head: Vec::new(), ..laid }, Some(shape), Place::Open).unwrap_or_default();
        printer.line(0, &text);
    } else {
        printer.block(&laid, Some(shape), 0);
    }
    printer.out
}

struct Printer {
    out: String,
    /// Whether nothing has been printed of the innermost container, so that no empty line comes next.
    is_first: bool,
}

impl Printer {
    fn gap(&mut self, is_there: bool) {
        if is_there && !self.is_first && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    fn line(&mut self, indent: usize, text: &str) {
        self.out.push_str(&" ".repeat(if text.is_empty() { 0 } else { indent }));
        self.out.push_str(text);
        self.out.push('\n');
        self.is_first = false;
    }

    fn lines(&mut self, lines: &[Line], indent: usize) {
        for line in lines {
            self.gap(line.gap);
            self.line(indent, &line.text);
        }
    }

    /// A container with each child on lines of its own.
    fn block(&mut self, laid: &Laid, shape: Option<Shape>, indent: usize) {
        self.lines(&laid.head, indent);
        self.gap(laid.gap);
        match &laid.body {
            Body::Scalar { .. } => {}
            Body::List(items) => {
                let width = width_before_asides(items, shape);
                for item in items {
                    self.item(item, item_shape(shape), indent, width);
                }
            }
            Body::Map(_) => {
                for (child, shape) in in_order(laid, shape) {
                    self.lines(&child.before, indent);
                    self.gap(child.gap);
                    self.entry(child, shape, indent, "");
                }
            }
        }
        self.lines(&laid.tail, indent);
    }

    /// An item of a list, with its dash; a comment behind it is beyond `width`.
    fn item(&mut self, item: &Child, shape: Option<Shape>, indent: usize, width: usize) {
        self.lines(&item.before, indent);
        let room = COLUMNS.saturating_sub(indent + LEVEL);
        // What is above an item that takes several lines is its own comment; an empty line comes before that.
        self.gap(item.gap);
        if let Some(text) = if_short(&item.value, shape, room) {
            let text = format!("- {text}");
            match &item.aside {
                Some(aside) => self.line(indent, &format!("{text:width$}  {aside}")),
                None => self.line(indent, &text),
            }
            return;
        }
        if !matches!(item.value.body, Body::Scalar { .. })
            && let Some(aside) = &item.aside
        {
            self.line(indent, aside);
        }
        match &item.value.body {
            Body::Scalar { .. } => self.scalar(item, shape, indent, "-"),
            Body::List(_) => {
                self.line(indent, "-");
                self.is_first = true;
                self.block(&item.value, shape, indent + LEVEL);
            }
            Body::Map(_) => self.mapping_in_list(&item.value, shape, indent),
        }
    }

    /// A mapping whose first key is behind a dash.
    fn mapping_in_list(&mut self, laid: &Laid, shape: Option<Shape>, indent: usize) {
        for (number, (child, shape)) in in_order(laid, shape).into_iter().enumerate() {
            let (at, lead) = if number == 0 { (indent, "- ") } else { (indent + LEVEL, "") };
            self.lines(&child.before, at);
            self.gap(number > 0 && child.gap);
            self.entry(child, shape, at, lead);
        }
        self.lines(&laid.tail, indent + LEVEL);
    }

    /// A key with its value; `lead` is the dash before it.
    fn entry(&mut self, child: &Child, shape: Option<Shape>, indent: usize, lead: &str) {
        let key = format!("{lead}{}:", key_on_line(&child.key));
        let room = COLUMNS.saturating_sub(indent + key.chars().count() + 1);
        if let Some(text) = if_short(&child.value, shape, room) {
            self.with_aside(indent, &format!("{key} {text}"), child);
            return;
        }
        if matches!(child.value.body, Body::Scalar { .. }) {
            self.scalar(child, shape, indent + lead.len(), &key);
            return;
        }
        self.with_aside(indent, &key, child);
        self.is_first = true;
        self.block(&child.value, shape, indent + lead.len() + LEVEL);
        self.is_first = false;
    }

    /// A scalar behind its key or dash that takes more than the rest of the line. What it is printed with begins at `indent`,
    /// but for a dash before the key.
    fn scalar(&mut self, child: &Child, shape: Option<Shape>, indent: usize, key: &str) {
        let begin = indent - if key.starts_with("- ") { LEVEL } else { 0 };
        let text = text_of(&child.value, shape);
        let block = scalar::as_lines(&text).filter(|_| text.contains('\n'));
        let room = COLUMNS.saturating_sub(indent + LEVEL);
        let fold = if is_prose(shape) { scalar::folded(&text, room) } else { None };
        match (block, fold) {
            (Some((header, lines)), _) => {
                self.with_aside(begin, &format!("{key} {header}"), child);
                lines.iter().for_each(|line| self.line(indent + LEVEL, line));
            }
            (None, Some(lines)) => {
                self.with_aside(begin, &format!("{key} >-"), child);
                lines.iter().for_each(|line| self.line(indent + LEVEL, line));
            }
            (None, None) => {
                let text = on_line(&child.value, shape, Place::Open).unwrap_or_default();
                self.with_aside(begin, &format!("{key} {text}"), child);
            }
        }
    }

    fn with_aside(&mut self, indent: usize, text: &str, child: &Child) {
        match &child.aside {
            Some(aside) => self.line(indent, &format!("{text}  {aside}")),
            None => self.line(indent, text),
        }
    }
}

/// Puts above the dash what is above the first thing of a container in a list, where there is no room for it. The dash of a
/// list in a list is on a line of its own, and has no empty line above it.
fn hoist(laid: &mut Laid, shape: Option<Shape>) {
    let known = keys(laid, shape);
    let shapes: Vec<Option<Shape>> = match &laid.body {
        Body::Map(children) => children.iter().map(|child| key_shape(&known, shape, &child.key)).collect(),
        _ => vec![item_shape(shape); laid.children().len()],
    };
    let is_list = matches!(laid.body, Body::List(_));
    let mut has_gap = laid.gap;
    for (number, (child, shape)) in laid.children_mut().iter_mut().zip(shapes).enumerate() {
        hoist(&mut child.value, shape);
        if !is_list {
            continue;
        }
        child.before.append(&mut child.value.head);
        child.value.gap = false;
        let first = in_order(&child.value, shape).first().map(|(first, _)| first.key.clone());
        let mut keys = child.value.children_mut().iter_mut();
        if let Some(first) = keys.find(|key| Some(&key.key) == first.as_ref()) {
            child.before.append(&mut first.before);
        }
        if matches!(child.value.body, Body::List(_)) {
            child.gap = false;
            has_gap &= number > 0;
        }
    }
    laid.gap = has_gap;
}

/// Columns that the items of a list take which have comments behind them, so that these stand below each other.
fn width_before_asides(items: &[Child], shape: Option<Shape>) -> usize {
    let shape = item_shape(shape);
    let width = |item: &Child| {
        let text = item.aside.as_ref().and_then(|_| if_short(&item.value, shape, COLUMNS));
        text.map_or(0, |text| text.chars().count() + LEVEL)
    };
    items.iter().map(width).filter(|width| *width <= COLUMNS / 2).max().unwrap_or(0)
}

/// What is printed on one line in a place with so much room: scalars, lists of them, and mappings whose shape says so.
fn if_short(laid: &Laid, shape: Option<Shape>, room: usize) -> Option<String> {
    let children = laid.children();
    let is_scalar = |child: &Child| matches!(child.value.body, Body::Scalar { .. });
    let may_be = match &laid.body {
        Body::Scalar { .. } => {
            let text = text_of(laid, shape);
            // Line breaks are shown as such, where they can be.
            !text.contains('\n') || scalar::as_lines(&text).is_none()
        }
        Body::List(items) => items.iter().all(is_scalar) || !is_known(shape),
        Body::Map(_) => children.is_empty() || is_inline(shape),
    };
    if !may_be || laid.has_comments() {
        return None;
    }
    let text = on_line(laid, shape, Place::Open)?;
    let fits = text.chars().count() <= room;
    let is_never_broken = children.is_empty() && !is_prose(shape);
    (fits || is_never_broken).then_some(text)
}

/// All of it on one line; none of a container with comments.
fn on_line(laid: &Laid, shape: Option<Shape>, place: Place) -> Option<String> {
    let (open, items, close) = match &laid.body {
        Body::Scalar { plain, .. } => return Some(on_one_line(&text_of(laid, shape), *plain, place)),
        Body::List(items) => {
            let items = items.iter().map(|item| on_line(&item.value, item_shape(shape), Place::InBrackets));
            ('[', items.collect::<Option<Vec<String>>>()?, ']')
        }
        Body::Map(_) => {
            let entry = |(child, shape): (&Child, Option<Shape>)| {
                let value = on_line(&child.value, shape, Place::InBrackets)?;
                Some(format!("{}: {value}", key_on_line(&child.key)))
            };
            let entries = in_order(laid, shape).into_iter().map(entry);
            ('{', entries.collect::<Option<Vec<String>>>()?, '}')
        }
    };
    (!laid.has_comments()).then(|| format!("{open}{}{close}", items.join(", ")))
}

/// The text of a scalar. White space around prose is not a part of it; what has several lines ends with a line break.
fn text_of(laid: &Laid, shape: Option<Shape>) -> String {
    let Body::Scalar { text, .. } = &laid.body else { return String::new() };
    if !is_prose(shape) {
        return text.clone();
    }
    let trimmed = text.trim();
    let lines = format!("{trimmed}\n");
    if trimmed.contains('\n') && scalar::as_lines(&lines).is_some() { lines } else { trimmed.to_owned() }
}

/// The children of a mapping, as the description has them, each with what can stand there. What it does not know comes last.
fn in_order(laid: &Laid, shape: Option<Shape>) -> Vec<(&Child, Option<Shape>)> {
    let known = keys(laid, shape);
    let rank = |child: &&Child| known.iter().position(|key| key.name == child.key).unwrap_or(usize::MAX);
    let mut children: Vec<&Child> = laid.children().iter().collect();
    children.sort_by_key(rank);
    children.into_iter().map(|child| (child, key_shape(&known, shape, &child.key))).collect()
}

/// The keys that a mapping can have.
fn keys(laid: &Laid, shape: Option<Shape>) -> Vec<&'static Key> {
    match shape {
        Some(Shape::Record(record)) => record.keys().collect(),
        Some(Shape::Kinds(kinds)) => {
            let kind = laid.children().iter().find(|child| child.key == kinds.by);
            let kind = kind.and_then(|kind| match &kind.value.body {
                Body::Scalar { text, .. } => kinds.kind(text),
                _ => None,
            });
            kind.map_or_else(|| kinds.keys(), |record| record.keys().collect())
        }
        Some(Shape::Either(shapes)) => {
            let record = shapes.iter().find(|shape| matches!(shape, Shape::Record(_)));
            record.map(|record| keys(laid, Some(*record))).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// What can stand at a key, of those that are known.
fn key_shape(known: &[&'static Key], shape: Option<Shape>, key: &str) -> Option<Shape> {
    match shape {
        Some(Shape::Names(names)) => return Some(names.value),
        Some(Shape::Any) => return shape,
        _ => {}
    }
    known.iter().find(|known| known.name == key).map(|known| known.shape)
}

/// What can stand in a list.
fn item_shape(shape: Option<Shape>) -> Option<Shape> {
    match shape {
        Some(Shape::List(list)) => Some(list.item),
        Some(Shape::Any) => shape,
        _ => None,
    }
}

fn is_known(shape: Option<Shape>) -> bool {
    matches!(shape, Some(Shape::List(_)))
}

/// Whether a mapping is printed on one line where it fits.
fn is_inline(shape: Option<Shape>) -> bool {
    match shape {
        Some(Shape::Record(record)) => record.is_inline,
        Some(Shape::Names(names)) => names.is_inline,
        Some(Shape::Any) => true,
        Some(Shape::Either(shapes)) => shapes.iter().any(|shape| is_inline(Some(*shape))),
        _ => false,
    }
}

/// A key, without its `:`.
pub(super) fn key_on_line(key: &str) -> String {
    on_one_line(key, false, Place::InBrackets)
}

/// Whether a text is for people to read, and can be folded.
pub(super) fn is_prose(shape: Option<Shape>) -> bool {
    matches!(shape, Some(Shape::Text(Text { form: Form::Lines | Form::Line, .. })))
}
