//! The description of the syntax as a JSON Schema (draft 2020-12), for editors.
//!
//! The schema knows shapes and no meanings: it refuses nothing that the reader takes, and takes some of what the reader
//! refuses, such as patterns that cannot be matched.
//!
//! Kinds are told apart by `if` and `then`, each with all of its keys, and not by `unevaluatedProperties`: editors that
//! know drafts before 2019-09 only understand that as well.

use std::collections::BTreeMap;

use super::{
    Document,
    json::Json,
    shape::{Demand, Form, Key, Kinds, List, Names, Numbers, Presence, Record, Scalar, Shape, Text},
};

/// No control character but line breaks between `\x09` and `\x0b`.
const CONTROLS: &str = r"\x00-\x09\x0b-\x1f\x7f-\x9f";

/// The schema of a kind of file.
#[must_use]
pub fn schema(of: Document) -> Json {
    let record = of.record();
    let mut definitions = Definitions::default();
    let Json::Object(root) = definitions.record(record) else { return Json::Bool(true) };
    let head = [
        ("$schema", Json::text("https://json-schema.org/draft/2020-12/schema")),
        ("$comment", Json::text("Made by `treeline policy schema`; edits are lost.")),
        ("title", Json::text(format!("Treeline: {}", record.name))),
    ];
    let head = head.map(|(key, value)| (key.into(), value));
    let defined = definitions.0.into_iter().map(|(name, schema)| (name.into(), schema)).collect();
    let tail = [("$defs".into(), Json::Object(defined))];
    Json::Object(head.into_iter().chain(root).chain(tail).collect())
}

