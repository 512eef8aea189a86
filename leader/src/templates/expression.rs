//! An expression in the templates' language by itself: for migrations. It sees
//! nothing but the names it is given, calls the same pure helpers, takes in no
//! partial, and its output is bounded: it always ends.

use super::analyse::Analysis;
use super::helpers;
use crate::fault::Fault;
use handlebars::{Handlebars, Template};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{self, Write};

/// The most bytes that an expression may give.
const MOST: usize = 1024 * 1024;

/// A compiled expression.
pub struct Expression {
    registry: Handlebars<'static>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Expression")
    }
}

impl Expression {
    /// Compiles a text that stands in a file at a place; `names` are what it may name.
    pub fn compile(file: &str, at: (usize, usize), text: &str, names: &[&str]) -> Result<Self, Fault> {
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(handlebars::no_escape);
        helpers::register(&mut registry);
        let mut template = Template::compile_with_name(text, file.to_owned()).map_err(|error| {
            Fault::new(file, format!("not an expression: {}", super::syntax(&error.reason().to_string()))).at(at)
        })?;
        let known: BTreeSet<&str> = names.iter().copied().collect();
        let mut analysis = Analysis::new(&known);
        analysis.template(file, file, &mut template);
        let (_, faults) = analysis.finish();
        if let Some(fault) = faults.into_iter().next() {
            let what = fault.what.replace(" (settings are described in templates/settings.yml)", "");
            return Err(Fault::new(file, format!("{what}; it may name {}", names.join(", "))).at(at));
        }
        registry.register_template("expression", template);
        Ok(Self { registry })
    }

    /// What it gives for these values; the error says why it gives nothing.
    pub fn evaluate(&self, values: &Value) -> Result<String, String> {
        let mut out = Bounded(Vec::new());
        self.registry.render_to_write("expression", values, &mut out).map_err(|error| match error.reason() {
            handlebars::RenderErrorReason::NestedError(inner) => inner.to_string(),
            handlebars::RenderErrorReason::MissingVariable(None) => "a value that it names does not exist".to_owned(),
            reason => reason.to_string(),
        })?;
        String::from_utf8(out.0).map_err(|error| error.to_string())
    }
}

struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST {
            return Err(io::Error::other("it gives more than 1 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn gives(text: &str, value: &Value) -> Result<String, String> {
        let expression = Expression::compile("m.yml", (1, 1), text, &["value"]).map_err(|fault| fault.what)?;
        expression.evaluate(&json!({"value": value}))
    }

    #[test]
    fn expressions_are_strict_and_bounded() {
        assert_eq!(gives("{{concat value \"s\"}}", &json!(30)).unwrap(), "30s");
        assert_eq!(gives("{{json (split value \",\")}}", &json!("a,b")).unwrap(), r#"["a","b"]"#);
        assert_eq!(gives("{{multiply value 1000}}", &json!(30)).unwrap(), "30000");
        assert_eq!(gives("{{divide (add value 1) 2}}", &json!(3)).unwrap(), "2");
        assert_eq!(gives("{{#if (eq value true)}}on{{else}}off{{/if}}", &json!(true)).unwrap(), "on");
        assert!(gives("{{value}}", &json!([1])).unwrap_err().contains("list"));
        assert!(gives("{{other}}", &json!(1)).unwrap_err().contains("it may name value"));
        assert!(gives("{{> x}}", &json!(1)).unwrap_err().contains("partial"));
        assert!(gives("{{#if}}", &json!(1)).is_err());
        assert!(gives("{{divide value 2}}", &json!(3)).unwrap_err().contains("rest"));
        let many = json!(vec![0; 300]);
        let deep = "{{#each value}}{{#each @root.value}}{{#each @root.value}}x{{/each}}{{/each}}{{/each}}";
        assert!(gives(deep, &many).unwrap_err().contains("1 MiB"), "bounded");
    }
}
