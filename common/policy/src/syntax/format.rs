//! A file printed in its canonical form.

use super::{
    Document,
    layout::lay_out,
    print::{is_prose, key_on_line, print},
    shape::Shape,
};
use crate::{
    diagnostic::Diagnostics,
    render::printable,
    source::{FileId, Source, Spanned, TEXT_LEN_MAX},
    yaml::{self, Comment, Node, Type, Value, comments},
};

/// Why a file is not printed.
#[derive(Debug, thiserror::Error)]
pub enum Unformatted {
    /// It is no YAML, or has what is no part of the language.
    #[error("{0}")]
    Unreadable(Box<Diagnostics>),
    /// It would be longer than a policy can be.
    #[error("in canonical form it would have {0} bytes; a policy has at most {TEXT_LEN_MAX}")]
    TooLong(usize),
    /// YAML has keys of one line, up to a length.
    #[error(
        "the key `{begin}...` would have {chars} characters as it is printed; YAML reads at most {KEY_CHARS_MAX} before its `:`"
    )]
    LongKey {
        /// Its first characters, safe to print.
        begin: String,
        /// Its characters, with quotes and escapes.
        chars: usize,
    },
    /// What would be printed does not say the same, or not with the same comments. This is never to happen; then the file is
    /// better left alone.
    #[error("the printed text would not say the same; this is an error of Treeline")]
    Unsure,
}

/// Characters of a key on its line, with its quotes.
const KEY_CHARS_MAX: usize = 1024;
/// Characters of a key that is too long, in what is said of it.
const KEY_CHARS_SHOWN: usize = 32;

/// Times that a text is printed until it stays as it is. Once is enough for what a policy can be; of other YAML, such as lists
/// in lists, a comment can come to stand where it belongs to something else, and is then printed from there.
const PASSES_MAX: usize = 4;

/// Prints a policy, a part of one, or a file of tests in its canonical form, with all of its comments. Nothing but its YAML
/// has to be in order. What is printed is printed as it is.
///
/// # Errors
/// It cannot be printed.
pub fn format(source: &Source) -> Result<String, Unformatted> {
    let mut printed = pass(source)?;
    for _ in 0..PASSES_MAX {
        let again = match pass(&Source::new(source.name(), &printed)) {
            Err(Unformatted::Unreadable(_)) => return Err(Unformatted::Unsure),
            again => again?,
        };
        if again == printed {
            return Ok(printed);
        }
        printed = again;
    }
    Err(Unformatted::Unsure)
}

/// Prints a file, and makes sure that what is printed says the same.
fn pass(source: &Source) -> Result<String, Unformatted> {
    let (root, remarks) = read(source)?;
    refuse_long_keys(&root)?;
    let shape = Shape::Record(document(&root).record());
    let printed = print(lay_out(source.text(), &root, remarks.clone()), shape);
    if printed.len() > TEXT_LEN_MAX {
        return Err(Unformatted::TooLong(printed.len()));
    }
    let (again, kept) = read(&Source::new(source.name(), &printed)).map_err(|_| Unformatted::Unsure)?;
    let is_kept = texts(&remarks) == texts(&kept) && are_all(source.text(), &root, &remarks);
    if is_same(&root, &again, Some(shape)) && is_kept { Ok(printed) } else { Err(Unformatted::Unsure) }
}

/// Only after a `?` could they be longer, and none of the language is.
fn refuse_long_keys(root: &Node) -> Result<(), Unformatted> {
    let mut left = vec![root];
    while let Some(node) = left.pop() {
        match &node.value {
            Value::Scalar { .. } => {}
            Value::Sequence(items) => left.extend(items),
            Value::Mapping(entries) => {
                for (Spanned { value: key, .. }, value) in entries {
                    let chars = key_on_line(key).chars().count();
                    if chars > KEY_CHARS_MAX {
                        let begin = printable(&key.chars().take(KEY_CHARS_SHOWN).collect::<String>());
                        return Err(Unformatted::LongKey { begin, chars });
                    }
                    left.push(value);
                }
            }
        }
    }
    Ok(())
}

