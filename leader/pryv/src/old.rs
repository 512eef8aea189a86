//! An installation of the original, read and never written: its configuration,
//! platform files and template tree.

use crate::ImportError;
use crate::js::Js;
use crate::live;
use crate::recover;
use crate::table::Rules;
use crate::tree::{self, OldRole};
use crate::vars::Vars;
use crate::verify::Conf;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// All that is taken over.
#[derive(Debug)]
pub struct Old {
    /// `http.ip` and `http.port` of its leader.
    pub http: (Option<String>, Option<u64>),
    /// Secrets by name.
    pub internals: Vec<(String, Js)>,
    /// Followers in the file's order.
    pub followers: Vec<OldFollower>,
    /// `platform.yml`.
    pub platform: Vars,
    /// `template-platform.yml`, where there is one.
    pub template: Option<Vars>,
    /// By role.
    pub roles: Vec<OldRole>,
    /// What stands beside the roles' folders and is none.
    pub others: Vec<String>,
    /// `config-follower.json` on the same machine.
    pub follower: Option<OldFollowerConfig>,
    /// Secrets that the original makes up at each start, and whose values nobody said yet.
    pub made_up: BTreeSet<String>,
    /// Those whose values were read off what it served.
    pub recovered: BTreeSet<String>,
}

/// A follower as the leader knows it.
#[derive(Debug, Clone)]
pub struct OldFollower {
    /// What it identified itself with.
    pub key: String,
    /// Its role.
    pub role: String,
    /// Where the leader reached it.
    pub url: Option<String>,
}

/// A follower's own configuration.
#[derive(Debug, Clone)]
pub struct OldFollowerConfig {
    /// Where it reached the leader.
    pub leader_url: Option<String>,
    /// What it identified itself with.
    pub key: Option<String>,
}

impl Old {
    /// Reads an installation: `config-leader/conf/...` below the folder, or the
    /// same files in `conf/` or in the folder itself.
    pub fn read(folder: &Path) -> Result<Self, ImportError> {
        let (conf, home) = places(folder)?;
        let path = conf.join("config-leader.json");
        let config = json(&path)?;
        let named = |key: &str, default: &str| {
            let given = config["platformSettings"][key].as_str().and_then(|path| Path::new(path).file_name());
            given.map(|name| conf.join(name)).filter(|path| path.is_file()).unwrap_or_else(|| conf.join(default))
        };
        let platform_path = named("platformConfig", "platform.yml");
        let platform = fs::read(&platform_path).map_err(|error| ImportError::read(&platform_path, error))?;
        let template_path = named("platformTemplate", "template-platform.yml");
        let template = match fs::read(&template_path) {
            Ok(bytes) => Some(Vars::read(&template_path, &bytes)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(ImportError::read(&template_path, error)),
        };
        let (followers, follower) = (followers(&path, &config)?, follower(folder)?);
        let wanted = followers.iter().map(|follower| follower.role.as_str()).collect();
        let (mut roles, others) = tree::read(&home.join("data"), &wanted)?;
        if let Some(role) = role_here(&followers, follower.as_ref())
            .and_then(|here| roles.iter_mut().find(|role| role.name.as_str() == here))
        {
            role.live = live::read(&folder.join("pryv"), role.files.iter().map(|file| &file.path))?;
        }
        let internals = match Js::of_json(&config["internals"]) {
            Js::Map(entries) => entries,
            _ => Vec::new(),
        };
        let mut old = Self {
            made_up: recover::made_up(&internals),
            recovered: BTreeSet::new(),
            internals,
            http: (config["http"]["ip"].as_str().map(str::to_owned), config["http"]["port"].as_u64()),
            followers,
            platform: Vars::read(&platform_path, &platform)?,
            template,
            roles,
            others,
            follower,
        };
        let live: Vec<(String, String)> = old.live_texts().collect();
        old.recover(&live)?;
        Ok(old)
    }

    /// Templates of the role that this machine has, with what became of them.
    fn live_texts(&self) -> impl Iterator<Item = (String, String)> {
        let files = self.roles.iter().flat_map(|role| role.files.iter().map(move |file| (role, file)));
        files.filter_map(|(role, file)| {
            let live = role.live.get(&file.path)?;
            Some((file.text.clone(), String::from_utf8(live.bytes.clone()).ok()?))
        })
    }

    /// Takes over what a running original serves, as far as secrets are in it that only it knows.
    pub fn learn(&mut self, conf: &Conf) -> Result<(), ImportError> {
        let files = self.roles.iter().flat_map(|role| &role.files);
        let pairs = files.flat_map(|file| {
            let served = conf.files.iter().filter(|served| served.path.trim_start_matches('/') == file.path.as_str());
            served.map(|served| (file.text.clone(), served.content.clone()))
        });
        let pairs: Vec<(String, String)> = pairs.collect();
        self.recover(&pairs)
    }

    /// From templates and what became of them.
    fn recover(&mut self, pairs: &[(String, String)]) -> Result<(), ImportError> {
        if self.made_up.is_empty() {
            return Ok(());
        }
        let table = self.table(Rules::ORIGINAL)?;
        for (template, served) in pairs {
            for (name, value) in recover::from_file(&table, &self.made_up, template, served) {
                if let Some((_, known)) = self.internals.iter_mut().find(|(known, _)| *known == name) {
                    *known = Js::Text(value);
                }
                self.recovered.insert(name);
            }
        }
        self.made_up.retain(|name| !self.recovered.contains(name));
        Ok(())
    }
}

/// The role of the machine whose installation is read, where that can be told.
fn role_here<'f>(followers: &'f [OldFollower], own: Option<&OldFollowerConfig>) -> Option<&'f str> {
    let key = own.and_then(|own| own.key.as_deref());
    let here = followers.iter().find(|follower| Some(follower.key.as_str()) == key);
    let only = (followers.len() == 1).then(|| followers.first()).flatten();
    here.or(only).map(|follower| follower.role.as_str())
}

