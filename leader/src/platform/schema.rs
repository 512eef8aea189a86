//! `templates/settings.yml`: every setting of a release, with its JSON Schema.

use super::formats;
use super::references::{Piece, pieces};
use crate::fault::{Fault, nearest};
use crate::yaml::{self, Node};
use indexmap::IndexMap;
use serde_json::Value;

/// The file, as faults name it.
pub const FILE: &str = "templates/settings.yml";

/// What a release knows.
#[derive(Debug, Default)]
pub struct Settings {
    /// The release's version.
    pub release: String,
    /// The settings by name, in the order they were written.
    pub by_name: IndexMap<String, Setting>,
    /// Names described as secrets, also where the description is wrong.
    secrets: std::collections::BTreeSet<String>,
}

impl Settings {
    /// Whether a value under this name is not to be shown: a secret's, or one
    /// whose name is most likely a misspelt secret's. Without any setting
    /// known, every value.
    pub fn hides(&self, name: &str) -> bool {
        if self.secrets.contains(name) {
            return true;
        }
        if self.by_name.contains_key(name) {
            return false;
        }
        (self.by_name.is_empty() && self.secrets.is_empty())
            || !nearest(name, self.secrets.iter().map(String::as_str)).is_empty()
    }
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// A few words.
    pub title: String,
    /// What it is for, in sentences.
    pub description: String,
    /// The title of its group.
    pub group: String,
    /// Its JSON Schema, as written.
    pub schema: Value,
    /// The same, ready to check a value.
    pub validator: jsonschema::Validator,
    /// Its value when the platform gives none.
    pub default: Option<Node>,
    /// May be left unset without a default.
    pub optional: bool,
    /// May differ from machine to machine.
    pub overridable: bool,
    /// What `init-platform` proposes where there is no default.
    pub propose: Option<Proposal>,
    /// Set for secrets.
    pub secret: Option<Secret>,
    /// Set for certificates.
    pub certificate: Option<Pairing>,
    /// Where it stands in `settings.yml`.
    pub at: (usize, usize),
}

/// A certificate's relation to its key and to the names it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairing {
    /// The secret that holds its private key.
    pub key: String,
    /// The names that it has to cover, with `${NAME}` for settings' values.
    pub covers: Vec<String>,
    /// Where it stands in `settings.yml`.
    pub at: (usize, usize),
}

/// A value that is known on the machine where a platform is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proposal {
    /// An address of that machine.
    Address,
    /// Whether a proxy with TLS stands before the leader, instead of TLS of its own.
    BehindProxy,
}

/// How a secret comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Made once from the system's randomness; `None`: given by a person.
    pub generate: Option<Generate>,
    /// Who shares one value.
    pub scope: Scope,
}

/// The random bytes of a secret and how they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generate {
    /// How many, 8 to 1024.
    pub bytes: usize,
    /// As what text.
    pub encoding: Encoding,
}

/// How random bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 4648 section 5 without padding.
    Base64Url,
    /// RFC 4648 section 4.
    Base64,
    /// Lowercase hexadecimal.
    Hex,
}

/// Who shares one value of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole platform.
    Platform,
    /// The machines of one role.
    Role,
    /// Nobody.
    Machine,
}

/// Reads `settings.yml`. What can be read is returned beside the faults.
pub fn read(text: &str) -> (Settings, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut settings = Settings::default();
    let node = match yaml::parse(FILE, text) {
        Ok(node) => node,
        Err(fault) => return (settings, vec![fault]),
    };
    known_keys(&node, &["release", "groups"], &mut faults);
    node.get("release").and_then(Node::text).unwrap_or_default().clone_into(&mut settings.release);
    let groups = node.get("groups").map(|groups| entries(groups, "groups", &mut faults)).unwrap_or_default();
    for (name, group) in groups {
        known_keys(group, &["title", "description", "settings"], &mut faults);
        let title = group.get("title").and_then(Node::text).unwrap_or(&name.text);
        let members = group.get("settings").map(|node| entries(node, "settings", &mut faults)).unwrap_or_default();
        for (name, body) in members {
            if let Some(known) = settings.by_name.get(&name.text) {
                let what = format!("the setting {} is described twice: the first is in line {}", name.text, known.at.0);
                faults.push(Fault::new(FILE, what).at(name.at).about(&name.text));
                continue;
            }
            if body.get("secret").is_some_and(|secret| secret.bool() != Some(false)) {
                settings.secrets.insert(name.text.clone());
            }
            match setting(name, body, title, &mut faults) {
                Ok(setting) => {
                    settings.by_name.insert(name.text.clone(), setting);
                }
                Err(fault) => faults.push(fault.about(&name.text)),
            }
        }
    }
    pairings(&settings, &mut faults);
    (settings, faults)
}

