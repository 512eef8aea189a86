//! The desk at which `platform.yml` is looked at and edited, with or without a
//! running leader. One writer at a time, under a lock; the file is replaced
//! only if it still is what the edit was made from.

mod error;
pub(crate) mod file;
mod state;

use crate::config::Config;
use crate::fault::{Fault, Faults, nearest};
use crate::memo::{Compiled, Memo};
use crate::platform::edit::Draft;
use crate::platform::schema::{self, Setting, Settings};
use crate::platform::{Platform, words};
use crate::release::{self, Release};
use crate::render::Machine;
use crate::snippet;
use crate::source::{PLATFORM, Source, TEMPLATES, utf8};
use crate::uses::{FileSettings, SettingUses, Uses};
use crate::yaml::Node;
use lockstep_shared::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use utoipa::ToSchema;

pub use error::{DeskError, Moved};
use state::etag;
pub use state::{MachineValue, SettingState, ValueSource};

/// How often an edit is made anew because a text editor was faster.
const TRIES: usize = 1000;

/// Looks at and edits one platform's settings.
#[derive(Debug, Clone)]
pub struct Desk {
    config: Config,
}

/// What an edit did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Edited {
    /// The setting.
    pub name: String,
    /// For this machine; left out: for the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Whether the file is another one now.
    pub changed: bool,
    /// What was written there before.
    pub before: Option<Value>,
    /// What is written there now.
    pub after: Option<Value>,
    /// In which line.
    pub line: Option<usize>,
    /// What stands there now: for `If-Match`.
    pub etag: String,
}

/// A value as it comes in.
#[derive(Debug, Clone)]
pub enum Wish {
    /// Words that a person typed.
    Words(String),
    /// A JSON value.
    Json(Value),
    /// None: back to the default.
    Unset,
}

/// What an edit is made from.
struct Look {
    settings: Settings,
    platform: Platform,
    faults: Vec<Fault>,
}

impl Desk {
    /// Of the platform that this configuration is of.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Waits for a turn to edit while no leader runs, and has it until the file is closed.
    pub fn turn(&self) -> Result<fs::File, DeskError> {
        file::turn(&self.config)
    }

    /// Every setting, in the release's order; as one machine sees it, or the platform.
    pub fn list(&self, machine: Option<&str>) -> Result<Vec<SettingState>, DeskError> {
        let look = self.look()?;
        if let Some(machine) = machine {
            self.known_machine(machine)?;
        }
        Ok(state::states(&look, machine, |_| true))
    }

    /// One setting.
    pub fn get(&self, name: &str, machine: Option<&str>) -> Result<SettingState, DeskError> {
        let look = self.look()?;
        known(&look.settings, name)?;
        if let Some(machine) = machine {
            self.known_machine(machine)?;
        }
        let mut states = state::states(&look, machine, |other| other == name);
        states.pop().ok_or_else(|| DeskError::Unknown(format!("unknown setting {name}")))
    }

    /// A setting's value on every declared machine.
    pub fn on_machines(&self, name: &str) -> Result<Vec<MachineValue>, DeskError> {
        let look = self.look()?;
        known(&look.settings, name)?;
        let value = |machine: Machine| {
            let mut states = state::states(&look, Some(machine.name.as_str()), |other| other == name);
            let state = states.pop()?;
            Some(MachineValue {
                machine: machine.name.to_string(),
                value: state.value,
                source: state.source,
                line: state.line,
            })
        };
        Ok(self.machines().into_iter().filter_map(value).collect())
    }

    /// The JSON Schema of `platform.yml`, for editors.
    pub fn schema(&self) -> Result<Value, DeskError> {
        let (settings, _, _) = self.settings()?;
        let machines: Vec<String> = self.machines().iter().map(|machine| machine.name.to_string()).collect();
        Ok(crate::platform::editor::schema(&settings, &machines))
    }

    /// Where a setting goes.
    pub fn uses(&self, name: &str) -> Result<SettingUses, DeskError> {
        self.release(|uses, settings| {
            known(settings, name)?;
            Ok(uses.of(name))
        })
    }

    /// The settings that no file is made from.
    pub fn unused(&self) -> Result<Vec<String>, DeskError> {
        self.release(|uses, _| Ok(uses.unused()))
    }