/// The folder of the configuration, and the one beside whose `data/` it lies.
fn places(folder: &Path) -> Result<(PathBuf, PathBuf), ImportError> {
    let leader = folder.join("config-leader");
    let ways = [
        (leader.join("conf"), leader),
        (folder.join("conf"), folder.to_owned()),
        (folder.to_owned(), folder.to_owned()),
    ];
    let found = ways.into_iter().find(|(conf, _)| conf.join("config-leader.json").is_file());
    found.ok_or_else(|| {
        ImportError::at(
            folder,
            "there is no config-leader/conf/config-leader.json: give the folder that $PRYV_CONF_ROOT named on the leader's machine",
        )
    })
}

fn json(path: &Path) -> Result<Value, ImportError> {
    let bytes = fs::read(path).map_err(|error| ImportError::read(path, error))?;
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    serde_json::from_slice(bytes).map_err(|error| {
        ImportError::at(path, format!("line {}, column {}: not valid JSON", error.line(), error.column()))
    })
}

fn followers(path: &Path, config: &Value) -> Result<Vec<OldFollower>, ImportError> {
    let Js::Map(all) = Js::of_json(&config["followers"]) else { return Ok(Vec::new()) };
    all.into_iter()
        .map(|(key, body)| {
            let text = |name: &str| body.get(name).and_then(Js::text).map(str::to_owned);
            let role = text("role").ok_or_else(|| ImportError::at(path, "a follower has no role"))?;
            Ok(OldFollower { key, role, url: text("url") })
        })
        .collect()
}

fn follower(folder: &Path) -> Result<Option<OldFollowerConfig>, ImportError> {
    let ways = [folder.join("config-follower/conf/config-follower.json"), folder.join("config-follower.json")];
    let Some(path) = ways.into_iter().find(|path| path.is_file()) else { return Ok(None) };
    let config = json(&path)?;
    let text = |name: &str| config["leader"][name].as_str().map(str::to_owned);
    Ok(Some(OldFollowerConfig { leader_url: text("url"), key: text("auth") }))
}
