//! `config-follower.json` (`docs/files.md`): read loosely, then turned into
//! a value that can't be wrong. Knows no other file.

use lockstep_edge::key::{self, KeyError};
use lockstep_edge::settings::ConfigError;
use lockstep_edge::tls::{self, Certificate};
use lockstep_edge::{Limits, settings};
use lockstep_shared::{Key, Name, OnDrift};
use serde::Deserialize;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the file is, below the follower's root.
pub const FILE: &str = "config-follower/conf/config-follower.json";

/// How this follower runs. Every path is absolute.
#[derive(Debug)]
pub struct Config {
    /// The follower's home.
    pub root: PathBuf,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether TLS is spoken there.
    pub tls: bool,
    /// The leader's address.
    pub leader_url: String,
    /// Its further addresses, tried when the first doesn't answer.
    pub others: Vec<String>,
    /// The file with the authorities that are pinned.
    pub ca: Option<PathBuf>,
    /// What stands in it; `None` where nothing is pinned.
    pub authorities: Option<Vec<Certificate>>,
    /// This follower's name, which is its key's name as well.
    pub name: Name,
    /// The key it shares with the leader.
    pub key: Key,
    /// The file that it is in; `None` where it stands in the configuration itself.
    pub key_file: Option<PathBuf>,
    /// What it writes below.
    pub data_folder: PathBuf,
    /// Its own memory.
    pub state_folder: PathBuf,
    /// The engine; `None` is a machine without one.
    pub docker: Option<Docker>,
    /// What happens to files that somebody else changes, where their role says nothing.
    pub on_drift: OnDrift,
    /// Bounds of its listener.
    pub limits: Limits,
}

/// The engine and the one compose project that is this follower's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Docker {
    /// `unix://...`, `tcp://...` or `http://...`.
    pub host: String,
    /// The compose project; containers of no other are touched.
    pub project: String,
    /// How long a container without healthcheck or known port must stay up to count as running.
    pub settle: Duration,
    /// The compose tool, where it isn't to be looked for.
    pub compose: Option<PathBuf>,
}

