//! Leaders that one person steers, by name: `contexts.toml` in
//! `$XDG_CONFIG_HOME/lockstep` (`~/.config/lockstep`), its owner's alone, since
//! tokens may stand in it.

use crate::exit::{Failed, failed};
use lockstep_edge::durable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All of them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that counts where nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One leader elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its admin listener.
    pub(crate) url: String,
    /// The file with the API token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The API token itself, where there is no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The authorities that are believed and no others, PEM; without, those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
}

/// Where the file is; `None` where there is neither `XDG_CONFIG_HOME` nor `HOME`.
pub(crate) fn place() -> Option<PathBuf> {
    let env = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home =
        env("XDG_CONFIG_HOME").filter(|path| path.is_absolute()).or_else(|| Some(env("HOME")?.join(".config")))?;
    Some(home.join("lockstep/contexts.toml"))
}

impl Contexts {
    /// Reads the file; none where there is none.
    pub(crate) fn load() -> Result<Self, Failed> {
        let Some(path) = place().filter(|path| path.exists()) else { return Ok(Self::default()) };
        lockstep_edge::key::refuse_loose(&path)?;
        let text = std::fs::read_to_string(&path).map_err(|error| failed(format!("{}: {error}", path.display())))?;
        toml::from_str(&text).map_err(|error| {
            failed(format!(
                "{} can't be read: {}; correct it, or remove it and add the contexts again (lockstep context add)",
                path.display(),
                // Without the line itself, which may hold a token.
                error.message()
            ))
        })
    }

    /// Writes the file, mode 0600.
    pub(crate) fn save(&self) -> Result<(), Failed> {
        let path =
            place().ok_or_else(|| failed("neither HOME nor XDG_CONFIG_HOME is set: there is no place for contexts"))?;
        if let Some(folder) = path.parent() {
            durable::private_folder(folder).map_err(|error| failed(format!("{}: {error}", folder.display())))?;
        }
        let text = toml::to_string(self).map_err(|error| failed(format!("the contexts can't be written: {error}")))?;
        durable::replace(&path, text.as_bytes(), 0o600).map_err(|error| failed(format!("{}: {error}", path.display())))
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Failed> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let known = known.join(", ");
            failed(match known.as_str() {
                "" => format!("there is no context {name:?}, and no other: lockstep context add {name} URL"),
                known => format!("there is no context {name:?}: there are {known} (lockstep context list)"),
            })
        })
    }
}

/// Whether a text can be a context's name.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if fits { Ok(text.to_owned()) } else { Err("a name is of letters, digits, '-', '_' and '.'".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let context = Context {
            url: "https://leader.example.com".into(),
            token: Some("lockstep_x".into()),
            ca: Some("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n".into()),
            ..Context::default()
        };
        let contexts =
            Contexts { current: Some("prod".into()), contexts: BTreeMap::from([("prod".to_owned(), context)]) };
        assert_eq!(toml::from_str::<Contexts>(&toml::to_string(&contexts).unwrap()).unwrap(), contexts);
        assert!(contexts.get("test").unwrap_err().0.contains("there are prod"));
        assert!(name("prod-1").is_ok() && name("a/b").is_err() && name("").is_err());
    }
}
