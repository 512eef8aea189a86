//! The helpers templates may call, by the names people know. All are pure and
//! strict: an argument that doesn't exist or has no value is an error that
//! names it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, JsonTruthy, Output, PathAndJson, RenderContext, RenderError,
    RenderErrorReason, Renderable, ScopedJson,
};
use lockstep_shared::Sha256;
use serde_json::Value;

/// The helper that every `{{NAME}}` is turned into; not for people.
pub(super) const PRINT: &str = "lockstep-print";

/// What is said of a setting that has no value and has to have one here.
const UNSET: &str = "it is not set: set it, or write {{#if NAME}} or {{default NAME \"...\"}}";

/// The setting that an error of a helper asks for, if that is what is wrong.
pub fn unset(error: &str) -> Option<&str> {
    error.strip_suffix(UNSET)?.strip_suffix(": ")
}

/// Handlebars' own helpers that stay, since they are strict already.
const BUILT_IN: [&str; 13] =
    ["each", "with", "lookup", "raw", "eq", "ne", "gt", "gte", "lt", "lte", "not", "len", "partial-block"];

/// A helper from values to a value.
type Function = fn(&Arguments<'_, '_>) -> Result<Value, String>;

const FUNCTIONS: [(&str, Function); 26] = [
    (PRINT, print),
    ("json", |a| Ok(Value::String(canonical(a.any(0)?).to_string()))),
    ("quote", |a| Ok(Value::String(Value::String(text_of(a.any(0)?)?).to_string()))),
    ("yaml", |a| Ok(Value::String(yaml_block(a.any(0)?)))),
    ("join", join),
    ("indent", indent),
    ("default", default),
    ("and", |a| Ok(Value::Bool(a.all()?.iter().all(|value| value.is_truthy(false))))),
    ("or", |a| Ok(Value::Bool(a.all()?.iter().any(|value| value.is_truthy(false))))),
    ("upper", |a| Ok(Value::String(a.text(0)?.to_uppercase()))),
    ("lower", |a| Ok(Value::String(a.text(0)?.to_lowercase()))),
    ("trim", |a| Ok(Value::String(a.text(0)?.trim().to_owned()))),
    ("replace", |a| Ok(Value::String(a.text(0)?.replace(&a.text(1)?, &a.text(2)?)))),
    ("concat", concat),
    ("base64", |a| Ok(Value::String(STANDARD.encode(a.text(0)?)))),
    ("base64url", |a| Ok(Value::String(URL_SAFE_NO_PAD.encode(a.text(0)?)))),
    ("sha256", |a| Ok(Value::String(Sha256::of(a.text(0)?.as_bytes()).to_string()))),
    ("env_quote", env_quote),
    ("filter", filter),
    ("has", has),
    ("split", |a| Ok(a.text(0)?.split(a.text(1)?.as_str()).map(|part| Value::String(part.to_owned())).collect())),
    ("add", |a| whole(a, i128::checked_add)),
    ("subtract", |a| whole(a, i128::checked_sub)),
    ("multiply", |a| whole(a, i128::checked_mul)),
    ("divide", |a| {
        let rest = whole(a, i128::checked_rem)?;
        if rest == 0 {
            whole(a, i128::checked_div)
        } else {
            Err("leaves a rest: only whole numbers come out".to_owned())
        }
    }),
    ("keys", |a| match a.any(0)? {
        Value::Object(map) => Ok(map.keys().cloned().map(Value::String).collect()),
        other => Err(format!("wants a mapping, {} came", kind(other))),
    }),
];

/// Two whole numbers to one.
fn whole(a: &Arguments<'_, '_>, with: fn(i128, i128) -> Option<i128>) -> Result<Value, String> {
    let number = |index: usize| {
        let text = a.text(index)?;
        text.parse::<i128>().map_err(|_| format!("wants whole numbers, {text} came"))
    };
    let result = with(number(0)?, number(1)?).ok_or("has no result that is a whole number")?;
    serde_json::from_str(&result.to_string()).map_err(|error| error.to_string())
}