/// Why the follower can't run with its configuration.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// The root is not there.
    #[error(
        "the follower's home {path} can't be entered: {source}; name the right one with --root, or write {path}/config-follower/conf/config-follower.json there (docs/files.md)"
    )]
    Root {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can't be used.
    #[error("{0}")]
    File(#[from] ConfigError),
    /// The key can't be used.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// A value is of the right type and still wrong.
    #[error("{path}: {setting}: {why}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The value's place.
        setting: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Loose {
    #[serde(default)]
    http: LooseHttp,
    leader: LooseLeader,
    #[serde(default)]
    paths: LoosePaths,
    #[serde(default = "LooseDocker::local")]
    docker: Option<LooseDocker>,
    #[serde(default = "repair")]
    drift: OnDrift,
    #[serde(default)]
    limits: Limits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct LooseHttp {
    ip: IpAddr,
    port: u16,
    tls: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LooseLeader {
    url: String,
    name: Name,
    key: Option<String>,
    key_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    #[serde(default)]
    others: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct LoosePaths {
    data_folder: PathBuf,
    state: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct LooseDocker {
    host: String,
    project: Option<String>,
    settle_seconds: f64,
    compose: Option<PathBuf>,
}

impl Default for LooseHttp {
    fn default() -> Self {
        Self { ip: Ipv4Addr::LOCALHOST.into(), port: 6000, tls: false }
    }
}

impl Default for LoosePaths {
    fn default() -> Self {
        Self { data_folder: "pryv".into(), state: "state".into() }
    }
}

impl Default for LooseDocker {
    fn default() -> Self {
        Self { host: "unix:///var/run/docker.sock".to_owned(), project: None, settle_seconds: 2.0, compose: None }
    }
}

fn repair() -> OnDrift {
    OnDrift::Repair
}

impl LooseDocker {
    #[allow(clippy::unnecessary_wraps)] // serde's default has the field's own type
    fn local() -> Option<Self> {
        Some(Self::default())
    }
}

/// Reads the configuration below `root`, with `LOCKSTEP_A__B` of `env` laid over it.
pub fn load(root: &Path, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, BadConfig> {
    let root = root.canonicalize().map_err(|source| BadConfig::Root { path: root.to_owned(), source })?;
    let path = root.join(FILE);
    let loose: Loose = settings::load(&path, env)?;
    if loose.leader.key.is_some() {
        key::refuse_loose(&path)?;
    }
    let leader = loose.leader;
    let key = key::load("leader", leader.key.as_deref(), leader.key_file.as_deref(), &root)?;
    let data_folder = root.join(loose.paths.data_folder);
    let state_folder = root.join(loose.paths.state);
    let wrong = |setting, why: String| Err(BadConfig::Value { path: path.clone(), setting, why });
    if data_folder.starts_with(&state_folder) || state_folder.starts_with(&data_folder) {
        return wrong("paths", "dataFolder and state must lie beside each other, not one within the other".to_owned());
    }
    let ca = leader.ca.map(|file| root.join(file));
    let authorities = match ca.as_deref().map(pinned).transpose() {
        Ok(authorities) => authorities,
        Err(why) => return wrong("leader.ca", why),
    };
    let addresses =
        std::iter::once(("leader.url", &leader.url)).chain(leader.others.iter().map(|url| ("leader.others", url)));
    let with_tls = authorities.is_some() || leader.url.starts_with("https://");
    for (setting, url) in addresses {
        match lockstep_edge::client::address(url) {
            Some(address) if address.https || !with_tls => {}
            Some(_) if authorities.is_some() => {
                return wrong(setting, format!("{url} has no TLS, and leader.ca pins an authority: write https://"));
            }
            Some(_) => return wrong(setting, format!("{url} has no TLS, and leader.url has: write https://")),
            None => return wrong(setting, format!("{url:?} is not an http:// or https:// address")),
        }
    }
    let docker = match loose.docker.map(|docker| checked(docker, &data_folder)).transpose() {
        Ok(docker) => docker,
        Err((setting, why)) => return wrong(setting, why),
    };
    Ok(Config {
        listen: SocketAddr::new(loose.http.ip, loose.http.port),
        tls: loose.http.tls,
        leader_url: leader.url,
        others: leader.others,
        ca,
        authorities,
        name: leader.name,
        key,
        key_file: leader.key_file.map(|file| root.join(file)),
        data_folder,
        state_folder,
        docker,
        on_drift: loose.drift,
        limits: loose.limits,
        root,
    })
}

/// The authorities in a file.
fn pinned(path: &Path) -> Result<Vec<Certificate>, String> {
    let again = "take it from the leader (lockstep ca show --pem), or join again (lockstep join-platform)";
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{} can't be read: {error}; {again}", path.display()))?;
    tls::authorities(&text).map_err(|error| format!("{} can't be used: {error}; {again}", path.display()))
}

fn checked(docker: LooseDocker, data_folder: &Path) -> Result<Docker, (&'static str, String)> {
    let known = ["unix://", "tcp://", "http://"].iter().any(|scheme| docker.host.starts_with(scheme));
    if !known {
        return Err(("docker.host", format!("{:?} starts with none of unix://, tcp://, http://", docker.host)));
    }
    let settle = Duration::try_from_secs_f64(docker.settle_seconds)
        .ok()
        .filter(|settle| *settle <= Duration::from_mins(10))
        .ok_or(("docker.settleSeconds", "it must be from 0 to 600".to_owned()))?;
    let project = match docker.project {
        Some(project) if normalised(&project) == project && !project.is_empty() => project,
        Some(project) => {
            let why = format!("{project:?} is no compose project: lower-case letters, digits, '-' and '_'");
            return Err(("docker.project", why));
        }
        None => normalised(&data_folder.file_name().unwrap_or_default().to_string_lossy()),
    };
    Ok(Docker { host: docker.host, project, settle, compose: docker.compose })
}

/// A folder's name as compose turns it into a project's.
fn normalised(name: &str) -> String {
    let kept = name.chars().flat_map(char::to_lowercase);
    kept.filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_')).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn read(json: &str, mode: u32) -> Result<Config, String> {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(FILE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, json).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        load(root.path(), []).map_err(|error| error.to_string())
    }

    const LEADER: &str =
        r#""leader": {"url": "http://x", "name": "core-1", "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;

    const LEADER_WITH: &str = r#"{"leader": {"url": "https://x", "name": "core-1", "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", MORE}}"#;

    #[test]
    fn has_the_documented_defaults() {
        let config = read(&format!("{{{LEADER}}}"), 0o600).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:6000");
        assert_eq!(config.data_folder, config.root.join("pryv"));
        assert_eq!(config.on_drift, OnDrift::Repair);
        let docker = config.docker.unwrap();
        assert_eq!((docker.project.as_str(), docker.settle), ("pryv", Duration::from_secs(2)));
        assert!(read(&format!("{{{LEADER}, \"docker\": null}}"), 0o600).unwrap().docker.is_none());
    }

    #[test]
    fn refuses_what_is_wrong_and_says_where() {
        let cases = [
            (format!("{{{LEADER}}}"), 0o644, "chmod 600"),
            (format!("{{{LEADER}, \"x\": 1}}"), 0o600, "unknown field `x`"),
            (format!("{{{LEADER}, \"drift\": \"ignore\"}}"), 0o600, "expected `repair` or `report`"),
            (format!("{{{LEADER}, \"paths\": {{\"state\": \"pryv/state\"}}}}"), 0o600, "beside each other"),
            (format!("{{{LEADER}, \"docker\": {{\"project\": \"A b\"}}}}"), 0o600, "docker.project"),
            (format!("{{{LEADER}, \"docker\": {{\"host\": \"ssh://x\"}}}}"), 0o600, "docker.host"),
            (format!("{{{LEADER}, \"docker\": {{\"settleSeconds\": -1}}}}"), 0o600, "docker.settleSeconds"),
            (r#"{"leader": {"url": "http://x", "name": "core-1"}}"#.to_owned(), 0o600, "exactly one of"),
            (LEADER_WITH.replace("MORE", r#""ca": "none.pem""#), 0o600, "lockstep ca show --pem"),
            (
                LEADER_WITH.replace("MORE", r#""ca": "config-follower/conf/config-follower.json""#),
                0o600,
                "BEGIN CERTIFICATE",
            ),
            (LEADER_WITH.replace("MORE", r#""others": ["http://y"]"#), 0o600, "write https://"),
            (LEADER_WITH.replace("MORE", r#""others": ["y"]"#), 0o600, "leader.others"),
        ];
        for (json, mode, wanted) in cases {
            let error = read(&json, mode).expect_err(&json);
            assert!(error.contains(wanted), "{error}");
        }
    }
}
