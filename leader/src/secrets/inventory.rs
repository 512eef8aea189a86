//! Secrets as people keep them: which there are, where each value comes from,
//! who uses it; setting and rotating. No value ever leaves this file: what is
//! set or made waits, sealed, for the revision that is rendered with it.

use super::{ENV, Fresh, Origin, misfit};
use crate::config::Config;
use crate::leader::LeaderError;
use crate::memo::Memo;
use crate::platform::{Scope, Setting, schema};
use crate::press::Press;
use crate::release::{self, Release};
use crate::render::Machine;
use crate::source::Source;
use crate::store::{SecretPlace, StoreError, Told};
use crate::templates::Content;
use lockstep_shared::{Name, SafePath};
use schema::{Generate, Secret};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// In characters. Shorter values can't be told from other text, so that diffs could not mask them.
pub const SHORTEST: usize = 4;
/// The longest value, in characters.
const LONGEST: usize = 64 * 1024;

/// A secret of the release, without any value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Secret)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// A few words.
    pub title: String,
    /// Who shares one value.
    pub scope: Sharing,
    /// Whether the leader can make a value.
    pub generated: bool,
    /// May stay without a value.
    pub optional: bool,
    /// One for each value.
    pub values: Vec<Held>,
    /// The files that hold it.
    pub files: Vec<UsedIn>,
}

/// Who shares one value of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// The whole platform.
    Platform,
    /// The machines of one role.
    Role,
    /// Nobody.
    Machine,
}

/// One value of a secret, as far as it may be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SecretValue)]
pub struct Held {
    /// The role or machine that it belongs to; null: the platform.
    pub holder: Option<Name>,
    /// Where it comes from.
    pub whence: Whence,
    /// When it was set or made, Unix seconds, where that is known.
    pub at: Option<i64>,
    /// By whom.
    pub author: Option<String>,
    /// A next value, that waits for a publication.
    pub next: Option<Next>,
    /// The machines whose files hold it.
    pub machines: Vec<Name>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Whence {
    /// The leader's environment; it wins over what is kept.
    Environment,
    /// Made from the system's randomness.
    Generated,
    /// Set by a person.
    Given,
    /// There is none yet: the next publication makes it.
    Unmade,
    /// There is none, and somebody has to give it.
    Missing,
}

/// A value that waits for a publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SecretNext)]
pub struct Next {
    /// Made or given.
    pub origin: Origin,
    /// When, Unix seconds.
    pub at: i64,
    /// By whom.
    pub author: String,
}

/// A file that holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsedIn {
    /// The role.
    pub role: Name,
    /// The file, as machines have it.
    pub path: SafePath,
    /// The template, within the leader's home.
    pub template: String,
}

/// Why a secret was not set or rotated.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No such secret.
    #[error("{0}")]
    Unknown(String),
    /// The release or the environment says otherwise.
    #[error("{0}")]
    Otherwise(String),
    /// It can't be set to this.
    #[error("{0}")]
    Unfit(String),
    /// The files or the store.
    #[error(transparent)]
    Leader(#[from] LeaderError),
}

impl From<StoreError> for SecretError {
    fn from(error: StoreError) -> Self {
        Self::Leader(error.into())
    }
}

/// Whose value is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whose {
    /// A machine's.
    pub machine: Option<String>,
    /// A role's.
    pub role: Option<String>,
}

/// The files as they are on disk, with the machines.
struct View {
    release: Release,
    machines: Vec<Machine>,
}

impl View {
    fn of(config: &Config) -> Result<Self, LeaderError> {
        let source = Source::read(&config.platform, &config.templates)?;
        let machines = release::machines(config);
        Ok(Self {
            release: Release::compile_naming(&source, &machines, &config.members.disabled(), &mut Memo::default()),
            machines,
        })
    }

    fn secret(&self, name: &str) -> Result<(&Setting, &Secret), SecretError> {
        let setting = self.release.compiled.settings.by_name.get(name);
        match setting.map(|setting| (setting, setting.secret.as_ref())) {
            Some((setting, Some(secret))) => Ok((setting, secret)),
            Some((_, None)) => Err(SecretError::Unknown(format!(
                "{name} is a setting and no secret: lockstep settings set {name} VALUE"
            ))),
            None => {
                let all = self.release.compiled.settings.by_name.iter().filter(|(_, setting)| setting.secret.is_some());
                let near = crate::fault::nearest(name, all.map(|(name, _)| name.as_str()));
                let shown: String = name.chars().take(64).collect();
                Err(SecretError::Unknown(format!("there is no secret {shown:?}{near}: see lockstep secrets list")))
            }
        }
    }

