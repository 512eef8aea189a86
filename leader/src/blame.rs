//! Who gave a setting the value that it has in `platform.yml`, and all the
//! values it had before.

use crate::fault::nearest;
use crate::history::{Entry, History};
use crate::leader::LeaderError;
use crate::platform::schema;
use crate::source::PLATFORM;
use crate::yaml::{self, Node};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many revisions are read at a time.
const STRIDE: usize = 256;

/// The changes of a setting's value, the latest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Blame {
    /// The setting.
    pub setting: String,
    /// For this machine: its own value, where it had one.
    pub machine: Option<String>,
    /// Revisions that changed the value.
    pub changes: Vec<Blamed>,
    /// Whether there are earlier ones than were asked for.
    pub more: bool,
}

/// A revision that changed a setting's value.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Blamed {
    /// The revision.
    pub revision: Entry,
    /// The value from then on, as JSON; `None`: it no longer stood in the file, and the default holds.
    pub value: Option<String>,
    /// Whether it is the machine's own value.
    pub own: bool,
    /// The line of `platform.yml` as it was in that revision, from 1.
    pub line: Option<usize>,
    /// That line's text.
    pub text: Option<String>,
}

/// What a setting is in one platform file.
#[derive(Debug, Clone, PartialEq)]
struct Stand {
    value: String,
    own: bool,
}

/// The same, with where it stands there.
struct Found {
    stand: Stand,
    line: usize,
    text: String,
}

impl History {
    /// Up to `limit` changes of a setting's value, the latest first.
    pub fn blame(&self, setting: &str, machine: Option<&str>, limit: usize) -> Result<Blame, LeaderError> {
        let mut blame = Blame {
            setting: setting.to_owned(),
            machine: machine.map(str::to_owned),
            changes: Vec::new(),
            more: false,
        };
        let mut before = u64::MAX;
        // The revision whose stand is to be explained: the newest with it that was met so far.
        let mut newer: Option<(crate::store::Head, Option<Stand>)> = None;
        'all: loop {
            let heads = self.store.heads(before, None, STRIDE)?;
            let Some(last) = heads.last() else { break };
            before = last.number;
            for head in heads {
                let stand = match &newer {
                    Some((known, stand)) if known.platform == head.platform => stand.clone(),
                    _ => self.stand(&head, setting, machine)?.map(|found| found.stand),
                };
                if let Some((known, known_stand)) = newer.take().filter(|(_, known)| *known != stand) {
                    if blame.changes.len() == limit {
                        blame.more = true;
                        break 'all;
                    }
                    blame.changes.push(self.blamed(known, known_stand, setting, machine)?);
                }
                newer = Some((head, stand));
            }
        }
        match newer {
            Some((first, Some(stand))) if !blame.more && blame.changes.len() < limit => {
                blame.changes.push(self.blamed(first, Some(stand), setting, machine)?);
            }
            Some((_, Some(_))) => blame.more = true,
            _ => {}
        }
        if blame.changes.is_empty() {
            self.never(setting)?;
        }
        Ok(blame)
    }

    fn blamed(
        &self,
        head: crate::store::Head,
        stand: Option<Stand>,
        setting: &str,
        machine: Option<&str>,
    ) -> Result<Blamed, LeaderError> {
        let found = self.stand(&head, setting, machine)?;
        Ok(Blamed {
            revision: self.entry(head),
            own: stand.as_ref().is_some_and(|stand| stand.own),
            value: stand.map(|stand| self.mask(&stand.value)),
            line: found.as_ref().map(|found| found.line),
            text: found.map(|found| self.mask(&found.text)),
        })
    }

    /// What a setting is in a revision's platform file, and its line.
    fn stand(
        &self,
        head: &crate::store::Head,
        setting: &str,
        machine: Option<&str>,
    ) -> Result<Option<Found>, LeaderError> {
        let Some(bytes) = self.store.platform(head)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        // What was published could be read.
        let Ok(node) = yaml::parse(PLATFORM, &text) else { return Ok(None) };
        let own = machine.and_then(|machine| entry(node.get("machines")?.get(machine)?, setting));
        let found = own.or_else(|| entry(node.get("settings")?, setting));
        Ok(found.map(|(line, value)| {
            let shown = text.lines().nth(line - 1).unwrap_or_default().trim_end().to_owned();
            Found { stand: Stand { value: value.to_json().to_string(), own: own.is_some() }, line, text: shown }
        }))
    }

    /// An error for a setting that no release knows; why there is nothing, for one that it does.
    fn never(&self, setting: &str) -> Result<(), LeaderError> {
        let last = self.store.last_number()?;
        if last == 0 {
            return Err(crate::history::unknown_revision(1, 0));
        }
        let source = self.source(last)?;
        let (settings, _) = schema::read(source.text(schema::FILE).ok().flatten().unwrap_or_default());
        let why = match settings.by_name.get(setting) {
            Some(known) if known.secret.is_some() => "is a secret: those never stand in platform.yml",
            Some(_) => return Ok(()),
            None => {
                let near = nearest(setting, settings.by_name.keys().map(String::as_str));
                return Err(LeaderError::Unknown(format!("no revision has a setting {setting}{near}")));
            }
        };
        Err(LeaderError::Unknown(format!("{setting} {why} (lockstep secrets list)")))
    }
}

/// A setting in a mapping: its line, and its value.
fn entry<'n>(node: &'n Node, setting: &str) -> Option<(usize, &'n Node)> {
    node.map()?.iter().find(|(key, _)| key.text == setting).map(|(key, value)| (key.at.0, value))
}
