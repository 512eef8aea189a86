//! `platform.yml` as one JSON Schema (2020-12), for editors: names, titles,
//! types and defaults, with `${NAME}` allowed wherever a value may stand.

use super::schema::{Setting, Settings};
use serde_json::{Map, Value, json};

/// A text with a reference in it.
const REFERENCE: &str = r"\$\{[A-Za-z0-9_]+\}";

/// The schema. `machines` are those that may override.
pub fn schema(settings: &Settings, machines: &[String]) -> Value {
    let section = |overrides: bool| {
        let known = settings.by_name.iter().filter(|(_, setting)| setting.secret.is_none());
        let known = known.filter(|(_, setting)| !overrides || setting.overridable);
        let properties: Map<String, Value> = known.map(|(name, setting)| (name.clone(), property(setting))).collect();
        json!({"type": ["object", "null"], "properties": properties, "additionalProperties": false})
    };
    let required: Vec<&String> = settings
        .by_name
        .iter()
        .filter(|(_, setting)| setting.default.is_none() && !setting.optional && setting.secret.is_none())
        .map(|(name, _)| name)
        .collect();
    let mut platform = section(false);
    if !required.is_empty() {
        platform["required"] = json!(required);
    }
    let own: Map<String, Value> =
        machines.iter().map(|machine| (machine.clone(), json!({"$ref": "#/$defs/machine"}))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("platform.yml for release {}", settings.release),
        "type": ["object", "null"],
        "properties": {
            "release": {
                "title": "Release",
                "description": "The release that this file was last migrated to. Written by lockstep migrate.",
                "type": ["string", "number"],
            },
            "settings": platform,
            "machines": {"type": ["object", "null"], "properties": own, "additionalProperties": false},
        },
        "additionalProperties": false,
        "$defs": {"machine": section(true)},
    })
}

fn property(setting: &Setting) -> Value {
    let mut property = Map::new();
    for (key, text) in [("title", &setting.title), ("description", &setting.description)] {
        if !text.is_empty() {
            property.insert(key.to_owned(), text.as_str().into());
        }
    }
    if let Some(default) = &setting.default {
        property.insert("default".to_owned(), default.to_json());
    }
    let mut ways = vec![open(&setting.schema), json!({"type": "string", "pattern": REFERENCE})];
    if setting.optional {
        ways.push(json!({"type": "null"}));
    }
    property.insert("anyOf".to_owned(), ways.into());
    Value::Object(property)
}

/// The same schema with references allowed inside lists and mappings too, and
/// plain numbers where text is wanted: they are taken as they are spelt.
fn open(schema: &Value) -> Value {
    let Value::Object(entries) = schema else { return schema.clone() };
    let or_reference = |inner: &Value| match inner {
        Value::Object(_) => json!({"anyOf": [open(inner), {"type": "string", "pattern": REFERENCE}]}),
        other => other.clone(),
    };
    let entry = |(key, value): (&String, &Value)| {
        let value = match (key.as_str(), value) {
            ("items" | "additionalProperties", inner) => or_reference(inner),
            ("properties", Value::Object(inner)) => {
                inner.iter().map(|(name, inner)| (name.clone(), or_reference(inner))).collect::<Map<_, _>>().into()
            }
            ("type", Value::String(kind)) if kind == "string" => json!(["string", "number", "boolean"]),
            _ => value.clone(),
        };
        (key.clone(), value)
    };
    Value::Object(entries.iter().map(entry).collect())
}