    /// Those who hold a value each; empty: the platform.
    fn holders(&self, scope: Scope) -> Vec<String> {
        let names: BTreeSet<String> = match scope {
            Scope::Platform => return vec![String::new()],
            Scope::Role => self.machines.iter().map(|machine| machine.role.to_string()).collect(),
            Scope::Machine => self.machines.iter().map(|machine| machine.name.to_string()).collect(),
        };
        names.into_iter().collect()
    }

    /// The holders that are meant; all, where nobody is named.
    fn meant(&self, name: &str, scope: Scope, whose: &Whose) -> Result<Vec<String>, SecretError> {
        let holders = self.holders(scope);
        let (wanted, flag) = match (scope, whose) {
            (_, Whose { machine: None, role: None }) => return Ok(holders),
            (Scope::Machine, Whose { machine: Some(machine), role: None }) => (machine, "machine"),
            (Scope::Role, Whose { machine: None, role: Some(role) }) => (role, "role"),
            (Scope::Platform, _) => {
                return Err(SecretError::Otherwise(format!(
                    "{name} has one value for the whole platform: name neither machine nor role"
                )));
            }
            (Scope::Role, _) => {
                return Err(SecretError::Otherwise(format!("{name} has one value for each role: say --role ROLE")));
            }
            (Scope::Machine, _) => {
                return Err(SecretError::Otherwise(format!(
                    "{name} has one value for each machine: say --machine NAME"
                )));
            }
        };
        if holders.contains(wanted) {
            return Ok(vec![wanted.clone()]);
        }
        let near = crate::fault::nearest(wanted, holders.iter().map(String::as_str));
        Err(SecretError::Otherwise(format!(
            "no {flag} {wanted:?} is declared{near}; there are: {}",
            holders.join(", ")
        )))
    }

    fn files(&self, name: &str) -> Vec<UsedIn> {
        let templates = &self.release.compiled.templates;
        let mut files = Vec::new();
        for (role, tree) in &templates.roles {
            for (path, file) in &tree.files {
                let names = matches!(file.content, Content::Template)
                    && templates.uses.get(&file.name).is_some_and(|uses| uses.contains(name));
                if names {
                    files.push(UsedIn { role: role.clone(), path: path.clone(), template: file.name.clone() });
                }
            }
        }
        files
    }

    fn machines_of(&self, holder: &str, scope: Scope, files: &[UsedIn]) -> Vec<Name> {
        let holds = |machine: &&Machine| match scope {
            Scope::Platform => true,
            Scope::Role => machine.role.as_str() == holder,
            Scope::Machine => machine.name.as_str() == holder,
        };
        let uses = |machine: &&Machine| files.iter().any(|file| file.role == machine.role);
        self.machines.iter().filter(holds).filter(uses).map(|machine| machine.name.clone()).collect()
    }
}

/// Every secret of the release on disk.
pub fn list(press: &Press) -> Result<Vec<Entry>, SecretError> {
    let view = View::of(press.config())?;
    let (origins, drafts) = (press.store().secret_origins()?, press.store().drafts()?);
    let mut entries = Vec::new();
    for (name, setting) in &view.release.compiled.settings.by_name {
        if let Some(secret) = &setting.secret {
            entries.push(entry(press, &view, (name, setting, secret), &origins, &drafts)?);
        }
    }
    Ok(entries)
}

/// One of them.
pub fn one(press: &Press, name: &str) -> Result<Entry, SecretError> {
    let view = View::of(press.config())?;
    let (setting, secret) = view.secret(name)?;
    let (origins, drafts) = (press.store().secret_origins()?, press.store().drafts()?);
    entry(press, &view, (name, setting, secret), &origins, &drafts)
}

type ByPlace = BTreeMap<SecretPlace, Told>;

