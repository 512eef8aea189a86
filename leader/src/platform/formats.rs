//! The formats that a schema may ask for beside JSON Schema's own, and what is
//! said of a value that doesn't fit.

use super::wording::{self, shown};
use crate::fault::nearest;
use crate::yaml::resolve;
use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, ValidationOptions, Validator};
use serde_json::Value;
use std::net::IpAddr;

/// The most characters of a value that an error repeats.
const MOST: usize = 60;

/// Formats of ours: `duration` (`90s`, `1h30m`, or ISO 8601's `PT90S`),
/// `port`, `host-port`, `ip`, `cidr`. Those of JSON Schema 2020-12 count too;
/// any other name is an error in the schema.
pub fn validator(schema: &Value) -> Result<Validator, String> {
    known_words(schema)?;
    let options: ValidationOptions = jsonschema::options();
    options
        .should_validate_formats(true)
        .with_format("duration", is_duration)
        .with_format("port", is_port)
        .with_format("host-port", is_host_port)
        .with_format("ip", |text: &str| text.parse::<IpAddr>().is_ok())
        .with_format("cidr", is_cidr)
        .build(schema)
        .map_err(|error| error.to_string())
}

/// Every name of a format that this file or JSON Schema knows.
const NAMES: [&str; 23] = [
    "hostname",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "email",
    "idn-email",
    "uri",
    "uri-reference",
    "iri",
    "iri-reference",
    "uri-template",
    "uuid",
    "date",
    "time",
    "date-time",
    "duration",
    "regex",
    "json-pointer",
    "port",
    "host-port",
    "ip",
    "cidr",
    "relative-json-pointer",
];

const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

/// The keywords of JSON Schema 2020-12 that a fragment may have.
const KEYWORDS: [&str; 46] = [
    "type",
    "enum",
    "const",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "items",
    "prefixItems",
    "contains",
    "minContains",
    "maxContains",
    "minItems",
    "maxItems",
    "uniqueItems",
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "required",
    "minProperties",
    "maxProperties",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
];

/// Words of earlier drafts and of `OpenAPI` that are near to one of these and none of them.
const OTHERS: [&str; 3] = ["example", "dependencies", "definitions"];

/// Keywords whose value has names of its own, each with a schema.
const BY_NAME: [&str; 4] = ["properties", "patternProperties", "dependentSchemas", "$defs"];

/// Whether every `type` and `format` is one that exists, and no keyword is a
/// slip of another: JSON Schema ignores what it doesn't know, so that a
/// `minimun` would check nothing. Other unknown keywords are allowed.
fn known_words(schema: &Value) -> Result<(), String> {
    match schema {
        Value::Object(entries) => {
            if let Some(Value::String(format)) = entries.get("format")
                && !NAMES.contains(&format.as_str())
            {
                return Err(format!("unknown format {format}{}; known: {}", nearest(format, NAMES), NAMES.join(", ")));
            }
            let types = match entries.get("type") {
                Some(Value::Array(several)) => several.iter().collect(),
                one => one.into_iter().collect::<Vec<_>>(),
            };
            let odd = types.iter().filter_map(|kind| kind.as_str()).find(|kind| !TYPES.contains(kind));
            if let Some(odd) = odd {
                return Err(format!("unknown type {odd}{}; known: {}", nearest(odd, TYPES), TYPES.join(", ")));
            }
            if let Some((slip, meant)) = entries.keys().find_map(|key| Some((key, slip_of(key)?))) {
                return Err(format!("unknown keyword {slip}; did you mean {meant}?"));
            }
            entries.iter().try_for_each(|(key, value)| match (key.as_str(), value) {
                // What is listed as a value is no schema.
                ("enum" | "const" | "default" | "examples" | "required" | "dependentRequired", _) => Ok(()),
                (key, Value::Object(named)) if BY_NAME.contains(&key) => named.values().try_for_each(known_words),
                (_, inner) => known_words(inner),
            })
        }
        Value::Array(items) => items.iter().try_for_each(known_words),
        _ => Ok(()),
    }
}

/// The keyword that was meant by one that isn't known and is a letter or two away.
/// Another word is a remark of somebody's own, and theirs to make.
fn slip_of(key: &str) -> Option<&'static str> {
    if KEYWORDS.contains(&key) || OTHERS.contains(&key) {
        return None;
    }
    let far = if key.len() > 5 { 2 } else { 1 };
    let away = |known: &str| strsim::damerau_levenshtein(&key.to_lowercase(), &known.to_lowercase());
    KEYWORDS.into_iter().filter(|known| known.len() > 3 && away(known) <= far).min_by_key(|known| away(known))
}

fn is_duration(text: &str) -> bool {
    let mut rest = text;
    if let Some(iso) = text.strip_prefix('P') {
        return iso.len() > 1
            && !iso.ends_with('T')
            && iso.bytes().all(|b| b.is_ascii_digit() || b"YMWDTHS".contains(&b))
            && iso.ends_with(|c: char| c.is_ascii_uppercase())
            && iso.starts_with(|c: char| c.is_ascii_digit() || c == 'T');
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        if digits == 0 || digits > 15 || !["ms", "s", "m", "h", "d", "w"].contains(&&rest[digits..digits + unit]) {
            return false;
        }
        rest = &rest[digits + unit..];
    }
    !text.is_empty()
}