    /// The settings that files are made from: of all, or of those whose path or template name it is.
    pub fn files(&self, wanted: Option<&str>) -> Result<Vec<FileSettings>, DeskError> {
        let files = self.release(|uses, _| Ok(uses.by_file()))?;
        let Some(wanted) = wanted else { return Ok(files) };
        let trimmed = wanted.trim_start_matches("./");
        let fits = |file: &FileSettings| {
            file.path == trimmed || file.template == trimmed || format!("{}/{}", file.role, file.path) == trimmed
        };
        let found: Vec<FileSettings> = files.iter().filter(|file| fits(file)).cloned().collect();
        if found.is_empty() {
            let near = nearest(trimmed, files.iter().map(|file| file.path.as_str()));
            return Err(DeskError::Unknown(format!(
                "no rendered file is called {wanted}{near}; lockstep settings uses --file takes a path as followers write it, or a template's name"
            )));
        }
        Ok(found)
    }

    fn release<T>(&self, look: impl FnOnce(&Uses<'_>, &Settings) -> Result<T, DeskError>) -> Result<T, DeskError> {
        let source = Source::read(&self.config.platform, &self.config.templates)?;
        let machines = self.machines();
        let release =
            Release::compile_naming(&source, &machines, &self.config.members.disabled(), &mut Memo::default());
        let Compiled { settings, templates, .. } = &*release.compiled;
        look(&Uses::new(settings, &release.platform, templates, &machines), settings)
    }

    /// Sets or unsets a value. `tags`: refuse unless what is written has one of
    /// these; `seen`: unless it is this.
    pub fn edit(
        &self,
        name: &str,
        machine: Option<&str>,
        wish: &Wish,
        tags: Option<&[String]>,
        seen: Option<&Value>,
    ) -> Result<Edited, DeskError> {
        let _lock = file::lock(&self.config)?;
        for _ in 0..TRIES {
            let file = file::open(&self.config)?;
            let look = self.look_at(&file.text)?;
            let setting = known(&look.settings, name)?;
            self.editable(name, setting, machine, wish)?;
            let path = path_of(name, machine);
            let mut draft = Draft::new(PLATFORM, &file.text).map_err(|fault| Fault {
                what: format!("{}; nothing was changed: correct the file by hand first", fault.what),
                ..fault
            })?;
            let before = draft.get(&path);
            // A secret's value that stands there by mistake is taken out and not told.
            let secret = setting.secret.is_some();
            let before_json = before.as_ref().filter(|_| !secret).map(Node::to_json);
            let tag = etag(before.as_ref());
            if tags.is_some_and(|tags| !tags.contains(&tag))
                || seen.is_some_and(|seen| before_json.as_ref() != Some(seen))
            {
                let line = line_of(&file.text, name, machine);
                return Err(DeskError::Moved(Box::new(Moved {
                    name: name.to_owned(),
                    machine: machine.map(str::to_owned),
                    now: before_json,
                    line,
                    etag: tag,
                    seen: seen.cloned(),
                })));
            }
            match wish {
                Wish::Unset => {
                    draft.remove(&path)?;
                    if let Some(machine) = machine {
                        draft.prune(&["machines", machine])?;
                        draft.prune(&["machines"])?;
                    }
                }
                Wish::Words(words) => {
                    let value = words::read(words, &setting.schema)
                        .map_err(|what| DeskError::Refused(format!("{name}: {what}; nothing was written")))?;
                    draft.set(&path, &value)?;
                }
                Wish::Json(value) => draft.set(&path, &words::from_json(value, &setting.schema))?,
            }
            let changed = draft.text() != file.text;
            if changed {
                self.check(&look, draft.text(), name)?;
                if !file::replace(&file, draft.text())? {
                    continue;
                }
            }
            let after = draft.get(&path);
            return Ok(Edited {
                name: name.to_owned(),
                machine: machine.map(str::to_owned),
                changed,
                before: before_json,
                line: line_of(draft.text(), name, machine),
                etag: etag(after.as_ref()),
                after: after.as_ref().filter(|_| !secret).map(Node::to_json),
            });
        }
        Err(DeskError::Refused(format!(
            "{PLATFORM} changed each of the {TRIES} times that this was about to be written: which program writes it all the time?"
        )))
    }

    /// Puts a whole new text in the place of the one that `old` was.
    pub fn replace_text(&self, old: &str, new: &str) -> Result<(), DeskError> {
        let _lock = file::lock(&self.config)?;
        let file = file::open(&self.config)?;
        if file.text != old || !file::replace(&file, new)? {
            return Err(DeskError::Refused(format!(
                "{PLATFORM} changed in the meantime; nothing was written: run the command again"
            )));
        }
        Ok(())
    }

    /// What `validate` would say of the new text and didn't of the old one.
    fn check(&self, look: &Look, text: &str, name: &str) -> Result<(), DeskError> {
        let machines = self.machines();
        let disabled = self.config.members.disabled();
        let names = machines.iter().map(|machine| &machine.name).chain(&disabled);
        let names: Vec<&str> = names.map(Name::as_str).collect();
        let all = |platform: &Platform, mut faults: Vec<Fault>| {
            faults.extend(platform.wrong(&look.settings));
            faults
        };
        let before = all(&look.platform, look.faults.clone());
        let (platform, faults) = Platform::read(text, &look.settings, &names);
        let new = |fault: &Fault| {
            fault.setting.as_deref() == Some(name)
                || !before.iter().any(|old| (&old.setting, &old.what) == (&fault.setting, &fault.what))
        };
        let mut wrong: Vec<Fault> = all(&platform, faults).into_iter().filter(new).collect();
        wrong.retain(|fault| fault.file == PLATFORM || fault.setting.as_deref() == Some(name));
        snippet::show(&mut wrong, |file| (file == PLATFORM).then(|| text.to_owned()), &look.settings);
        Faults(wrong).check().map_err(DeskError::Rejected)
    }

    fn editable(&self, name: &str, setting: &Setting, machine: Option<&str>, wish: &Wish) -> Result<(), DeskError> {
        let refused = |what: String| Err(DeskError::Refused(what));
        let unset = matches!(wish, Wish::Unset);
        if setting.secret.is_some() && !unset {
            return refused(format!(
                "{name} is a secret and never stands in {PLATFORM}: give it with lockstep secrets set {name}"
            ));
        }
        if let Some(machine) = machine.filter(|_| !unset) {
            if !setting.overridable {
                return refused(format!(
                    "{name} can't differ from machine to machine (it is not marked overridable in {}): set it for all with lockstep settings set {name} VALUE",
                    schema::FILE
                ));
            }
            self.known_machine(machine)?;
        }
        if unset && machine.is_none() && setting.default.is_none() && !setting.optional && setting.secret.is_none() {
            return refused(format!(
                "{name} is required and has no default: give it another value with lockstep settings set {name} VALUE"
            ));
        }
        Ok(())
    }

    fn known_machine(&self, machine: &str) -> Result<(), DeskError> {
        let machines = self.machines();
        if machines.iter().any(|known| known.name.as_str() == machine) {
            return Ok(());
        }
        let near = nearest(machine, machines.iter().map(|known| known.name.as_str()));
        Err(DeskError::Unknown(format!("no machine is called {machine}{near}; lockstep status lists them")))
    }

    fn machines(&self) -> Vec<Machine> {
        release::machines(&self.config)
    }

    /// The release's settings, what is wrong with them, and their text.
    fn settings(&self) -> Result<(Settings, Vec<Fault>, String), DeskError> {
        let path = self
            .config
            .templates
            .join(schema::FILE.strip_prefix(TEMPLATES).unwrap_or_default().trim_start_matches('/'));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(DeskError::Io { path, source }),
        };
        let text = utf8(schema::FILE, &bytes)?.to_owned();
        let (settings, mut faults) = schema::read(&text);
        if settings.by_name.is_empty() && !faults.is_empty() {
            snippet::show(&mut faults, |_| Some(text.clone()), &settings);
            return Err(Faults(faults).into());
        }
        Ok((settings, faults, text))
    }