/// What certificates relate to has to be there.
fn pairings(settings: &Settings, faults: &mut Vec<Fault>) {
    for (name, setting) in &settings.by_name {
        let Some(pairing) = &setting.certificate else { continue };
        let mut fault = |what: String| faults.push(Fault::new(FILE, what).at(pairing.at).about(name));
        if setting.secret.is_some() {
            fault(format!("{name} is a certificate, which everybody may see, and can't be a secret: only its key can"));
        }
        let key = settings.by_name.get(&pairing.key);
        match key.map(|key| &key.secret) {
            Some(Some(Secret { generate: None, scope: Scope::Platform })) => {}
            Some(_) => fault(format!(
                "{}, the key of {name}, has to be a secret that is given by a person, of the scope platform: secret: true",
                pairing.key
            )),
            None => {
                let near = nearest(&pairing.key, settings.by_name.keys().map(String::as_str));
                fault(format!("there is no setting {}, the key of {name}{near}", pairing.key));
            }
        }
        for cover in &pairing.covers {
            let unknown = match pieces(cover) {
                Ok(pieces) => pieces.iter().find_map(|piece| match piece {
                    Piece::Name(other) if settings.by_name.get(*other).is_none_or(|other| other.secret.is_some()) => {
                        Some((*other).to_owned())
                    }
                    _ => None,
                }),
                Err(rest) => Some(rest.to_owned()),
            };
            if let Some(other) = unknown {
                fault(format!("covers of {name} names {other}, which is no setting that isn't a secret"));
            }
        }
    }
}

/// Names that a setting can't have, since the templates' context uses them.
const RESERVED: [&str; 5] = ["machine", "machines", "revision", "release", "this"];

fn setting(name: &yaml::Key, body: &Node, group: &str, faults: &mut Vec<Fault>) -> Result<Setting, Fault> {
    let fault = |at, what: String| Err(Fault::new(FILE, what).at(at));
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if RESERVED.contains(&name.text.as_str())
        || !name.text.chars().all(word)
        || name.text.starts_with(|c: char| c.is_ascii_digit())
    {
        let what = format!(
            "{:?} can't be a setting's name: use letters, digits and '_'; machine, machines, revision and release are taken",
            name.text
        );
        return fault(name.at, what);
    }
    if body.map().is_none() {
        return fault(body.at, format!("{} has to be a mapping with title, description, schema and so on", name.text));
    }
    known_keys(
        body,
        &["title", "description", "schema", "default", "optional", "overridable", "propose", "secret", "certificate"],
        faults,
    );
    let schema_node = body.get("schema");
    let schema = schema_node.map_or(Value::Object(serde_json::Map::new()), Node::to_json);
    let validator = formats::validator(&schema).map_err(|error| {
        Fault::new(FILE, format!("the schema of {} is not right: {error}", name.text))
            .at(schema_node.map_or(name.at, |node| node.at))
    })?;
    let flag = |key: &str| match body.get(key) {
        None => Ok(false),
        Some(node) => node
            .bool()
            .ok_or_else(|| Fault::new(FILE, format!("{key} of {} has to be true or false", name.text)).at(node.at)),
    };
    let secret = body.get("secret").map(|node| secret(&name.text, node, faults)).transpose()?;
    let propose = match body.get("propose").map(|propose| (propose, propose.text())) {
        None => None,
        Some((_, Some("address"))) => Some(Proposal::Address),
        Some((_, Some("behind-proxy"))) => Some(Proposal::BehindProxy),
        Some((propose, _)) => {
            return fault(propose.at, format!("propose of {} has to be address or behind-proxy", name.text));
        }
    };
    let default = body.get("default").cloned();
    if let (Some(_), Some(node)) = (&secret, &default) {
        return fault(
            node.at,
            format!("the secret {} can't have a default: it would stand in every copy of the release", name.text),
        );
    }
    let certificate = body.get("certificate").map(|node| pairing(&name.text, node, faults)).transpose()?;
    let text = |key: &str| body.get(key).and_then(Node::text).unwrap_or_default().to_owned();
    Ok(Setting {
        title: text("title"),
        description: text("description"),
        group: group.to_owned(),
        schema,
        validator,
        default,
        optional: flag("optional")?,
        overridable: flag("overridable")?,
        propose,
        secret,
        certificate,
        at: name.at,
    })
}

