//! What a person types or a program sends, as a value of a setting: the words
//! as they are where the schema wants text, else YAML or JSON.

use super::values::typed;
use crate::yaml::{self, Key, Kind, Node};
use serde_json::Value;

/// The value that words stand for under a schema; the error says what is wrong with them.
pub fn read(words: &str, schema: &Value) -> Result<Node, String> {
    if only_text(schema) {
        return Ok(text(words, schema));
    }
    if let Ok(value) = serde_json::from_str::<Value>(words) {
        return Ok(from_json(&value, schema));
    }
    if words.trim().is_empty() {
        return if may(schema, "string") {
            Ok(text(words, schema))
        } else {
            Err("there is no value: to go back to the default, use lockstep settings unset".to_owned())
        };
    }
    match yaml::parse("value", words) {
        // `a #b` is a word and a comment in YAML, and here just words.
        Ok(Node { kind: Kind::Scalar { text: read, plain: true }, .. }) if read != words.trim() => {
            Ok(text(words, schema))
        }
        // `note: see below` is a sentence, unless only a mapping will do.
        Ok(Node { kind: Kind::Map(_), .. }) if may(schema, "string") && is_sentence(words) => Ok(text(words, schema)),
        Ok(node) => Ok(node),
        Err(_) if may(schema, "string") && !words.trim_start().starts_with(['[', '{']) => Ok(text(words, schema)),
        Err(fault) => Err(format!(
            "{}{}: write a list as [a, b] or '- a' lines, a mapping as {{a: 1}}",
            fault.line.map(|line| format!("line {line}: ")).unwrap_or_default(),
            fault.what
        )),
    }
}

/// A JSON value as a node. Texts need quotes only where the schema would read them as something else.
pub fn from_json(value: &Value, schema: &Value) -> Node {
    let kind = match value {
        Value::String(words) => return text(words, schema),
        Value::Null => Kind::Scalar { text: "null".to_owned(), plain: true },
        Value::Bool(_) | Value::Number(_) => Kind::Scalar { text: value.to_string(), plain: true },
        Value::Array(items) => Kind::List(items.iter().map(|item| from_json(item, &schema["items"])).collect()),
        Value::Object(entries) => {
            let entry = |(name, value): (&String, &Value)| {
                let inner = match &schema["properties"][name] {
                    Value::Null => &schema["additionalProperties"],
                    own => own,
                };
                (Key { text: name.clone(), at: (0, 0) }, from_json(value, inner))
            };
            Kind::Map(entries.iter().map(entry).collect())
        }
    };
    Node { kind, at: (0, 0) }
}

fn text(words: &str, schema: &Value) -> Node {
    let plain = typed(words, schema) == Value::String(words.to_owned());
    Node { kind: Kind::Scalar { text: words.to_owned(), plain }, at: (0, 0) }
}

/// Whether a schema takes nothing but texts.
fn only_text(schema: &Value) -> bool {
    let texts = |values: &Value| values.as_array().is_some_and(|values| values.iter().all(Value::is_string));
    match &schema["type"] {
        Value::String(kind) => kind == "string",
        Value::Array(kinds) => kinds.iter().all(|kind| kind == "string" || kind == "null"),
        _ => texts(&schema["enum"]) || schema["const"].is_string(),
    }
}

/// One line without brackets.
fn is_sentence(words: &str) -> bool {
    !words.trim().contains('\n') && !words.trim_start().starts_with(['[', '{'])
}

fn may(schema: &Value, wanted: &str) -> bool {
    match &schema["type"] {
        Value::String(kind) => kind == wanted,
        Value::Array(kinds) => kinds.iter().any(|kind| kind == wanted),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(words: &str, schema: &Value) -> String {
        read(words, schema).map_or_else(|error| error, |node| node.to_json().to_string())
    }

    #[test]
    fn words_stay_words_where_text_is_wanted() {
        let text = json!({"type": "string"});
        for words in ["1.10", "yes", "010", "~", "a: b", " #", "[a]", "", "a\nb\n", "${A}", "\"x\""] {
            let node = read(words, &text).unwrap();
            assert_eq!(node.text(), Some(words));
            let spelt = yaml::parse("", &after(&node)).unwrap();
            let Kind::Scalar { text: read, plain } = &spelt.get("x").unwrap().kind else { panic!() };
            let value = if *plain { typed(read, &text) } else { Value::String(read.clone()) };
            assert_eq!(value, Value::String(words.to_owned()));
        }
    }

    fn after(node: &Node) -> String {
        let mut draft = crate::platform::edit::Draft::new("", "").unwrap();
        draft.set(&["x"], node).unwrap();
        draft.text().to_owned()
    }

    #[test]
    fn other_types_are_yaml_or_json() {
        let any = json!({});
        assert_eq!(said("1.10", &any), "1.10");
        assert_eq!(said("[a, 1.10]", &any), r#"["a",1.10]"#);
        assert_eq!(said("- a\n- b: 1", &any), r#"["a",{"b":1}]"#);
        assert_eq!(said("a #b", &any), r#""a #b""#);
        assert_eq!(said("a: b #c", &any), r#""a: b #c""#);
        assert_eq!(said("a: b\nc: d", &any), r#"{"a":"b","c":"d"}"#);
        assert_eq!(said("a: b", &json!({"type": "object"})), r#"{"a":"b"}"#);
        assert_eq!(said("99999999999999999999", &json!({"type": "integer"})), "99999999999999999999");
        assert_eq!(said("{\"a\": \"1\"}", &json!({"additionalProperties": {"type": "string"}})), r#"{"a":1}"#);
        assert!(said("[a", &json!({"type": "array"})).contains("write a list"));
        assert!(said("", &json!({"type": "array"})).contains("unset"));
    }
}