pub(super) fn register(registry: &mut Handlebars<'static>) {
    registry.unregister_helper("log");
    for (name, function) in FUNCTIONS {
        registry.register_helper(name, Box::new(Named { name, function }));
    }
    registry.register_helper("if", Box::new(Branch { name: "if", when: true }));
    registry.register_helper("unless", Box::new(Branch { name: "unless", when: false }));
}

/// Whether a template may call this.
pub fn is_known(name: &str) -> bool {
    matches!(name, "if" | "unless") || BUILT_IN.contains(&name) || FUNCTIONS.iter().any(|(known, _)| *known == name)
}

/// The names for "did you mean".
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let own = FUNCTIONS.iter().map(|(name, _)| *name).filter(|name| *name != PRINT);
    own.chain(BUILT_IN).chain(["if", "unless"])
}

struct Named {
    name: &'static str,
    function: Function,
}

impl HelperDef for Named {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let value = (self.function)(&Arguments { helper }).map_err(|why| match self.name {
            PRINT => other(why),
            name => other(format!("{{{{{name}}}}} {why}")),
        })?;
        Ok(ScopedJson::Derived(value))
    }
}

/// `if` and `unless`, which Handlebars lets pass with names that don't exist.
struct Branch {
    name: &'static str,
    when: bool,
}

impl HelperDef for Branch {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let condition = Arguments { helper }.any(0).map_err(|why| other(format!("{{{{#{}}}}} {why}", self.name)))?;
        let branch = if condition.is_truthy(false) == self.when { helper.template() } else { helper.inverse() };
        branch.map_or(Ok(()), |branch| branch.render(registry, context, render, out))
    }
}

fn other(why: String) -> RenderError {
    RenderErrorReason::Other(why).into()
}

struct Arguments<'h, 'rc> {
    helper: &'h Helper<'rc>,
}

impl<'h> Arguments<'h, '_> {
    /// An argument that exists; it may be null.
    fn any(&self, index: usize) -> Result<&'h Value, String> {
        exists(self.helper.param(index).ok_or_else(|| format!("wants {} argument(s)", index + 1))?)
    }

    fn all(&self) -> Result<Vec<&'h Value>, String> {
        self.helper.params().iter().map(exists).collect()
    }

    /// An argument as text.
    fn text(&self, index: usize) -> Result<String, String> {
        let value = self.any(index)?;
        text_of(value).map_err(|why| match self.name(index) {
            Some(name) => format!("{name}: {why}"),
            None => why,
        })
    }

    fn name(&self, index: usize) -> Option<&'h String> {
        self.helper.param(index).and_then(PathAndJson::relative_path)
    }
}

fn exists<'h>(argument: &'h PathAndJson<'_>) -> Result<&'h Value, String> {
    if !argument.is_value_missing() {
        return Ok(argument.value());
    }
    let name = argument.relative_path().map_or("an argument", String::as_str);
    Err(format!(
        "{name} does not exist here (inside {{{{#each}}}} and {{{{#with}}}}, outer names are ../NAME or @root.NAME)"
    ))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing (it is not set)",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null => Err(UNSET.to_owned()),
        list => Err(format!("it is {}: say how to print it, with json, yaml or join", kind(list))),
    }
}

fn print(a: &Arguments<'_, '_>) -> Result<Value, String> {
    let argument = a.helper.param(0).ok_or("nothing to print")?;
    let value = exists(argument)?;
    text_of(value).map(Value::String).map_err(|why| format!("{}: {why}", a.name(0).map_or("", String::as_str)))
}

/// A number whose spelling isn't JSON (`010`, `+1`, `.5`) in a form that is.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Number(number) if serde_json::from_str::<Value>(&number.to_string()).is_err() => {
            let number =
                number.as_i64().map(Into::into).or_else(|| number.as_f64().and_then(serde_json::Number::from_f64));
            number.map_or(Value::Null, Value::Number)
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), canonical(value))).collect(),
        other => other.clone(),
    }
}

