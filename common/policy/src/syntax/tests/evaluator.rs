//! As much of JSON Schema as our schemas have, written for nothing but to be checked against the reader.

use std::{cell::RefCell, collections::HashMap};

use regex_automata::meta::Regex;
use serde_json::Value;

/// What is wrong with a value, as places in it; empty if nothing is.
pub(super) fn findings(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Evaluator { root: schema }.check(schema, value, "", &mut found);
    found
}

struct Evaluator<'s> {
    root: &'s Value,
}

impl Evaluator<'_> {
    fn is_valid(&self, schema: &Value, value: &Value) -> bool {
        let mut found = Vec::new();
        self.check(schema, value, "", &mut found);
        found.is_empty()
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        let Value::Object(keywords) = schema else {
            if schema == &Value::Bool(false) {
                found.push(format!("{at}: nothing can be here"));
            }
            return;
        };
        for (keyword, wanted) in keywords {
            let holds = match keyword.as_str() {
                "$schema" | "$comment" | "$defs" | "title" | "description" | "examples" | "then" => true,
                "$ref" => {
                    let name =
                        wanted.as_str().and_then(|name| name.strip_prefix("#/$defs/")).expect("a name");
                    let definition = self.root["$defs"].get(name).expect("it is defined");
                    self.check(definition, value, at, found);
                    true
                }
                "items" => {
                    let items = value.as_array().into_iter().flatten().enumerate();
                    items.for_each(|(index, item)| self.check(wanted, item, &format!("{at}/{index}"), found));
                    true
                }
                "properties" | "additionalProperties" => {
                    self.members(schema, keyword, value, at, found);
                    true
                }
                "allOf" => {
                    list(wanted).iter().for_each(|one| self.check(one, value, at, found));
                    true
                }
                "if" => {
                    if self.is_valid(wanted, value) {
                        self.check(&schema["then"], value, at, found);
                    }
                    true
                }
                "anyOf" => list(wanted).iter().any(|one| self.is_valid(one, value)),
                "not" => !self.is_valid(wanted, value),
                "propertyNames" => {
                    let names = value.as_object().into_iter().flat_map(|members| members.keys());
                    names.into_iter().all(|name| self.is_valid(wanted, &Value::String(name.clone())))
                }
                keyword => assertion(keyword, wanted, value),
            };
            if !holds {
                found.push(format!("{at}: `{keyword}` {wanted} does not hold of {value}"));
            }
        }
    }

    /// The members of an object, by one of two keywords.
    fn members(&self, schema: &Value, keyword: &str, value: &Value, at: &str, found: &mut Vec<String>) {
        for (name, member) in value.as_object().into_iter().flatten() {
            let own = schema.get("properties").and_then(|properties| properties.get(name));
            let wanted = match keyword {
                "properties" => own,
                _ if own.is_none() => schema.get(keyword),
                _ => None,
            };
            if let Some(wanted) = wanted {
                self.check(wanted, member, &format!("{at}/{name}"), found);
            }
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// A keyword that is about the value alone. What is about another type holds.
fn assertion(keyword: &str, wanted: &Value, value: &Value) -> bool {
    let count = |value: usize| value as u64;
    let bound = wanted.as_u64().unwrap_or_default();
    match (keyword, value) {
        ("type", _) => match wanted {
            Value::Array(types) => types.iter().any(|one| is_of(one, value)),
            one => is_of(one, value),
        },
        ("const", _) => equal(wanted, value),
        ("enum", _) => list(wanted).iter().any(|one| equal(one, value)),
        ("pattern", Value::String(text)) => matches(wanted.as_str().expect("a pattern"), text),
        ("maxLength", Value::String(text)) => count(text.chars().count()) <= bound,
        ("minimum", Value::Number(number)) => number.as_f64() >= wanted.as_f64(),
        ("maximum", Value::Number(number)) => number.as_f64() <= wanted.as_f64(),
        ("minItems", Value::Array(items)) => count(items.len()) >= bound,
        ("maxItems", Value::Array(items)) => count(items.len()) <= bound,
        ("uniqueItems", Value::Array(items)) => {
            items.iter().enumerate().all(|(at, one)| !items[..at].iter().any(|other| equal(one, other)))
        }
        ("maxProperties", Value::Object(members)) => count(members.len()) <= bound,
        ("required", Value::Object(members)) => {
            list(wanted).iter().all(|name| members.contains_key(name.as_str().expect("a name")))
        }
        ("dependentRequired", Value::Object(members)) => {
            let demands = wanted.as_object().expect("an object").iter();
            let mut demands = demands.filter(|(key, _)| members.contains_key(*key));
            demands.all(|(_, others)| assertion("required", others, value))
        }
        (
            "pattern" | "maxLength" | "minimum" | "maximum" | "minItems" | "maxItems" | "uniqueItems"
            | "maxProperties" | "required" | "dependentRequired",
            _,
        ) => true,
        (unknown, _) => panic!("the evaluator does not know `{unknown}`"),
    }
}

fn is_of(name: &Value, value: &Value) -> bool {
    match (name.as_str().expect("a name"), value) {
        ("object", Value::Object(_))
        | ("array", Value::Array(_))
        | ("string", Value::String(_))
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_)) => true,
        ("integer", Value::Number(number)) => number.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => false,
    }
}

