//! Secrets' values: from the environment, from the store, or made once from
//! the operating system's randomness. Only rendering sees them.

use crate::fault::Fault;
use crate::platform::formats::misfit as misfit_words;
use crate::platform::values::SecretValues;
use crate::platform::{Scope, Setting, Settings, schema};
use crate::store::{Store, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use lockstep_edge::random;
use lockstep_shared::Name;
use schema::{Encoding, Generate};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The prefix of environment variables that give a secret's value.
const ENV: &str = "LOCKSTEP_SECRET_";

/// Where values come from, and those that were looked up already.
pub struct Secrets<'s> {
    env: BTreeMap<String, String>,
    store: Option<&'s Store>,
    known: BTreeMap<(String, String), String>,
    used: BTreeSet<String>,
}

impl<'s> Secrets<'s> {
    /// With the values that the environment gives. Without a store, values are
    /// made for this once and kept nowhere: good for looking, not for publishing.
    pub fn new(env: impl IntoIterator<Item = (String, String)>, store: Option<&'s Store>) -> Self {
        let given = |(name, value): (String, String)| Some((name.strip_prefix(ENV)?.to_owned(), value));
        Self { env: env.into_iter().filter_map(given).collect(), store, known: BTreeMap::new(), used: BTreeSet::new() }
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
                    self.used.insert(value.clone());
                    values.insert(name.clone(), value);
                }
                None if setting.optional => {}
                None => faults.push(
                    Fault::new(
                        schema::FILE,
                        format!("the secret {name} has no value: give it as {ENV}{name} in the leader's environment"),
                    )
                    .at(setting.at)
                    .about(name),
                ),
            }
        }
        Ok((values, faults))
    }

    /// Every value that was given out: what may stand in a rendered file.
    pub fn used(self) -> BTreeSet<String> {
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
        let stored = self.store.map(|store| store.secret(name, holder)).transpose()?.flatten();
        let value = match (stored, generate) {
            (Some(value), _) => value,
            (None, None) => return Ok(None),
            (None, Some(generate)) => {
                let value = make(generate);
                if let Some(store) = self.store {
                    store.put_secret(name, holder, &value)?;
                }
                value
            }
        };
        self.known.insert(place, value.clone());
        Ok(Some(value))
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
