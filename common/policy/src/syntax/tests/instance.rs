//! Files of policies as JSON, made from the description: what is added to it is tested without a word here.

use serde_json::{Map, Value, json};

use super::evaluator::matches;
use crate::syntax::shape::{Form, Key, Kinds, List, Presence, Record, Shape, Text};

/// Choices, one after the other; at its end the first choice everywhere.
pub(super) struct Tape<'t>(pub(super) &'t [u16]);

impl Tape<'_> {
    /// A number below `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % count.max(1)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) + 1 == count
    }

    pub(super) fn one_of<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }
}

/// Something that can stand in a place, but for what only meanings forbid.
pub(super) fn of_shape(shape: Shape, tape: &mut Tape<'_>) -> Value {
    match shape {
        Shape::Text(text) => of_text(text, tape).into(),
        Shape::Word(words) => (*tape.one_of(words)).into(),
        Shape::Scalar(scalar) => {
            let example = *tape.one_of(scalar.examples);
            serde_json::from_str(example).expect("examples are JSON")
        }
        Shape::Boolean => (tape.below(2) == 0).into(),
        Shape::Any => (*tape.one_of(&[
            json!({"command": "git push"}),
            json!({"a": [1, "1", null], "b": {"c": true}}),
            json!({}),
            json!("a\nb"),
            json!(-1.5),
        ]))
        .clone(),
        Shape::Kind => unreachable!("kinds choose it"),
        Shape::List(list) => of_list(list, tape),
        Shape::Names(names) => {
            let count = tape.below(3);
            let members = (0..count).map(|_| (of_text(names.name, tape), of_shape(names.value, tape)));
            Value::Object(members.collect())
        }
        Shape::Record(record) => of_record(record, None, tape),
        Shape::Kinds(kinds) => of_kinds(kinds, tape),
        Shape::Either(shapes) => of_shape(*tape.one_of(shapes), tape),
    }
}

fn of_list(list: &List, tape: &mut Tape<'_>) -> Value {
    let count = tape.below(4).max(usize::from(!list.may_be_empty));
    let mut items: Vec<Value> = Vec::new();
    for _ in 0..count {
        let item = of_shape(list.item, tape);
        if !list.is_unique || !items.contains(&item) {
            items.push(item);
        }
    }
    Value::Array(items)
}

fn of_kinds(kinds: &Kinds, tape: &mut Tape<'_>) -> Value {
    let (word, record) = tape.one_of(kinds.kinds);
    of_record(record, Some(word), tape)
}

/// A mapping with some of its keys.
pub(super) fn of_record(record: &Record, kind: Option<&str>, tape: &mut Tape<'_>) -> Value {
    let mut members = Map::new();
    for key in record.keys() {
        let is_there = match key.presence {
            Presence::Required => true,
            Presence::Optional => tape.one_in(3),
            Presence::Refused => false,
        };
        if is_there {
            members.insert(key.name.to_owned(), of_key(key, kind, tape));
        }
    }
    Value::Object(members)
}

fn of_key(key: &Key, kind: Option<&str>, tape: &mut Tape<'_>) -> Value {
    match (key.shape, kind) {
        (Shape::Kind, Some(kind)) => kind.into(),
        (shape, _) => of_shape(shape, tape),
    }
}

fn of_text(text: &Text, tape: &mut Tape<'_>) -> String {
    let any = [
        "Why not.",
        "x",
        "a: b",
        "- a",
        "# a",
        "it's",
        "\"q\"",
        "a, b [c] {d}",
        "1.5",
        "true",
        "null",
        "~",
        "é € 😀",
        "nan",
        "0x1F",
        "a  b",
        "\\",
        "trailing # no",
        "yes",
        "=",
        "%x",
        "`x`",
        "@a",
        "|",
        ">",
        "!x",
        "&x",
        "*x",
        "? x",
        "key:",
        ": x",
        " spaces around ",
        "\u{200e}x\u{2028}y",
        "2099-01-02",
        "-",
        "---",
        "...",
        "x #y",
    ];
    let lines = ["a\nb", "a\n\n  b\nc\n", "\n a", "# x\n- y: z", "a\n\tb", "a \nb"];
    let long = "words that are many enough to need another line than the first one ".repeat(3);
    match text.form {
        Form::Exactly(pattern) => of_pattern(pattern, tape),
        Form::Lines if tape.one_in(3) => (*tape.one_of(&lines)).to_owned(),
        Form::Lines if tape.one_in(3) => long,
        _ => (*tape.one_of(&any)).to_owned(),
    }
}

/// A text of those that match; each pattern has some.
fn of_pattern(pattern: &str, tape: &mut Tape<'_>) -> String {
    let exact = [
        "a",
        "b-2",
        "keys",
        "nan",
        "0x1",
        "1-2",
        "12",
        "null",
        "true",
        "-f",
        "--force",
        "/usr/bin/git",
        "*.example.com",
        "https://example.com/a?b#c",
        "wss://[::1]:8443",
        "github.com/acme/app",
        "git.example:8443/a/b/*",
        "a: b",
        "# a",
        "é",
    ];
    let right: Vec<&str> = exact.into_iter().filter(|text| matches(pattern, text)).collect();
    (*tape.one_of(&right)).to_owned()
}

/// Changes a value in one place.
pub(super) fn mutate(value: &mut Value, tape: &mut Tape<'_>) {
    let mut places = 0;
    visit(value, &mut |_| places += 1);
    let mut left = tape.below(places);
    let others = [
        json!(null),
        json!(true),
        json!(7),
        json!("zzz"),
        json!(""),
        json!("x".repeat(5000)),
        json!([]),
        json!(["zzz"]),
        json!({}),
        json!({"zzz": 1}),
        json!("a\u{7}b"),
        json!("$zzz"),
        json!("allow"),
        json!(0.5),
        json!(70000),
        json!(["/a", "/a"]),
    ];
    let (how, which, other) = (tape.below(4), tape.below(64), tape.one_of(&others).clone());
    visit(value, &mut |place| {
        if left == 0 {
            match place {
                Value::Object(members) if how == 0 && !members.is_empty() => {
                    let key = members.keys().nth(which % members.len()).cloned();
                    members.remove(&key.expect("a key"));
                }
                Value::Object(members) if how == 1 => {
                    let keys = [
                        "zzz", "action", "mode", "ports", "hosts", "include", "except", "sha256", "input",
                        "url", "when",
                    ];
                    members.insert(keys[which % keys.len()].to_owned(), other.clone());
                }
                Value::Array(items) if how == 1 && !items.is_empty() => {
                    items.push(items[which % items.len()].clone());
                }
                place => *place = other.clone(),
            }
        }
        left = left.wrapping_sub(1);
    });
}

/// Every value, those within it first.
fn visit(value: &mut Value, at: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, at)),
        Value::Object(members) => members.values_mut().for_each(|member| visit(member, at)),
        _ => {}
    }
    at(value);
}
