//! Settings as they are now: values, and where they come from.

use super::Look;
use crate::fault::Fault;
use crate::platform::schema::Setting;
use crate::platform::wording;
use crate::yaml::{Kind, Node};
use lockstep_shared::Sha256;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A setting as it is now. A secret's value never stands here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingState {
    /// Its name.
    pub name: String,
    /// The title of its group.
    pub group: String,
    /// A few words.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// What its value has to be, in words.
    pub kind: String,
    /// What else its value has to be, a sentence each.
    pub limits: Vec<String>,
    /// Its JSON Schema.
    pub schema: Value,
    /// The release's value.
    pub default: Option<Value>,
    /// May be left unset.
    pub optional: bool,
    /// May differ from machine to machine.
    pub overridable: bool,
    /// Whether it is a secret.
    pub secret: bool,
    /// The value that holds, references followed; `null` where there is none.
    pub value: Option<Value>,
    /// The value as it is written, references as typed.
    pub written: Option<Value>,
    /// Where the value comes from.
    pub source: ValueSource,
    /// The line in that file.
    pub line: Option<usize>,
    /// Machines whose value differs.
    pub overrides: Vec<MachineValue>,
    /// What stands in `platform.yml` for it: for `If-Match`.
    pub etag: String,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueSource {
    /// The release.
    Default,
    /// `settings:` of `platform.yml`.
    Platform,
    /// `machines:` of `platform.yml`.
    Machine,
    /// Nowhere.
    Unset,
    /// A secret: made by the leader, or given to it.
    Secret,
}

/// One machine's value of a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MachineValue {
    /// The machine.
    pub machine: String,
    /// The value that holds there.
    pub value: Option<Value>,
    /// Where it comes from.
    pub source: ValueSource,
    /// The line in that file.
    pub line: Option<usize>,
}

/// The settings that are wanted, as a machine or the platform sees them.
pub(super) fn states(look: &Look, machine: Option<&str>, wanted: impl Fn(&str) -> bool) -> Vec<SettingState> {
    let (values, faults) = look.platform.resolve(&look.settings, machine.unwrap_or_default());
    let wanted = look.settings.by_name.iter().filter(|(name, _)| wanted(name));
    let state = |(name, setting): (&String, &Setting)| {
        let own = machine.and_then(|machine| look.platform.written(name, Some(machine)));
        let platform = look.platform.written(name, None);
        let (source, node, line) = match (own, platform, &setting.default) {
            _ if setting.secret.is_some() => (ValueSource::Secret, None, None),
            (Some(given), ..) => (ValueSource::Machine, Some(&given.value), Some(given.at.0)),
            (None, Some(given), _) => (ValueSource::Platform, Some(&given.value), Some(given.at.0)),
            (None, None, Some(node)) => (ValueSource::Default, Some(node), Some(node.at.0)),
            (None, None, None) => (ValueSource::Unset, None, None),
        };
        let tagged = if machine.is_some() { own } else { platform };
        let overrides = look.platform.overriders(name).map(|(machine, given)| MachineValue {
            machine: machine.to_owned(),
            value: Some(given.value.to_json()),
            source: ValueSource::Machine,
            line: Some(given.at.0),
        });
        let about = |fault: &&Fault| fault.setting.as_deref() == Some(name.as_str());
        SettingState {
            name: name.clone(),
            group: setting.group.clone(),
            title: setting.title.clone(),
            description: setting.description.clone(),
            kind: wording::kind(&setting.schema),
            limits: wording::limits(&setting.schema),
            schema: setting.schema.clone(),
            default: setting.default.as_ref().map(Node::to_json),
            optional: setting.optional,
            overridable: setting.overridable,
            secret: setting.secret.is_some(),
            value: values.get(name).filter(|value| !value.is_null()).cloned(),
            written: node.map(Node::to_json),
            source,
            line,
            overrides: overrides.collect(),
            etag: etag(tagged.map(|given| &given.value)),
            faults: look.faults.iter().chain(&faults).filter(about).cloned().collect(),
        }
    };
    wanted.map(state).collect()
}

/// A tag for what is written: equal exactly where value and spelling are.
pub(super) fn etag(node: Option<&Node>) -> String {
    fn spelt(node: &Node, out: &mut String) {
        match &node.kind {
            Kind::Scalar { text, plain } => out.push_str(&format!("{}{}:{text}", u8::from(*plain), text.len())),
            Kind::List(items) => {
                out.push_str(&format!("[{}", items.len()));
                for item in items {
                    spelt(item, out);
                }
            }
            Kind::Map(entries) => {
                out.push_str(&format!("{{{}", entries.len()));
                for (key, value) in entries {
                    out.push_str(&format!("{}:{}", key.text.len(), key.text));
                    spelt(value, out);
                }
            }
        }
    }
    let mut text = String::new();
    match node {
        Some(node) => spelt(node, &mut text),
        None => return "\"unset\"".to_owned(),
    }
    format!("\"{}\"", &Sha256::of(text.as_bytes()).to_string()[..16])
}