fn read(source: &Source) -> Result<(Node, Vec<Comment>), Unformatted> {
    let mut out = Diagnostics::about(source.clone());
    let root = if out.has_errors() { None } else { yaml::parse(FileId::default(), &mut out) };
    match root {
        Some(root) => {
            let remarks = comments(source.text(), &root);
            Ok((root, remarks))
        }
        None => Err(Unformatted::Unreadable(Box::new(out))),
    }
}

/// What kind of file it is, by its keys. A part of a policy has no other keys than a policy, and in the same order.
fn document(root: &Node) -> Document {
    let Value::Mapping(entries) = &root.value else { return Document::Policy };
    let has = |key: &str| entries.iter().any(|(name, _)| name.value == key);
    if has("tests") || has("policy") && !has("version") { Document::Tests } else { Document::Policy }
}

/// The comments without their places: they move with what they are about.
fn texts(remarks: &[Comment]) -> Vec<&str> {
    let mut texts: Vec<&str> = remarks.iter().map(|remark| remark.text.as_str()).collect();
    texts.sort_unstable();
    texts
}

/// Whether these are all comments of a text: each `#` of it is in one of them or in a scalar. Where a scalar ends is not asked
/// for that, so that a comment which was taken for a part of one is missed.
fn are_all(text: &str, root: &Node, remarks: &[Comment]) -> bool {
    let hashes = |text: &str| text.bytes().filter(|byte| *byte == b'#').count();
    let in_remarks: usize = remarks.iter().map(|remark| hashes(&remark.text)).sum();
    let mut in_scalars = 0;
    let mut left = vec![root];
    while let Some(node) = left.pop() {
        match &node.value {
            Value::Scalar { text, .. } => in_scalars += hashes(text),
            Value::Sequence(items) => left.extend(items),
            Value::Mapping(entries) => {
                in_scalars += entries.iter().map(|(key, _)| hashes(&key.value)).sum::<usize>();
                left.extend(entries.iter().map(|(_, value)| value));
            }
        }
    }
    // In quotes one can be written as `\x23`.
    hashes(text) <= in_remarks + in_scalars
}

/// Whether two values are the same, but for the order of keys and the white space around prose.
fn is_same(one: &Node, other: &Node, shape: Option<Shape>) -> bool {
    match (&one.value, &other.value) {
        (Value::Scalar { text: a, plain: a_plain }, Value::Scalar { text: b, plain: b_plain }) => {
            let type_of = |text: &str, plain: &bool| if *plain { Type::of_plain(text) } else { Type::Text };
            let kinds = (type_of(a, a_plain), type_of(b, b_plain));
            let is_same_text = if is_prose(shape) { a.trim() == b.trim() } else { a == b };
            kinds == (Type::Nothing, Type::Nothing) || kinds.0 == kinds.1 && is_same_text
        }
        (Value::Sequence(a), Value::Sequence(b)) => {
            let item = match shape {
                Some(Shape::List(list)) => Some(list.item),
                _ => None,
            };
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b, item))
        }
        (Value::Mapping(a), Value::Mapping(b)) => {
            let sorted = |entries: &[(Spanned<String>, Node)]| {
                let mut places: Vec<usize> = (0..entries.len()).collect();
                places.sort_by_key(|at| &entries[*at].0.value);
                places
            };
            let pairs = sorted(a).into_iter().zip(sorted(b));
            let is_same_entry = |(at, other): (usize, usize)| {
                let ((key, a), (same, b)) = (&a[at], &b[other]);
                key.value == same.value && is_same(a, b, shape_at(shape, &key.value))
            };
            a.len() == b.len() && pairs.into_iter().all(is_same_entry)
        }
        _ => false,
    }
}

/// What can stand at a key, whatever kind the mapping is of.
fn shape_at(shape: Option<Shape>, key: &str) -> Option<Shape> {
    match shape? {
        Shape::Record(record) => record.key(key).map(|key| key.shape),
        Shape::Names(names) => Some(names.value),
        Shape::Kinds(kinds) => kinds.keys().into_iter().find(|known| known.name == key).map(|key| key.shape),
        Shape::Either(shapes) => shapes.iter().find_map(|shape| shape_at(Some(*shape), key)),
        _ => None,
    }
}
