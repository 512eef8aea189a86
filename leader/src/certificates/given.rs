//! Certificates as people see and give them: looked at before anything is
//! changed, then the certificate goes into `platform.yml` and its key among the
//! secrets' next values. One publication takes both out.

use super::check::{Facts, Findings, look};
use super::{declared, wanted, words};
use crate::desk::{Desk, DeskError, Wish};
use crate::leader::LeaderError;
use crate::memo::Memo;
use crate::platform::schema::Pairing;
use crate::press::Press;
use crate::release::{self, Release};
use crate::render::Machine;
use crate::secrets::inventory::{self, SecretError, Whose};
use crate::source::Source;
use crate::store::StoreError;
use crate::uses::Uses;
use lockstep_edge::clock;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// A certificate of the platform, as the files on disk have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PublicCertificate)]
pub struct Shown {
    /// The setting that holds it.
    pub name: String,
    /// A few words.
    pub title: String,
    /// The secret that holds its key.
    pub key: String,
    /// Whether that has a value.
    pub has_key: bool,
    /// The names that it has to cover.
    pub covers: Vec<String>,
    /// What it says of itself; null where none is set, or it can't be read.
    pub certificate: Option<Facts>,
    /// What is wrong with it, and what to do.
    pub problems: Vec<String>,
    /// What will be wrong soon, or may be.
    pub warnings: Vec<String>,
    /// Machines that get it: those whose templates use it.
    pub machines: Vec<String>,
    /// Where it is written there.
    pub files: Vec<String>,
}

