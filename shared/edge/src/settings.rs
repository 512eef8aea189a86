//! Configuration files: JSON, with every value overridable from the environment.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::io;
use std::path::{Path, PathBuf};

/// Why a configuration file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("{path} can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("{path} is not valid JSON: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A value is unknown, missing or of the wrong type.
    #[error("{path}: {setting}: {why}{from}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The value's place, e.g. `http.port`.
        setting: String,
        /// What is wrong.
        why: String,
        /// The environment variables that took part, if any.
        from: String,
    },
}

/// Reads `path` and lays `LOCKSTEP_A__B=value` over `{"a": {"b": ...}}`.
/// A variable's words are matched to keys without regard to case, `_` and `-`;
/// a key that isn't there yet is spelt in camelCase (`DATA_FOLDER`: `dataFolder`).
pub fn load<T: DeserializeOwned>(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let value = serde_json::from_str(&text).map_err(|source| ConfigError::Json { path: path.to_owned(), source })?;
    with_env(path, value, env)
}

/// The same where `path` does not exist: what the environment says, over the defaults.
pub fn from_env<T: DeserializeOwned>(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    with_env(path, Value::Object(Map::new()), env)
}

fn with_env<T: DeserializeOwned>(
    path: &Path,
    mut value: Value,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let names = overlay(&mut value, env);
    serde_path_to_error::deserialize(value).map_err(|error| ConfigError::Value {
        path: path.to_owned(),
        setting: error.path().to_string(),
        why: plain(&error.inner().to_string(), &error.path().to_string()),
        from: if names.is_empty() {
            String::new()
        } else {
            format!(" (with {} from the environment)", names.join(", "))
        },
    })
}

/// What is wrong with a number, without the names of types.
fn plain(why: &str, setting: &str) -> String {
    let number = match setting.rsplit('.').next() {
        Some("port") => "a whole number from 0 to 65535",
        _ => "a whole number from 0",
    };
    if why == "invalid number" {
        return format!("it is too large, too small or no whole number: write {number}");
    }
    let types = ["u16", "u32", "u64", "usize"].map(|name| format!("expected {name}"));
    types.iter().fold(why.to_owned(), |why, name| why.replace(name, &format!("expected {number}")))
}

fn overlay(value: &mut Value, env: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let mut names = Vec::new();
    for (name, text) in env {
        let Some(path) =
            name.strip_prefix("LOCKSTEP_").filter(|rest| rest.contains("__") && !rest.starts_with("SECRET_"))
        else {
            continue;
        };
        let mut place = &mut *value;
        for word in path.split("__") {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(map) = place else { break };
            let key = map.keys().find(|key| bare(key) == bare(word)).cloned().unwrap_or_else(|| camel(word));
            place = map.entry(key).or_insert(Value::Null);
        }
        *place = match serde_json::from_str(&text) {
            Ok(parsed) => parsed,
            Err(_) => Value::String(text),
        };
        names.push(name);
    }
    names.sort();
    names
}

fn bare(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

fn camel(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut upper = false;
    for c in word.chars() {
        match c {
            '_' => upper = true,
            _ if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            _ => out.extend(c.to_lowercase()),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Config {
        http: Http,
        data_folder: Option<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Http {
        port: u16,
    }

    fn read(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        std::fs::write(&path, text).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(&path, env).map_err(|error| error.to_string().replace(&path.display().to_string(), "c.json"))
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let config =
            read(r#"{"http": {"port": 1}}"#, &[("LOCKSTEP_HTTP__PORT", "2"), ("LOCKSTEP_ROOT", "/x")]).unwrap();
        assert_eq!(config.http.port, 2);
        assert!(read(r#"{"http": {}}"#, &[("LOCKSTEP_HTTP__PORT", "x")]).unwrap_err().contains("LOCKSTEP_HTTP__PORT"));
    }

    #[test]
    fn errors_name_the_place() {
        let unknown = read(r#"{"http": {"port": 1, "prot": 2}}"#, &[]).unwrap_err();
        assert!(unknown.starts_with("c.json: http.prot: unknown field `prot`"), "{unknown}");
        let typed = read(r#"{"http": {"port": "x"}}"#, &[]).unwrap_err();
        assert!(typed.starts_with("c.json: http.port: invalid type"), "{typed}");
        assert!(typed.contains("expected a whole number from 0 to 65535"), "{typed}");
        let large = read(r#"{"http": {"port": 99999}}"#, &[]).unwrap_err();
        assert!(large.contains("http.port") && large.contains("from 0 to 65535"), "{large}");
        assert!(read("{", &[]).unwrap_err().contains("line 1"));
    }
}