fn join(a: &Arguments<'_, '_>) -> Result<Value, String> {
    let separator = if a.helper.param(1).is_some() { a.text(1)? } else { ",".to_owned() };
    match a.any(0)? {
        Value::Array(items) => {
            let items = items.iter().map(text_of).collect::<Result<Vec<_>, _>>()?;
            Ok(Value::String(items.join(&separator)))
        }
        other => Err(format!("wants a list, {} came", kind(other))),
    }
}

fn concat(a: &Arguments<'_, '_>) -> Result<Value, String> {
    (0..a.helper.params().len()).map(|index| a.text(index)).collect::<Result<String, _>>().map(Value::String)
}

/// `{{indent 4 TEXT}}`: every line after the first is indented, empty ones aren't.
fn indent(a: &Arguments<'_, '_>) -> Result<Value, String> {
    let width =
        a.any(0)?.as_u64().filter(|width| *width <= 200).ok_or("wants a number of spaces first: {{indent 4 TEXT}}")?;
    let pad = " ".repeat(usize::try_from(width).unwrap_or(0));
    let text = a.text(1)?;
    let mut out = String::with_capacity(text.len() + 64);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if index > 0 && !line.trim_end_matches(['\n', '\r']).is_empty() {
            out.push_str(&pad);
        }
        out.push_str(line);
    }
    Ok(Value::String(out))
}

fn default(a: &Arguments<'_, '_>) -> Result<Value, String> {
    let value = a.any(0)?;
    let unset = value.is_null() || value.as_str().is_some_and(str::is_empty);
    Ok(if unset { a.any(1)?.clone() } else { value.clone() })
}

/// A value for a compose `env_file` (and systemd's `EnvironmentFile`): bare
/// where that reads the same everywhere, single-quoted otherwise.
fn env_quote(a: &Arguments<'_, '_>) -> Result<Value, String> {
    let text = a.text(0)?;
    if text.contains(['\n', '\r', '\0']) {
        return Err("can't write a text of several lines into an env file".to_owned());
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    if text.chars().all(bare) {
        return Ok(Value::String(text));
    }
    if text.contains('\'') {
        return Err("can't write a text with ' in it: env files are read differently by every program".to_owned());
    }
    Ok(Value::String(format!("'{text}'")))
}

/// `{{#each (filter machines role="core")}}`: the items whose fields are equal.
fn filter(a: &Arguments<'_, '_>) -> Result<Value, String> {
    let Value::Array(items) = a.any(0)? else { return Err(format!("wants a list, {} came", kind(a.any(0)?))) };
    let mut wanted = Vec::new();
    for (field, value) in a.helper.hash() {
        wanted.push((*field, exists(value)?));
    }
    Ok(items
        .iter()
        .filter(|item| wanted.iter().all(|(field, value)| item.get(field) == Some(value)))
        .cloned()
        .collect())
}

/// `{{#if (has MAP "key")}}`: whether a mapping has a key or a list an item.
fn has(a: &Arguments<'_, '_>) -> Result<Value, String> {
    let wanted = a.any(1)?;
    Ok(Value::Bool(match a.any(0)? {
        Value::Object(map) => wanted.as_str().is_some_and(|key| map.contains_key(key)),
        Value::Array(items) => items.contains(wanted),
        Value::Null => false,
        other => return Err(format!("wants a mapping or a list, {} came", kind(other))),
    }))
}

/// Block YAML without a final newline: scalars as JSON, which YAML includes.
fn yaml_block(value: &Value) -> String {
    let mut out = String::new();
    write_yaml(&mut out, &canonical(value), 0);
    out
}

fn write_yaml(out: &mut String, value: &Value, depth: usize) {
    let nested = |value: &Value| {
        matches!(value, Value::Array(items) if !items.is_empty())
            || matches!(value, Value::Object(map) if !map.is_empty())
    };
    let pad = "  ".repeat(depth);
    match value {
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push('\n');
                    out.push_str(&pad);
                }
                out.push_str("- ");
                write_yaml(out, item, depth + 1);
            }
        }
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push('\n');
                    out.push_str(&pad);
                }
                out.push_str(&yaml_scalar(key));
                out.push(':');
                if nested(item) {
                    out.push('\n');
                    out.push_str(&"  ".repeat(depth + 1));
                    write_yaml(out, item, depth + 1);
                } else {
                    out.push(' ');
                    write_yaml(out, item, depth + 1);
                }
            }
        }
        Value::String(text) => out.push_str(&yaml_scalar(text)),
        other => out.push_str(&other.to_string()),
    }
}