/// Why a certificate was not taken, or can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It doesn't fit: everything that is wrong with it.
    #[error("{}", unfit(.name, .problems))]
    Unfit {
        /// The setting.
        name: String,
        /// What is wrong.
        problems: Vec<String>,
    },
    /// The release has no such certificate.
    #[error("{0}")]
    Unknown(String),
    /// The key can't be kept.
    #[error(transparent)]
    Key(#[from] SecretError),
    /// The certificate can't be written.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The files or the store.
    #[error(transparent)]
    Leader(#[from] LeaderError),
}

impl From<StoreError> for CertificateError {
    fn from(error: StoreError) -> Self {
        Self::Leader(error.into())
    }
}

fn unfit(name: &str, problems: &[String]) -> String {
    let list: String = problems.iter().map(|problem| format!("\n  - {problem}")).collect();
    format!("this can't be {name}, and nothing was changed:{list}")
}

/// The files as they are on disk, compiled.
struct View {
    release: Release,
    machines: Vec<Machine>,
}

impl View {
    fn of(press: &Press) -> Result<Self, LeaderError> {
        let config = press.config();
        let source = Source::read(&config.platform, &config.templates)?;
        let machines = release::machines(config);
        Ok(Self { release: Release::compile(&source, &machines, &mut Memo::default()), machines })
    }

    /// The certificate of this name; without one, the only one there is.
    fn pairing(&self, name: Option<&str>) -> Result<(&str, &Pairing), CertificateError> {
        let unknown = |what: String| Err(CertificateError::Unknown(what));
        let all: Vec<_> = declared(&self.release.compiled.settings).collect();
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        match (name, &all[..]) {
            (_, []) => unknown(
                "the release in templates/ says of no setting that it is a certificate (certificate: {key: ...} in templates/settings.yml): set it with lockstep settings set and its key with lockstep secrets set".to_owned(),
            ),
            (None, [one]) => Ok(*one),
            (None, _) => unknown(format!("there are several certificates: say which with --name: {}", names.join(", "))),
            (Some(name), _) => match all.iter().find(|(known, _)| *known == name) {
                Some(found) => Ok(*found),
                None => unknown(format!("{name} is no certificate of this release: there is {}", names.join(", "))),
            },
        }
    }

    fn shown(&self, name: &str, pairing: &Pairing, press: &Press, now: i64) -> Result<Shown, CertificateError> {
        let settings = &self.release.compiled.settings;
        let values = self.release.platform.resolve(settings, "").0;
        let covers = wanted(pairing, &values);
        let key = key(press, pairing)?;
        let chain = values.get(name).and_then(Value::as_str);
        let found = match chain {
            Some(chain) => look(chain, key.as_ref().map(|key| key.as_str()), &covers, now),
            None => Findings::default(),
        };
        let uses =
            Uses::new(settings, &self.release.platform, &self.release.compiled.templates, &self.machines).of(name);
        let machines: BTreeSet<String> = uses.files.iter().flat_map(|file| file.machines.clone()).collect();
        let files: BTreeSet<String> =
            uses.files.iter().filter(|file| !file.machines.is_empty()).map(|file| file.path.clone()).collect();
        Ok(Shown {
            name: name.to_owned(),
            title: settings.by_name.get(name).map(|setting| setting.title.clone()).unwrap_or_default(),
            key: pairing.key.clone(),
            has_key: key.is_some(),
            covers,
            problems: words(&found),
            warnings: found.warnings,
            certificate: found.facts,
            machines: machines.into_iter().collect(),
            files: files.into_iter().collect(),
        })
    }
}

/// The key that would be published now.
fn key(press: &Press, pairing: &Pairing) -> Result<Option<Zeroizing<String>>, StoreError> {
    if let Some(given) = press.given(&pairing.key) {
        return Ok(Some(Zeroizing::new(given.to_owned())));
    }
    if let Some(draft) = press.store().draft(&pairing.key, "")? {
        return Ok(Some(draft.value));
    }
    Ok(press.store().secret(&pairing.key, "")?.map(Zeroizing::new))
}

/// Every certificate of the release on disk.
pub fn list(press: &Press) -> Result<Vec<Shown>, CertificateError> {
    let (view, now) = (View::of(press)?, clock::now());
    declared(&view.release.compiled.settings).map(|(name, pairing)| view.shown(name, pairing, press, now)).collect()
}

/// Takes a certificate with its chain and its key, if nothing is wrong with
/// them. They wait for a publication.
pub fn set(
    press: &Press,
    name: Option<&str>,
    chain: &str,
    key: &Zeroizing<String>,
    author: &str,
) -> Result<Shown, CertificateError> {
    let view = View::of(press)?;
    let (name, pairing) = view.pairing(name)?;
    let values = view.release.platform.resolve(&view.release.compiled.settings, "").0;
    let found = look(chain, Some(key), &wanted(pairing, &values), clock::now());
    let problems = words(&found);
    if !problems.is_empty() {
        return Err(CertificateError::Unfit { name: name.to_owned(), problems });
    }
    // What anybody may have written around the blocks is not carried along.
    let chain = blocks(chain, |label| label == "CERTIFICATE");
    let key = Zeroizing::new(blocks(key, |label| label.ends_with("PRIVATE KEY")));
    let before = press.store().draft(&pairing.key, "")?;
    inventory::set(press, &pairing.key, &Whose::default(), &key, author)?;
    let edited = Desk::new(press.config().clone()).edit(
        name,
        None,
        &Wish::Json(Value::String(format!("{chain}\n"))),
        None,
        None,
    );
    if let Err(error) = edited {
        // Half of it is worth nothing: the key is as it was before.
        match before {
            Some(before) => press.store().put_draft(&before)?,
            None => press.store().drop_drafts(&pairing.key).map(|_| ())?,
        }
        return Err(error.into());
    }
    let view = View::of(press)?;
    let (name, pairing) = view.pairing(Some(name))?;
    view.shown(name, pairing, press, clock::now())
}

/// The PEM blocks of a text with these labels, one after another, without what stands around them.
fn blocks(text: &str, fits: impl Fn(&str) -> bool) -> String {
    let mut lines = Vec::new();
    let mut within = false;
    for line in text.lines().map(str::trim_end) {
        let label = |mark: &str| line.strip_prefix(mark).and_then(|rest| rest.strip_suffix("-----"));
        if label("-----BEGIN ").is_some_and(&fits) {
            within = true;
        }
        if within {
            lines.push(line);
        }
        if label("-----END ").is_some_and(&fits) {
            within = false;
        }
    }
    lines.join("\n")
}
