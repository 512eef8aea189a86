//! Public certificates: those that a release's `settings.yml` says are one
//! (`certificate:`), with the secret that holds their key. `check.rs` looks at
//! them, `given.rs` takes new ones, `ends.rs` watches when they end.

pub mod check;
pub mod ends;
pub mod given;

use crate::fault::Fault;
use crate::platform::references::{Piece, pieces};
use crate::platform::schema::{Pairing, Settings};
use crate::platform::values::Values;
use crate::platform::{Platform, SecretValues};
use crate::source::PLATFORM;
use check::{Findings, look};
use serde_json::Value;
use std::collections::BTreeSet;

/// The settings of a release that are certificates, by name.
pub fn declared(settings: &Settings) -> impl Iterator<Item = (&str, &Pairing)> {
    settings.by_name.iter().filter_map(|(name, setting)| Some((name.as_str(), setting.certificate.as_ref()?)))
}

/// The names that a certificate has to cover on this platform. One that is made of a setting without value is none.
pub fn wanted(pairing: &Pairing, values: &Values) -> Vec<String> {
    let resolve = |cover: &String| {
        let mut name = String::new();
        for piece in pieces(cover).ok()? {
            match piece {
                Piece::Text(text) => name += text,
                Piece::Name(setting) => match values.get(setting)? {
                    Value::String(text) => name += text,
                    Value::Number(number) => name += &number.to_string(),
                    _ => return None,
                },
            }
        }
        Some(name)
    };
    pairing.covers.iter().filter_map(resolve).collect()
}

/// What a machine's values have in a pair: the certificate, the key.
fn held<'v>(
    name: &str,
    pairing: &Pairing,
    values: &'v Values,
    secrets: &'v SecretValues,
) -> (Option<&'v str>, Option<&'v str>) {
    (values.get(name).and_then(Value::as_str), secrets.get(&pairing.key).map(String::as_str))
}

/// What is wrong with the certificates that one machine would get; `remarks`
/// gathers what is only to be told.
pub(crate) fn faults(
    settings: &Settings,
    platform: &Platform,
    (machine, values, secrets): (&str, &Values, &SecretValues),
    now: i64,
    remarks: &mut BTreeSet<String>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, pairing) in declared(settings) {
        let found = match held(name, pairing, values, secrets) {
            (None, None) => continue,
            (Some(_), None) => {
                remarks.insert(format!(
                    "{name} is set and its key {} is not: lockstep certificates set gives both",
                    pairing.key
                ));
                continue;
            }
            (None, Some(_)) => {
                remarks.insert(format!(
                    "{} is set and its certificate {name} is not: lockstep certificates set gives both",
                    pairing.key
                ));
                continue;
            }
            (Some(chain), Some(key)) => look(chain, Some(key), &wanted(pairing, values), now),
        };
        remarks.extend(found.remarks().map(|remark| format!("{name}: {remark}")));
        let at = platform.written(name, Some(machine)).or_else(|| platform.written(name, None)).map(|given| given.at);
        faults.extend(found.broken.into_iter().map(|what| {
            let fault = Fault::new(PLATFORM, format!("{name}, with its key {}: {what}", pairing.key)).about(name);
            at.map_or(fault.clone(), |at| fault.at(at))
        }));
    }
    faults
}

/// What was found of one pair, for people.
pub(crate) fn words(found: &Findings) -> Vec<String> {
    found.broken.iter().chain(&found.unfit).cloned().collect()
}
