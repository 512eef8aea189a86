//! Who gave a setting the value that it has in `platform.yml`, and all the
//! values it had before.

use crate::fault::nearest;
use crate::history::{Entry, History};
use crate::leader::LeaderError;
use crate::platform::schema;
use crate::source::PLATFORM;
use crate::store::Head;
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
        loop {
            let heads = self.store.heads(before, None, STRIDE)?;
            let Some(last) = heads.last() else { break };
            before = last.number;
            for head in heads {
                let named = |of: Option<&str>| {
                    head.edited.iter().any(|edited| edited.setting == setting && edited.machine.as_deref() == of)
                };
                let own = machine.is_some() && named(machine);
                if !own && !named(None) {
                    continue;
                }
                let change = self.blamed(head, setting, machine)?;
                // Everybody's value changed, and the machine went on with its own.
                if change.own && !own {
                    continue;
                }
                if blame.changes.len() == limit {
                    blame.more = true;
                    return Ok(blame);
                }
                blame.changes.push(change);
            }
        }
        if blame.changes.is_empty() {
            self.never(setting)?;
        }
        Ok(blame)
    }

    fn blamed(&self, head: Head, setting: &str, machine: Option<&str>) -> Result<Blamed, LeaderError> {
        let bytes = self.store.platform(&head)?.unwrap_or_else(|| Vec::new().into());
        let text = String::from_utf8_lossy(&bytes);
        let node = yaml::parse(PLATFORM, &text).ok();
        let under = |key: &str| node.as_ref()?.get(key);
        let own = machine.and_then(|machine| entry(under("machines")?.get(machine)?, setting));
        let found = own.or_else(|| entry(under("settings")?, setting));
        let line = found.map(|(line, _)| line);
        let shown = line.and_then(|line| text.lines().nth(line - 1));
        Ok(Blamed {
            revision: self.entry(head),
            own: own.is_some(),
            value: found.map(|(_, value)| self.mask(&value.to_json().to_string())),
            line,
            text: shown.map(|text| self.mask(text.trim_end())),
        })
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
