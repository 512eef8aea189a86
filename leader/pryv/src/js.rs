//! Values as the original's language, JavaScript, has and prints them
//! (ECMA-262: `Number::toString`, `JSON.stringify`, the order of an object's
//! properties).

use lockstep_leader::yaml::{Kind, Node};
use serde_json::Value;

use crate::plain;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Js {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number: whole ones past 2^53 are rounded.
    Number(f64),
    /// A text.
    Text(String),
    /// What js-yaml makes of a plain date, as `toISOString` prints it.
    Date(String),
    /// An array.
    List(Vec<Js>),
    /// An object; its properties in JavaScript's order.
    Map(Vec<(String, Js)>),
}

impl Js {
    /// An object of these: the last of two equal names wins, whole numbers come first.
    pub fn map(entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        let mut properties: Vec<(String, Self)> = Vec::new();
        for (name, value) in entries {
            match properties.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => properties.push((name, value)),
            }
        }
        properties.sort_by_key(|(name, _)| index(name).map_or(u64::MAX, u64::from));
        Self::Map(properties)
    }

    /// A property of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(properties) = self else { return None };
        properties.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The properties of an object.
    pub fn entries(&self) -> Option<&[(String, Self)]> {
        if let Self::Map(properties) = self { Some(properties) } else { None }
    }

    /// A text's text.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// How many lists and objects are within each other.
    pub fn depth(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Map(properties) => 1 + properties.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// What stands in a file for it: a text as it is, all else as compact JSON.
    pub fn printed(&self) -> String {
        self.text().map_or_else(|| self.json(), str::to_owned)
    }

    /// `JSON.stringify`.
    pub fn json(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(bool) => bool.to_string(),
            Self::Number(number) => printed_number(*number),
            Self::Text(text) | Self::Date(text) => quoted(text),
            Self::List(items) => format!("[{}]", items.iter().map(Self::json).collect::<Vec<_>>().join(",")),
            Self::Map(properties) => {
                let properties = properties.iter().map(|(name, value)| format!("{}:{}", quoted(name), value.json()));
                format!("{{{}}}", properties.collect::<Vec<_>>().join(","))
            }
        }
    }

    /// From JSON, as `JSON.parse` reads it.
    pub fn of_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(bool) => Self::Bool(*bool),
            Value::Number(number) => Self::Number(number.to_string().parse().unwrap_or(f64::NAN)),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::of_json).collect()),
            Value::Object(map) => Self::map(map.iter().map(|(name, value)| (name.clone(), Self::of_json(value)))),
        }
    }

    /// From YAML, as js-yaml 3 reads it.
    pub fn of_yaml(node: &Node) -> Self {
        match &node.kind {
            Kind::Scalar { text, plain: true } => plain::value(text),
            Kind::Scalar { text, .. } => Self::Text(text.clone()),
            Kind::List(items) => Self::List(items.iter().map(Self::of_yaml).collect()),
            Kind::Map(entries) => {
                let mut properties: Vec<(String, Self)> = Vec::new();
                for (key, value) in entries {
                    match (key.text.as_str(), Self::of_yaml(value)) {
                        ("<<", Self::Map(more)) => merge(&mut properties, more),
                        ("<<", Self::List(several)) => {
                            for one in several {
                                if let Self::Map(more) = one {
                                    merge(&mut properties, more);
                                }
                            }
                        }
                        (name, value) => properties.push((name.to_owned(), value)),
                    }
                }
                Self::map(properties)
            }
        }
    }
}

/// YAML 1.1's merge key: what is not there yet is taken in, where the key stands.
fn merge(properties: &mut Vec<(String, Js)>, more: Vec<(String, Js)>) {
    for (name, value) in more {
        if !properties.iter().any(|(known, _)| *known == name) {
            properties.push((name, value));
        }
    }
}

/// A property's name that counts as an array index, and comes first therefore.
fn index(name: &str) -> Option<u32> {
    let number: u32 = name.parse().ok()?;
    (number != u32::MAX && number.to_string() == name).then_some(number)
}

/// A text in JSON's quotes: JavaScript and serde escape the same characters in the same way.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// `Number::toString` in base 10; JSON has no word for what is not finite.
fn printed_number(number: f64) -> String {
    if !number.is_finite() {
        return "null".to_owned();
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    let shortest = format!("{:e}", number.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let count = i32::try_from(digits.len()).unwrap_or(0);
    let zeros = |many: i32| "0".repeat(usize::try_from(many).unwrap_or(0));
    let text = if (count..=21).contains(&point) {
        digits + &zeros(point - count)
    } else if (1..=21).contains(&point) {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{whole}.{fraction}")
    } else if (-5..=0).contains(&point) {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let sign = if point > 0 { "+" } else { "-" };
        format!("{first}{dot}{rest}e{sign}{}", (point - 1).abs())
    };
    if number < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_javascript_prints_them() {
        for (number, text) in [
            (1.5, "1.5"),
            (-0.0, "0"),
            (20.0, "20"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e21, "1e+21"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e-7, "1e-7"),
            (1.25e-7, "1.25e-7"),
            (0.000_001, "0.000001"),
            (-1.5e300, "-1.5e+300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(printed_number(number), text);
        }
    }

    #[test]
    fn whole_numbers_come_first_in_an_object() {
        let text = r#"{"b":1,"10":2,"2":3,"a":null,"01":4,"b":5}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(Js::of_json(&value).json(), r#"{"2":3,"10":2,"b":5,"a":null,"01":4}"#);
    }
}