/// The definitions that others refer to, by name.
#[derive(Default)]
struct Definitions(BTreeMap<&'static str, Json>);

impl Definitions {
    /// A reference to a definition, which `make` makes if it is not there.
    fn refer(&mut self, name: &'static str, make: impl FnOnce(&mut Self) -> Json) -> Json {
        if !self.0.contains_key(name) {
            // What refers to itself finds this one.
            self.0.insert(name, Json::Bool(true));
            let schema = make(self);
            self.0.insert(name, schema);
        }
        Json::object([("$ref", Json::text(format!("#/$defs/{name}")))])
    }

    fn shape(&mut self, shape: Shape) -> Json {
        match shape {
            Shape::Text(text) => self::text(text),
            Shape::Word(words) => Json::object([("enum", Json::texts(words.iter().copied()))]),
            Shape::Scalar(scalar) => self.refer(scalar.name, |_| self::scalar(scalar)),
            Shape::Boolean => Json::object([("type", Json::text("boolean"))]),
            Shape::Any => Json::object([]),
            // The kinds say which words there are.
            Shape::Kind => Json::Bool(true),
            Shape::List(list) => self.list(list),
            Shape::Names(names) => self.names(names),
            Shape::Record(record) => self.refer(record.name, |all| all.record(record)),
            Shape::Kinds(kinds) => self.refer(kinds.name, |all| all.kinds(kinds)),
            Shape::Either(shapes) => {
                let shapes = shapes.iter().map(|shape| self.shape(*shape)).collect();
                Json::object([("anyOf", Json::List(shapes))])
            }
        }
    }

    fn list(&mut self, list: &List) -> Json {
        let mut schema = Json::object([("type", Json::text("array")), ("items", self.shape(list.item))]);
        if !list.may_be_empty {
            schema = schema.with("minItems", Json::Number(1));
        }
        if let Some(max) = list.items_max {
            schema = schema.with("maxItems", Json::Number(max as i64));
        }
        if list.is_unique { schema.with("uniqueItems", Json::Bool(true)) } else { schema }
    }

    fn names(&mut self, names: &Names) -> Json {
        Json::object([
            ("type", Json::text("object")),
            ("propertyNames", self::text(names.name)),
            ("additionalProperties", self.shape(names.value)),
            ("maxProperties", Json::Number(names.names_max as i64)),
        ])
    }

    fn record(&mut self, record: &Record) -> Json {
        let mut properties = Vec::new();
        for key in record.keys().filter(|key| key.is_offered()) {
            properties.push((key.name.into(), self.value_of(key)));
        }
        let keys: Vec<&Key> = record.keys().collect();
        closed(record.doc, Json::Object(properties), &keys, record.demands)
    }

    /// What stands at a key.
    fn value_of(&mut self, key: &Key) -> Json {
        self.shape(key.shape).with("description", Json::text(key.doc))
    }

    /// What all kinds have in common, and what each has for itself.
    fn kinds(&mut self, kinds: &Kinds) -> Json {
        let all = kinds.keys();
        let (mut properties, mut common) = (Vec::new(), Vec::new());
        for key in all.iter().filter(|key| key.is_offered()) {
            let schema = match key.shape {
                Shape::Kind => Json::object([("enum", Json::texts(kinds.words()))]),
                shape if kinds.is_common(key) => self.shape(shape),
                _ => {
                    properties.push((key.name.into(), Json::Bool(true)));
                    continue;
                }
            };
            properties.push((key.name.into(), schema.with("description", Json::text(key.doc))));
            common.push(*key);
        }
        let schema = closed(kinds.doc, Json::Object(properties), &common, &[]);
        let branches = kinds.kinds.iter().map(|(word, record)| {
            let is_kind = Json::object([(kinds.by, Json::object([("const", Json::text(*word))]))]);
            let test = Json::object([("properties", is_kind), ("required", Json::texts([kinds.by]))]);
            let then = self.refer(record.name, |all| all.kind(record, &common));
            Json::object([("if", test), ("then", then)])
        });
        let branches = branches.collect();
        schema.with("allOf", Json::List(branches))
    }

    /// One kind; what is said of all of them is not said again.
    fn kind(&mut self, record: &Record, common: &[&Key]) -> Json {
        let mut properties = Vec::new();
        for key in record.keys().filter(|key| key.is_offered()) {
            let is_common = common.iter().any(|one| one.name == key.name);
            let schema = match is_common {
                true => Json::Bool(true),
                false => self.value_of(key),
            };
            properties.push((key.name.into(), schema));
        }
        let own: Vec<&Key> =
            record.keys().filter(|key| !common.iter().any(|one| one.name == key.name)).collect();
        closed(record.doc, Json::Object(properties), &own, record.demands)
    }
}

/// An object with these properties and no others.
fn closed(doc: &'static str, properties: Json, keys: &[&Key], demands: &[Demand]) -> Json {
    let schema = Json::object([
        ("description", Json::text(doc)),
        ("type", Json::text("object")),
        ("properties", properties),
        ("additionalProperties", Json::Bool(false)),
    ]);
    let required = keys.iter().filter(|key| key.presence == Presence::Required).map(|key| key.name);
    let required: Vec<&str> = required.collect();
    let schema = if required.is_empty() { schema } else { schema.with("required", Json::texts(required)) };
    let needs = demands.iter().filter_map(|demand| match demand {
        Demand::Needs(key, other) => Some(((*key).into(), Json::texts([*other]))),
        _ => None,
    });
    let needs: Vec<_> = needs.collect();
    let schema =
        if needs.is_empty() { schema } else { schema.with("dependentRequired", Json::Object(needs)) };
    let others: Vec<Json> = demands.iter().filter_map(demand).collect();
    if others.is_empty() { schema } else { schema.with("allOf", Json::List(others)) }
}

/// A demand that is a schema of its own.
fn demand(demand: &Demand) -> Option<Json> {
    let has = |keys: &[&'static str]| Json::object([("required", Json::texts(keys.iter().copied()))]);
    let not = |schema| Json::object([("not", schema)]);
    match demand {
        Demand::AnyOf(keys) => {
            let each = keys.iter().map(|key| has(&[*key])).collect();
            Some(Json::object([("anyOf", Json::List(each))]))
        }
        Demand::Needs(..) => None,
        Demand::Excludes(one, other) => Some(not(has(&[*one, *other]))),
        Demand::WordExcludes { key, word, other } => {
            let word = Json::object([("const", Json::text(*word))]);
            Some(not(has(&[*key, *other]).with("properties", Json::object([(*key, word)]))))
        }
        Demand::WordExcludesIn { key, word, within, others } => {
            let word = Json::object([("const", Json::text(*word))]);
            let any = others.iter().map(|other| has(&[*other])).collect();
            let any = Json::object([("anyOf", Json::List(any))]);
            Some(not(has(&[*key, *within]).with("properties", Json::object([(*key, word), (*within, any)]))))
        }
        Demand::TextNeeds { key, pattern, other } => {
            let matches = Json::object([("pattern", Json::text(*pattern))]);
            let test = has(&[*key]).with("properties", Json::object([(*key, matches)]));
            Some(Json::object([("if", test), ("then", has(&[*other]))]))
        }
    }
}

fn text(text: &Text) -> Json {
    let any = format!("[^{CONTROLS}]*");
    let blank = format!(r"[^\s{CONTROLS}]");
    let pattern = match text.form {
        // Something that is no space. What is written as a block ends with a line break.
        Form::Line => format!(r"^{}{}{}\n?$", line(&any), line(&blank), line(&any)),
        Form::Lines => format!("^{any}{blank}{any}$"),
        Form::Exactly(pattern) => pattern.to_owned(),
    };
    Json::object([
        ("type", Json::text("string")),
        ("maxLength", Json::Number(text.chars_max as i64)),
        ("pattern", Json::text(pattern)),
    ])
}

/// A part of a pattern, without line breaks.
fn line(part: &str) -> String {
    part.replace(CONTROLS, r"\x00-\x1f\x7f-\x9f")
}

fn scalar(scalar: &Scalar) -> Json {
    let examples = scalar.examples.iter().map(|example| example_of(example)).collect();
    let schema = Json::object([("description", Json::text(scalar.doc)), ("examples", Json::List(examples))]);
    let pattern = scalar.pattern.map(Json::text);
    let number =
        |schema: Json, min, max| schema.with("minimum", Json::Number(min)).with("maximum", Json::Number(max));
    let typed = |types: &[&'static str]| match types {
        [one] => Json::text(*one),
        several => Json::texts(several.iter().copied()),
    };
    match (pattern, scalar.numbers) {
        (None, Numbers::From(min, max)) if min == max => schema.with("const", Json::Number(min)),
        (pattern, numbers) => {
            let mut types: Vec<&str> = Vec::new();
            types.extend(pattern.is_some().then_some("string"));
            types.extend(match numbers {
                Numbers::None => None,
                Numbers::Any => Some("number"),
                Numbers::From(..) => Some("integer"),
            });
            let schema = schema.with("type", typed(&types));
            let schema = match pattern {
                Some(pattern) => schema.with("pattern", pattern),
                None => schema,
            };
            match numbers {
                Numbers::From(min, max) => number(schema, min, max),
                _ => schema,
            }
        }
    }
}

/// An example, which is written as JSON.
fn example_of(example: &'static str) -> Json {
    example.parse().map_or_else(|_| Json::text(example.trim_matches('"')), Json::Number)
}