fn is_port(text: &str) -> bool {
    !text.starts_with(['+', '0']) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let good = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.len() <= 253 && host.split('.').all(label),
    };
    good && is_port(port)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    !bits.starts_with('+') && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

/// What is wrong with a value, what would be right, and an example. `masked`:
/// without the value.
pub fn misfit(error: &ValidationError<'_>, schema: &Value, masked: bool) -> String {
    let value = error.instance();
    let found = if masked { "the value".to_owned() } else { quoted(value) };
    let own = own_schema(error, schema);
    let wanted = wording::kind(own);
    match error.kind() {
        Kind::Type { .. } => {
            let hint = if masked { String::new() } else { hint(own, value) };
            format!("{found} is not {}{}", article(&wanted), if hint.is_empty() { example(own) } else { hint })
        }
        Kind::Format { format } => {
            let (name, example) = wording::format(format).unwrap_or((format, ""));
            let like = if example.is_empty() { String::new() } else { format!("; write it like {example}") };
            format!("{found} is not {}{like}", article(name))
        }
        Kind::Enum { options } => {
            let known: Vec<String> = options.as_array().into_iter().flatten().map(shown).collect();
            let near = value.as_str().filter(|_| !masked).map(|text| nearest(text, known.iter().map(String::as_str)));
            format!("{found} is not one of {}{}", known.join(", "), near.unwrap_or_default())
        }
        Kind::Constant { expected_value } => format!("{found} has to be {}", shown(expected_value)),
        Kind::Minimum { limit } => format!("{found} is too small: it has to be at least {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("{found} is too small: it has to be more than {limit}"),
        Kind::Maximum { limit } => format!("{found} is too large: it has to be at most {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("{found} is too large: it has to be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("{found} is not a multiple of {multiple_of}"),
        Kind::MinLength { limit } if value.as_str() == Some("") => {
            format!("it is empty: write at least {}", count(*limit, "character", "characters"))
        }
        Kind::MinLength { limit } => {
            format!("{found} is too short: write at least {}", count(*limit, "character", "characters"))
        }
        Kind::MaxLength { limit } => {
            let length = value.as_str().map_or(0, |text| text.chars().count());
            format!("the text has {length} characters: write at most {limit}")
        }
        Kind::Pattern { pattern } => format!("{found} does not match the pattern {pattern}{}", example(own)),
        Kind::MinItems { limit } => {
            let length = value.as_array().map_or(0, Vec::len);
            format!("the list has {}: write at least {limit}", count(length as u64, "item", "items"))
        }
        Kind::MaxItems { limit } => {
            let length = value.as_array().map_or(0, Vec::len);
            format!("the list has {}: write at most {limit}", count(length as u64, "item", "items"))
        }
        Kind::MinProperties { limit } => {
            let length = value.as_object().map_or(0, serde_json::Map::len);
            format!("the mapping has {}: write at least {limit}", count(length as u64, "entry", "entries"))
        }
        Kind::MaxProperties { limit } => {
            let length = value.as_object().map_or(0, serde_json::Map::len);
            format!("the mapping has {}: write at most {limit}", count(length as u64, "entry", "entries"))
        }
        Kind::UniqueItems => "an item stands twice in the list: remove one".to_owned(),
        Kind::Required { property } => format!("{} is missing: add it", shown(property)),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let known = own["properties"].as_object();
            let names: Vec<&str> = known.into_iter().flat_map(serde_json::Map::keys).map(String::as_str).collect();
            let near = unexpected.first().map(|first| nearest(first, names.iter().copied())).unwrap_or_default();
            let known = if names.is_empty() { String::new() } else { format!("; known: {}", names.join(", ")) };
            format!("unknown key {}{near}{known}", unexpected.join(", "))
        }
        Kind::PropertyNames { error } => {
            let names = &own["propertyNames"];
            format!("the name {}: {}", quoted(error.instance()), misfit(error, names, masked))
        }
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => format!("{found} is not {}", article(&wanted)),
        Kind::Not { schema } => format!("{found} is excluded here (not {})", wording::kind(schema)),
        Kind::FalseSchema => "nothing may stand here: remove it".to_owned(),
        _ if masked => error.masked().to_string(),
        _ => error.to_string(),
    }
}

/// The part of the schema that the error comes from.
fn own_schema<'s>(error: &ValidationError<'_>, schema: &'s Value) -> &'s Value {
    let path = error.schema_path().to_string();
    path.rsplit_once('/').and_then(|(above, _)| schema.pointer(above)).unwrap_or(schema)
}

/// A value as an error repeats it.
fn quoted(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= MOST { text } else { format!("{}…", text.chars().take(MOST).collect::<String>()) }
}

fn article(wanted: &str) -> String {
    let bare = ["one of", "true or false", "text", "anything", "nothing"];
    if bare.iter().any(|word| wanted.starts_with(word)) {
        return wanted.to_owned();
    }
    let an = wanted.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']);
    format!("{} {wanted}", if an { "an" } else { "a" })
}

fn example(schema: &Value) -> String {
    let first = schema["examples"].as_array().and_then(|examples| examples.first());
    first.map(|example| format!("; for example {}", shown(example))).unwrap_or_default()
}

fn count(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

fn hint(schema: &Value, value: &Value) -> String {
    match (schema["type"].as_str().unwrap_or_default(), value) {
        ("integer" | "number", Value::String(text)) if resolve(text).is_number() => {
            format!("; write {text} without quotes")
        }
        ("integer", Value::Number(_)) => "; write it without a fraction".to_owned(),
        ("boolean", _) => "; write true or false, without quotes".to_owned(),
        ("string", Value::Number(_) | Value::Bool(_)) => format!("; write \"{value}\" in quotes"),
        ("array", Value::String(_) | Value::Number(_)) => "; write it as a list, one '- item' a line".to_owned(),
        ("object", Value::String(_) | Value::Number(_) | Value::Array(_)) => {
            "; write it as a mapping, one 'name: value' a line".to_owned()
        }
        (_, Value::Null) => "; give it a value, or remove it".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formats() {
        for (check, good, bad) in [
            (is_duration as fn(&str) -> bool, ["30s", "1h30m", "PT15M"], ["", "30", "5 m"]),
            (is_port, ["1", "8080", "65535"], ["0", "65536", "+1"]),
            (is_host_port, ["a.example.com:80", "[::1]:443", "192.0.2.1:1"], ["a", "a b:1", "a:x"]),
            (is_cidr, ["192.0.2.0/24", "::/0", "10.0.0.0/8"], ["192.0.2.0", "192.0.2.0/33", "x/8"]),
        ] {
            assert!(good.iter().all(|text| check(text)) && !bad.iter().any(|text| check(text)), "{good:?} {bad:?}");
        }
        assert!(validator(&json!({"items": {"format": "prt"}})).unwrap_err().contains("did you mean port?"));
        assert!(validator(&json!({"enum": [{"format": "x"}]})).is_ok());
    }

    #[test]
    fn a_slip_in_a_keyword_would_check_nothing() {
        for (slip, meant) in [("minimun", "minimum"), ("maxlength", "maxLength"), ("typ", "type"), ("item", "items")] {
            let told = validator(&json!({"items": {slip: 1}})).unwrap_err();
            assert!(told.contains(&format!("unknown keyword {slip}; did you mean {meant}?")), "{told}");
        }
        // Names that are no keywords, and remarks.
        for good in [
            json!({"properties": {"minimun": {}, "typ": {"type": "string"}}, "required": ["typ"]}),
            json!({"note": "x", "x-order": 1, "$comment": "x", "$defs": {"item": {}}}),
        ] {
            assert!(validator(&good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_misfit_says_what_would_be_right() {
        let told: Vec<String> = [
            (json!({"type": "integer"}), json!("big")),
            (json!({"type": "integer"}), json!(1.5)),
            (json!({"type": "integer", "examples": [20]}), json!([])),
            (json!({"type": "boolean"}), json!("yes")),
            (json!({"type": "string"}), json!(5)),
            (json!({"type": "array", "items": {"type": "string"}}), json!("x")),
            (json!({"format": "hostname"}), json!("not a host")),
            (json!({"type": "string", "format": "duration"}), json!("5")),
            (json!({"format": "host-port"}), json!("db")),
            (json!({"format": "email"}), json!("x")),
            (json!({"format": "uri"}), json!("x")),
            (json!({"enum": ["debug", "info", 1]}), json!("inf")),
            (json!({"const": 1}), json!(2)),
            (json!({"minimum": 1}), json!(0)),
            (json!({"exclusiveMaximum": 1}), json!(1)),
            (json!({"multipleOf": 5}), json!(7)),
            (json!({"minLength": 1}), json!("")),
            (json!({"maxLength": 2}), json!("abc")),
            (json!({"pattern": "^[a-z]+$", "examples": ["abc"]}), json!("A")),
            (json!({"minItems": 1}), json!([])),
            (json!({"uniqueItems": true}), json!([1, 1])),
            (json!({"required": ["cpu"]}), json!({})),
            (json!({"properties": {"cpu": {}}, "additionalProperties": false}), json!({"cpus": 1})),
            (json!({"propertyNames": {"pattern": "^[a-z]+$"}}), json!({"A": 1})),
            (json!({"additionalProperties": {"type": "integer"}}), json!({"a": "x"})),
            (json!({"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "integer"}]}), json!(true)),
        ]
        .iter()
        .map(|(schema, value)| {
            let validator = validator(schema).unwrap();
            validator.iter_errors(value).map(|error| misfit(&error, schema, false)).collect::<Vec<_>>().join(" / ")
        })
        .collect();
        insta::assert_snapshot!(told.join("\n"));
        let schema = json!({"type": "string", "minLength": 99});
        let error = validator(&schema).unwrap();
        let value = json!("canary");
        let masked = error.iter_errors(&value).map(|error| misfit(&error, &schema, true)).collect::<String>();
        assert!(!masked.contains("canary"), "{masked}");
    }
}