fn entry(
    press: &Press,
    view: &View,
    (name, setting, secret): (&str, &Setting, &Secret),
    origins: &ByPlace,
    drafts: &ByPlace,
) -> Result<Entry, SecretError> {
    let files = view.files(name);
    let mut values = Vec::new();
    for holder in view.holders(secret.scope) {
        let place = (name.to_owned(), holder.clone());
        let told = origins.get(&place);
        let kept = press.store().secret(name, &holder)?.is_some();
        let whence = match (press.gives(name), kept, told) {
            (true, ..) => Whence::Environment,
            (false, true, Some(Told { origin: Origin::Given, .. })) => Whence::Given,
            (false, true, _) => Whence::Generated,
            (false, false, _) if secret.generate.is_some() => Whence::Unmade,
            _ => Whence::Missing,
        };
        let told = told.filter(|_| matches!(whence, Whence::Given | Whence::Generated));
        values.push(Held {
            machines: view.machines_of(&holder, secret.scope, &files),
            holder: Name::new(holder).ok(),
            whence,
            at: told.map(|told| told.at),
            author: told.map(|told| told.author.clone()),
            next: drafts.get(&place).map(|told| Next { origin: told.origin, at: told.at, author: told.author.clone() }),
        });
    }
    Ok(Entry {
        name: name.to_owned(),
        title: setting.title.clone(),
        scope: match secret.scope {
            Scope::Platform => Sharing::Platform,
            Scope::Role => Sharing::Role,
            Scope::Machine => Sharing::Machine,
        },
        generated: secret.generate.is_some(),
        optional: setting.optional,
        values,
        files,
    })
}

/// Keeps a value that a person gives as the next one of one holder.
pub fn set(
    press: &Press,
    name: &str,
    whose: &Whose,
    value: &Zeroizing<String>,
    author: &str,
) -> Result<Entry, SecretError> {
    let view = View::of(press.config())?;
    let (setting, secret) = view.secret(name)?;
    refuse_given(press, name)?;
    let holders = view.meant(name, secret.scope, whose)?;
    let [holder] = &holders[..] else {
        let (each, flag) = if secret.scope == Scope::Role { ("role", "--role") } else { ("machine", "--machine") };
        return Err(SecretError::Otherwise(format!(
            "{name} has one value for each {each}: say whose, with {flag} NAME"
        )));
    };
    let unfit = |what: String| Err(SecretError::Unfit(format!("{name} was not set: {what}")));
    let length = value.chars().count();
    if length < SHORTEST {
        return unfit(format!(
            "a value has at least {SHORTEST} characters, or it could not be masked where it is shown"
        ));
    }
    if length > LONGEST || value.contains('\0') || value.ends_with('\n') {
        return unfit(format!(
            "a value has at most {LONGEST} characters, no zero character, and no newline at its end"
        ));
    }
    if let Some(fault) = misfit(name, setting, value) {
        return unfit(fault.what);
    }
    press.store().put_draft(&Fresh::given(name, holder, value.to_string(), author))?;
    one(press, name)
}

/// Makes new values as the next ones: of one holder, or of all.
pub fn rotate(press: &Press, name: &str, whose: &Whose, author: &str) -> Result<Entry, SecretError> {
    let view = View::of(press.config())?;
    let (_, secret) = view.secret(name)?;
    refuse_given(press, name)?;
    let Some(generate) = secret.generate else {
        return Err(SecretError::Otherwise(format!(
            "the leader can't make a value of {name}: give a new one with lockstep secrets set {name}"
        )));
    };
    let holders = view.meant(name, secret.scope, whose)?;
    if holders.is_empty() {
        return Err(SecretError::Otherwise(format!("no machine is declared that could hold {name}")));
    }
    for holder in holders {
        make(press, name, &holder, generate, author)?;
    }
    one(press, name)
}

fn make(press: &Press, name: &str, holder: &str, generate: Generate, author: &str) -> Result<(), StoreError> {
    press.store().put_draft(&Fresh::made(name, holder, generate, author))
}

/// Forgets the values that wait for a publication.
pub fn discard(press: &Press, name: &str) -> Result<Entry, SecretError> {
    let view = View::of(press.config())?;
    view.secret(name)?;
    press.store().drop_drafts(name)?;
    one(press, name)
}

fn refuse_given(press: &Press, name: &str) -> Result<(), SecretError> {
    if press.gives(name) {
        return Err(SecretError::Otherwise(format!(
            "the leader's environment gives {name}, and that wins: change {ENV}{name} there and restart the leader, or take it out"
        )));
    }
    Ok(())
}