    fn look(&self) -> Result<Look, DeskError> {
        let file = file::open(&self.config)?;
        self.look_at(&file.text)
    }

    fn look_at(&self, text: &str) -> Result<Look, DeskError> {
        let (settings, _, _) = self.settings()?;
        let machines = self.machines();
        let disabled = self.config.members.disabled();
        let names = machines.iter().map(|machine| &machine.name).chain(&disabled);
        let names: Vec<&str> = names.map(Name::as_str).collect();
        let (platform, mut faults) = Platform::read(text, &settings, &names);
        if platform.is_unread() {
            snippet::show(&mut faults, |_| Some(text.to_owned()), &settings);
            return Err(Faults(faults).into());
        }
        Ok(Look { settings, platform, faults })
    }
}

fn path_of<'p>(name: &'p str, machine: Option<&'p str>) -> Vec<&'p str> {
    match machine {
        None => vec!["settings", name],
        Some(machine) => vec!["machines", machine, name],
    }
}

fn known<'s>(settings: &'s Settings, name: &str) -> Result<&'s Setting, DeskError> {
    settings.by_name.get(name).ok_or_else(|| {
        let near = nearest(name, settings.by_name.keys().map(String::as_str));
        DeskError::Unknown(format!("unknown setting {name}{near}; lockstep settings list shows all"))
    })
}

/// The line in which a setting stands.
fn line_of(text: &str, name: &str, machine: Option<&str>) -> Option<usize> {
    let root = crate::yaml::parse(PLATFORM, text).ok()?;
    let section = match machine {
        None => root.get("settings")?,
        Some(machine) => root.get("machines")?.get(machine)?,
    };
    section.map()?.iter().find(|(key, _)| key.text == name).map(|(key, _)| key.at.0)
}