fn pairing(name: &str, node: &Node, faults: &mut Vec<Fault>) -> Result<Pairing, Fault> {
    let fault = |node: &Node, what: String| Err(Fault::new(FILE, what).at(node.at));
    let like = "write certificate: {key: TLS_KEY, covers: [\"${DOMAIN}\"]}";
    if node.map().is_none() {
        return fault(node, format!("certificate of {name} has to name the key: {like}"));
    }
    known_keys(node, &["key", "covers"], faults);
    let Some(key) = node.get("key").and_then(Node::text) else {
        return fault(node, format!("certificate of {name} has to name the secret that holds its key: {like}"));
    };
    let covers = match node.get("covers") {
        None => Vec::new(),
        Some(list) => match &list.kind {
            yaml::Kind::List(items) if items.iter().all(|item| item.text().is_some()) => {
                items.iter().filter_map(Node::text).map(str::to_owned).collect()
            }
            _ => return fault(list, format!("covers of {name} has to be a list of names: {like}")),
        },
    };
    Ok(Pairing { key: key.to_owned(), covers, at: node.at })
}

fn secret(name: &str, node: &Node, faults: &mut Vec<Fault>) -> Result<Secret, Fault> {
    let fault = |node: &Node, what: String| Err(Fault::new(FILE, what).at(node.at));
    if node.bool() == Some(true) {
        return Ok(Secret { generate: None, scope: Scope::Platform });
    }
    known_keys(node, &["generate", "scope"], faults);
    let scope = match node.get("scope").map(|scope| (scope, scope.text())) {
        None | Some((_, Some("platform"))) => Scope::Platform,
        Some((_, Some("role"))) => Scope::Role,
        Some((_, Some("machine"))) => Scope::Machine,
        Some((scope, _)) => return fault(scope, format!("the scope of {name} has to be platform, role or machine")),
    };
    let Some(generate) = node.get("generate") else { return Ok(Secret { generate: None, scope }) };
    known_keys(generate, &["bytes", "encoding"], faults);
    let bytes = match generate.get("bytes").map(|bytes| (bytes, bytes.text().and_then(|text| text.parse().ok()))) {
        None => 32,
        Some((_, Some(bytes @ 8..=1024))) => bytes,
        Some((bytes, _)) => return fault(bytes, format!("bytes of {name} has to be a number from 8 to 1024")),
    };
    let encoding = match generate.get("encoding").map(|encoding| (encoding, encoding.text())) {
        None | Some((_, Some("base64url"))) => Encoding::Base64Url,
        Some((_, Some("base64"))) => Encoding::Base64,
        Some((_, Some("hex"))) => Encoding::Hex,
        Some((encoding, _)) => {
            return fault(encoding, format!("encoding of {name} has to be base64url, base64 or hex"));
        }
    };
    Ok(Secret { generate: Some(Generate { bytes, encoding }), scope })
}

fn entries<'n>(node: &'n Node, what: &str, faults: &mut Vec<Fault>) -> &'n [(yaml::Key, Node)] {
    match node.map() {
        Some(entries) => entries,
        None if node.is_null() => &[],
        None => {
            faults.push(Fault::new(FILE, format!("{what} has to be a mapping")).at(node.at));
            &[]
        }
    }
}

fn known_keys(node: &Node, known: &[&str], faults: &mut Vec<Fault>) {
    for (key, _) in node.map().unwrap_or_default() {
        if !known.contains(&key.text.as_str()) {
            let what = format!("unknown key {}{}", key.text, nearest(&key.text, known.iter().copied()));
            faults.push(Fault::new(FILE, what).at(key.at));
        }
    }
}
