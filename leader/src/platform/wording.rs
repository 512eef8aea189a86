//! A JSON Schema in words: what a value has to be, for people.

use serde_json::Value;

/// The type in a few words: `whole number`, `list of host names`.
pub fn kind(schema: &Value) -> String {
    named(schema, false)
}

fn named(schema: &Value, many: bool) -> String {
    let s = if many { "s" } else { "" };
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(shown).collect();
        return format!("one of {}", values.join(", "));
    }
    if !schema["const"].is_null() {
        return shown(&schema["const"]);
    }
    for (key, word) in [("anyOf", " or "), ("oneOf", " or ")] {
        if let Some(ways) = schema[key].as_array() {
            return ways.iter().map(|way| named(way, many)).collect::<Vec<_>>().join(word);
        }
    }
    if let Some(kinds) = schema["type"].as_array() {
        let kinds = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
        return kinds.map(|kind| plain(kind, many)).collect::<Vec<_>>().join(" or ");
    }
    match schema["type"].as_str() {
        Some("string") => match schema["format"].as_str().and_then(format) {
            Some((name, _)) => format!("{name}{}", if many && name.ends_with("ss") { "es" } else { s }),
            None => plain("string", many),
        },
        Some("array") => match &schema["items"] {
            Value::Object(items) if !items.is_empty() => format!("list{s} of {}", named(&schema["items"], true)),
            _ => format!("list{s}"),
        },
        Some("object") => match &schema["additionalProperties"] {
            Value::Object(inner) if !inner.is_empty() => {
                format!("mapping{s} of names to {}", named(&schema["additionalProperties"], true))
            }
            _ => format!("mapping{s}"),
        },
        Some(kind) => plain(kind, many),
        None => "anything".to_owned(),
    }
}

fn plain(kind: &str, many: bool) -> String {
    let word = match kind {
        "string" => "text",
        "integer" => "whole number",
        "number" => "number",
        "boolean" => "true or false",
        "array" => "list",
        "object" => "mapping",
        "null" => "nothing",
        other => other,
    };
    if many && kind != "boolean" { format!("{word}s") } else { word.to_owned() }
}

/// What a format is called, and an example of it.
pub fn format(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "hostname" => ("host name", "reg.example.com"),
        "idn-hostname" => ("host name", "bücher.example.com"),
        "ipv4" => ("IPv4 address", "192.0.2.10"),
        "ipv6" => ("IPv6 address", "2001:db8::10"),
        "email" | "idn-email" => ("email address", "admin@example.com"),
        "uri" => ("URL", "https://example.com/path"),
        "uri-reference" => ("URL or path", "/path"),
        "date" => ("date", "2026-01-31"),
        "time" => ("time", "13:30:00Z"),
        "date-time" => ("date and time", "2026-01-31T13:30:00Z"),
        "uuid" => ("UUID", "123e4567-e89b-12d3-a456-426614174000"),
        "regex" => ("regular expression", "^[a-z]+$"),
        "json-pointer" => ("JSON pointer", "/a/0"),
        "ip" => ("IP address", "192.0.2.10 or 2001:db8::10"),
        "cidr" => ("network", "192.0.2.0/24"),
        "port" => ("port", "8080"),
        "host-port" => ("host and port", "db.example.com:5432"),
        "duration" => ("duration", "30s, 5m, 2h or 1d"),
        _ => return None,
    })
}

/// What else the schema asks for, a sentence each.
pub fn limits(schema: &Value) -> Vec<String> {
    let mut limits = Vec::new();
    let mut add = |key: &str, words: &dyn Fn(String) -> String| {
        if !schema[key].is_null() {
            limits.push(words(shown(&schema[key])));
        }
    };
    add("minimum", &|n| format!("at least {n}"));
    add("exclusiveMinimum", &|n| format!("more than {n}"));
    add("maximum", &|n| format!("at most {n}"));
    add("exclusiveMaximum", &|n| format!("less than {n}"));
    add("multipleOf", &|n| format!("a multiple of {n}"));
    add("minLength", &|n| format!("at least {}", counted(&n, "character")));
    add("maxLength", &|n| format!("at most {}", counted(&n, "character")));
    add("pattern", &|pattern| format!("matches {pattern}"));
    add("minItems", &|n| format!("at least {}", counted(&n, "item")));
    add("maxItems", &|n| format!("at most {}", counted(&n, "item")));
    add("minProperties", &|n| format!("at least {}", counted_y(&n)));
    add("maxProperties", &|n| format!("at most {}", counted_y(&n)));
    if schema["uniqueItems"] == Value::Bool(true) {
        limits.push("no item twice".to_owned());
    }
    if let Some(names) = schema["required"].as_array() {
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        limits.push(format!("has {}", names.join(", ")));
    }
    if let (Some(known), Value::Bool(false)) = (schema["properties"].as_object(), &schema["additionalProperties"]) {
        limits.push(format!("nothing but {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")));
    }
    limits
}

fn counted(n: &str, thing: &str) -> String {
    if n == "1" { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

fn counted_y(n: &str) -> String {
    if n == "1" { "1 entry".to_owned() } else { format!("{n} entries") }
}

/// A value as people write it: texts without quotes.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains('\n') && text.trim() == text => text.clone(),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_in_words() {
        for (schema, words) in [
            (json!({}), "anything"),
            (json!({"type": "integer"}), "whole number"),
            (json!({"type": "string", "format": "hostname"}), "host name"),
            (json!({"type": "array", "items": {"type": "string", "format": "ipv4"}}), "list of IPv4 addresses"),
            (
                json!({"type": "object", "additionalProperties": {"type": "integer"}}),
                "mapping of names to whole numbers",
            ),
            (json!({"enum": ["a", 1]}), "one of a, 1"),
            (json!({"type": ["string", "null"]}), "text"),
        ] {
            assert_eq!(kind(&schema), words);
        }
        let schema = json!({"minLength": 1, "maximum": 5, "required": ["a", "b"]});
        assert_eq!(limits(&schema), ["at most 5", "at least 1 character", "has a, b"]);
    }
}