/// Plain where no reader could take it for anything else, quoted otherwise.
fn yaml_scalar(text: &str) -> String {
    let first = text.chars().next();
    let plain = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str) -> Result<String, String> {
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(handlebars::no_escape);
        register(&mut registry);
        let data = json!({"T": "a \"b\"", "L": ["x", 1], "M": {"k": {"a": [1, {"b": "yes"}]}, "e": {}}, "N": null, "B": true, "ML": "a\n\nb",
            "ms": [{"name": "a", "role": "core"}, {"name": "b", "role": "dns"}]});
        registry.render_template(template, &data).map_err(|error| error.reason().to_string())
    }

    #[test]
    fn every_helper() {
        for (template, wanted) in [
            ("{{json M}}", r#"{"k":{"a":[1,{"b":"yes"}]},"e":{}}"#),
            ("{{quote T}}", r#""a \"b\"""#),
            ("{{yaml M}}", "k:\n  a:\n    - 1\n    - b: \"yes\"\ne: {}"),
            ("{{join L \", \"}}", "x, 1"),
            ("{{indent 2 ML}}", "a\n\n  b"),
            ("{{default N \"x\"}}{{default T \"y\"}}", "xa \"b\""),
            ("{{upper \"aé\"}}{{lower \"AB\"}}{{trim \" a \"}}", "AÉaba"),
            ("{{replace T \"b\" \"c\"}}", "a \"c\""),
            ("{{concat \"a\" 1 B}}", "a1true"),
            ("{{base64 \"a?\"}} {{base64url \"a?\"}}", "YT8= YT8"),
            ("{{sha256 \"\"}}", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("{{env_quote \"a.b\"}} {{env_quote T}}", "a.b 'a \"b\"'"),
            ("{{#each (filter ms role=\"core\")}}{{name}}{{/each}}", "a"),
            ("{{#if (has M \"k\")}}1{{/if}}{{#if (has L \"z\")}}2{{/if}}", "1"),
            ("{{#if (and T N)}}1{{else}}2{{/if}}{{#if (or T N)}}3{{/if}}{{#unless N}}4{{/unless}}", "234"),
            ("{{join (split \"a-b\" \"-\") \"+\"}}{{join (keys M) \"\"}}", "a+bke"),
            ("{{#if (eq L.[1] 1)}}=={{/if}}", "=="),
        ] {
            assert_eq!(render(template).as_deref(), Ok(wanted), "{template}");
        }
    }

    #[test]
    fn nothing_renders_blank() {
        for template in [
            "{{json X}}",
            "{{#if X}}{{/if}}",
            "{{#unless M.x}}{{/unless}}",
            "{{#if (and T X)}}{{/if}}",
            "{{default X 1}}",
            "{{upper N}}",
            "{{concat T N}}",
            "{{join T}}",
            "{{upper L}}",
            "{{lookup M \"nope\"}}",
            "{{#each X}}{{/each}}",
            "{{#with X}}{{/with}}",
            "{{nope T}}",
            "{{eq X 1}}",
            "{{filter ms role=X}}",
        ] {
            assert!(render(template).is_err(), "{template}: {:?}", render(template));
        }
        assert!(render("{{#if X}}{{/if}}").unwrap_err().contains("X does not exist"));
    }
}