/// Numbers are equal by their value.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

/// Whether a text matches. Patterns are few, and take longer to be compiled than to be asked.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        let compile = || Regex::new(pattern).expect("a regular expression");
        compiled.entry(pattern.to_owned()).or_insert_with(compile).is_match(text)
    })
}

#[test]
fn the_evaluator_finds_what_is_wrong() {
    use serde_json::json;

    let check = |schema: Value, right: Value, wrong: Value| {
        assert_eq!(findings(&schema, &right), Vec::<String>::new(), "{schema}");
        assert_ne!(findings(&schema, &wrong), Vec::<String>::new(), "{schema}");
    };
    check(json!({"type": ["string", "integer"]}), json!(1), json!(1.5));
    check(json!({"const": 1}), json!(1.0), json!("1"));
    check(json!({"enum": ["a"]}), json!("a"), json!("b"));
    check(json!({"pattern": "^a$"}), json!(1), json!("ab"));
    check(json!({"maxLength": 2}), json!("éé"), json!("éé "));
    check(json!({"minimum": 1, "maximum": 2}), json!(2), json!(3));
    check(json!({"minimum": -2}), json!(-2), json!(-3));
    check(json!({"minItems": 1, "maxItems": 2}), json!([1]), json!([]));
    check(json!({"uniqueItems": true}), json!([1, "1"]), json!([1, 1]));
    check(json!({"items": {"type": "string"}}), json!(["a"]), json!([1]));
    check(json!({"properties": {"a": false}}), json!({"b": 1}), json!({"a": 1}));
    check(
        json!({"properties": {"a": true}, "additionalProperties": false}),
        json!({"a": 1}),
        json!({"b": 1}),
    );
    check(json!({"propertyNames": {"pattern": "^a"}, "maxProperties": 1}), json!({"a": 1}), json!({"b": 1}));
    check(json!({"required": ["a"]}), json!({"a": 1}), json!({}));
    check(json!({"dependentRequired": {"a": ["b"]}}), json!({"b": 1}), json!({"a": 1}));
    check(json!({"anyOf": [{"type": "string"}, {"const": 1}]}), json!(1), json!(2));
    check(json!({"allOf": [{"not": {"const": 1}}]}), json!(2), json!(1));
    check(json!({"if": {"type": "string"}, "then": {"const": "a"}}), json!(1), json!("b"));
    check(json!({"$ref": "#/$defs/x", "$defs": {"x": {"const": 1}}}), json!(1), json!(2));
}
