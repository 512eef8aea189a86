//! Secrets' values: from the environment, from the store, or made once from
//! the operating system's randomness. Only rendering sees them.

pub mod inventory;

use crate::fault::Fault;
use crate::platform::formats::misfit as misfit_words;
use crate::platform::values::SecretValues;
use crate::platform::{Scope, Setting, Settings, schema};
use crate::store::{Store, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use lockstep_edge::{clock, random};
use lockstep_shared::Name;
use schema::{Encoding, Generate};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// The prefix of environment variables that give a secret's value.
pub const ENV: &str = "LOCKSTEP_SECRET_";

/// What is done with next values: those that were set, rotated or made and are
/// not published yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drafts {
    /// As if there were none: what is published is rendered again.
    Ignored,
    /// They count, and nothing is written: good for looking.
    Read,
    /// They count, and what has to be made is kept among them, so that a plan
    /// and the publication after it have the same values. One that never gets
    /// published is a random text that nobody uses.
    Kept,
}

/// Where a kept value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Made from the system's randomness.
    Generated,
    /// Set by a person.
    Given,
}

impl Origin {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Given => "given",
        }
    }

    /// From what is stored.
    pub fn parse(text: &str) -> Self {
        if text == "given" { Self::Given } else { Self::Generated }
    }
}

/// A value that becomes current with the revision that holds it.
#[derive(Clone)]
pub struct Fresh {
    /// The secret.
    pub name: String,
    /// The role or machine that holds it; empty: the platform.
    pub holder: String,
    /// The value.
    pub value: Zeroizing<String>,
    /// Where it came from.
    pub origin: Origin,
    /// When, Unix seconds.
    pub at: i64,
    /// By whom.
    pub author: String,
}

/// What was given out for rendering.
#[derive(Clone, Default)]
pub struct Used {
    /// Every value: what may stand in a rendered file.
    pub values: BTreeSet<String>,
    /// Those of them that are not current yet.
    pub fresh: Vec<Fresh>,
}

impl Used {
    /// Adds what was given out for something else.
    pub fn join(&mut self, other: Self) {
        self.values.extend(other.values);
        for fresh in other.fresh {
            if !self.fresh.iter().any(|known| (&known.name, &known.holder) == (&fresh.name, &fresh.holder)) {
                self.fresh.push(fresh);
            }
        }
    }
}

/// Where values come from, and those that were looked up already.
pub struct Secrets<'s> {
    env: BTreeMap<String, String>,
    store: Option<&'s Store>,
    drafts: Drafts,
    known: BTreeMap<(String, String), String>,
    used: Used,
}

impl<'s> Secrets<'s> {
    /// With the values that the environment gives. Without a store, values are
    /// made for this once and kept nowhere: good for looking, not for publishing.
    pub fn new(env: impl IntoIterator<Item = (String, String)>, store: Option<&'s Store>, drafts: Drafts) -> Self {
        let given = |(name, value): (String, String)| Some((name.strip_prefix(ENV)?.to_owned(), value));
        let env = env.into_iter().filter_map(given).collect();
        Self { env, store, drafts, known: BTreeMap::new(), used: Used::default() }
    }

    /// The values that a machine of a role renders with. One that has no value
    /// and can't be made is a fault, unless it is optional.
    pub fn of(
        &mut self,
        settings: &Settings,
        machine: &Name,
        role: &Name,
    ) -> Result<(SecretValues, Vec<Fault>), StoreError> {
        let mut values = SecretValues::new();
        let mut faults = Vec::new();
        for (name, setting) in &settings.by_name {
            let Some(secret) = &setting.secret else { continue };
            let holder = match secret.scope {
                Scope::Platform => "",
                Scope::Role => role.as_str(),
                Scope::Machine => machine.as_str(),
            };
            match self.value(name, holder, secret.generate)? {
                Some(value) => {
                    faults.extend(misfit(name, setting, &value));
                    self.used.values.insert(value.clone());
                    values.insert(name.clone(), value);
                }
                None if setting.optional => {}
                None => faults.push(
                    Fault::new(
                        schema::FILE,
                        format!("the secret {name} has no value: type lockstep secrets set {name}, or give it as {ENV}{name} in the leader's environment"),
                    )
                    .at(setting.at)
                    .about(name),
                ),
            }
        }
        Ok((values, faults))
    }

    /// What was given out.
    pub fn used(self) -> Used {
        self.used
    }

    fn value(&mut self, name: &str, holder: &str, generate: Option<Generate>) -> Result<Option<String>, StoreError> {
        if let Some(value) = self.env.get(name) {
            return Ok(Some(value.trim_end_matches('\n').to_owned()));
        }
        let place = (name.to_owned(), holder.to_owned());
        if let Some(value) = self.known.get(&place) {
            return Ok(Some(value.clone()));
        }
        let draft = match (self.store, self.drafts) {
            (Some(store), Drafts::Read | Drafts::Kept) => store.draft(name, holder)?,
            _ => None,
        };
        if draft.is_none()
            && let Some(value) = self.store.map(|store| store.secret(name, holder)).transpose()?.flatten()
        {
            self.known.insert(place, value.clone());
            return Ok(Some(value));
        }
        let fresh = match (draft, generate) {
            (Some(draft), _) => draft,
            (None, None) => return Ok(None),
            (None, Some(generate)) => {
                let made = Fresh::made(name, holder, generate, "leader");
                if let (Some(store), Drafts::Kept) = (self.store, self.drafts) {
                    store.put_draft(&made)?;
                }
                made
            }
        };
        let value = fresh.value.to_string();
        self.used.fresh.push(fresh);
        self.known.insert(place, value.clone());
        Ok(Some(value))
    }
}

impl Fresh {
    /// A new value, made from the system's randomness.
    pub fn made(name: &str, holder: &str, generate: Generate, author: &str) -> Self {
        Self::new(name, holder, make(generate), Origin::Generated, author)
    }

    /// A value that a person gives.
    pub fn given(name: &str, holder: &str, value: String, author: &str) -> Self {
        Self::new(name, holder, value, Origin::Given, author)
    }

    fn new(name: &str, holder: &str, value: String, origin: Origin, author: &str) -> Self {
        Self {
            name: name.to_owned(),
            holder: holder.to_owned(),
            value: Zeroizing::new(value),
            origin,
            at: clock::now(),
            author: author.to_owned(),
        }
    }
}

/// A value that doesn't fit its schema, told without the value.
fn misfit(name: &str, setting: &Setting, value: &str) -> Option<Fault> {
    let value = Value::String(value.to_owned());
    let error = setting.validator.iter_errors(&value).next()?;
    let error = misfit_words(&error, &setting.schema, true);
    Some(
        Fault::new(schema::FILE, format!("the secret {name} does not fit its schema: {error}"))
            .at(setting.at)
            .about(name),
    )
}

fn make(generate: Generate) -> String {
    let mut bytes = random::bytes::<1024>();
    let wanted = &bytes[..generate.bytes];
    let text = match generate.encoding {
        Encoding::Base64Url => URL_SAFE_NO_PAD.encode(wanted),
        Encoding::Base64 => STANDARD.encode(wanted),
        Encoding::Hex => wanted.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    zeroize::Zeroize::zeroize(&mut bytes);
    text
}
