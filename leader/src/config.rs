//! `config-leader/conf/config-leader.json`: how this leader runs and which
//! followers it has.

use crate::rollout::strategy::{BadStrategy, Strategy};
use crate::roster::Members;
use lockstep_edge::settings::{self, ConfigError};
use lockstep_edge::{Limits, key};
use lockstep_shared::{Key, Name};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file, below the root.
pub const FILE: &str = "config-leader/conf/config-leader.json";

/// The configuration; paths are absolute.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub http: Http,
    /// Where people are listened to beside the unix socket, if anywhere.
    pub admin: Option<AdminListener>,
    /// `platform.yml`.
    pub platform: PathBuf,
    /// The release's templates.
    pub templates: PathBuf,
    /// The store and the keys.
    pub state: PathBuf,
    /// Bounds on what comes in.
    pub limits: Limits,
    /// How long a follower may take to answer a push.
    pub notify_time: Duration,
    /// How revisions go out.
    pub rollout: Strategy,
    /// The declared followers.
    pub followers: BTreeMap<Name, Follower>,
    /// These and, once the store was read, those that joined.
    pub members: Members,
    /// How followers reach this leader, in the order to try; told to them.
    pub addresses: Vec<String>,
    /// How long certificates of the platform's own authority live, in seconds.
    pub certificate_seconds: i64,
    root: PathBuf,
}

/// A listen address. Port 0 takes a free one.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Http {
    /// The address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
    /// TLS by the platform's own authority is spoken.
    pub tls: bool,
    /// A proxy with TLS stands in front: `addresses` are its own.
    pub behind_proxy: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self { ip: IpAddr::from([127, 0, 0, 1]), port: 7000, tls: false, behind_proxy: false }
    }
}

/// Where people with API tokens are listened to.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AdminListener {
    /// The address.
    pub ip: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// A proxy with TLS stands in front: tokens don't travel in the clear, and
    /// the last address of `X-Forwarded-For` is who asks.
    pub behind_proxy: bool,
    /// TLS by the platform's own authority is spoken.
    pub tls: bool,
}

impl Default for AdminListener {
    fn default() -> Self {
        Self { ip: IpAddr::from([127, 0, 0, 1]), port: 7001, behind_proxy: false, tls: false }
    }
}

/// A declared follower.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Follower {
    /// The role whose configuration it gets.
    pub role: Name,
    /// Where it can be told at once; without, it follows by its long poll.
    pub url: Option<String>,
    /// Addresses that templates see as `machine.addresses`.
    #[serde(default)]
    pub addresses: Vec<String>,
    key: Option<Hidden>,
    key_file: Option<PathBuf>,
}

/// A text that is never shown.
#[derive(Clone, Deserialize)]
struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    http: Http,
    admin: Option<AdminListener>,
    #[serde(default)]
    paths: Paths,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    notify: Notify,
    #[serde(default)]
    rollout: Strategy,
    #[serde(default)]
    followers: BTreeMap<Name, Follower>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    authority: Authority,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Authority {
    days: f64,
}

impl Default for Authority {
    fn default() -> Self {
        Self { days: 90.0 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Paths {
    platform: PathBuf,
    templates: PathBuf,
    state: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self { platform: "platform.yml".into(), templates: "templates".into(), state: "state".into() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Notify {
    timeout_seconds: u64,
}

impl Default for Notify {
    fn default() -> Self {
        Self { timeout_seconds: 5 }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "what doesn't fit is refused by check_tls")]
fn seconds(days: f64) -> i64 {
    (days * 86_400.0) as i64
}

/// Whether nobody could listen on both with one port: the same address, or one of them stands for every address.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other || (one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified()))
}

impl Config {
    /// Reads the file below `root`, `env` laid over it. A leader without the
    /// file has no followers and listens where it does by default.
    pub fn load(root: &Path, env: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let path = root.join(FILE);
        let raw: Raw = if path.exists() { settings::load(&path, env)? } else { settings::from_env(&path, env)? };
        let under = |path: PathBuf| root.join(path);
        Ok(Self {
            http: raw.http,
            admin: raw.admin,
            platform: under(raw.paths.platform),
            templates: under(raw.paths.templates),
            state: under(raw.paths.state),
            limits: raw.limits,
            notify_time: Duration::from_secs(raw.notify.timeout_seconds),
            rollout: raw.rollout,
            members: Members::declared(&raw.followers),
            followers: raw.followers,
            addresses: raw.addresses.iter().map(|address| address.trim_end_matches('/').to_owned()).collect(),
            certificate_seconds: seconds(raw.authority.days),
            root: root.to_owned(),
        })
    }

    /// The followers' keys. Refuses keys in files that others can read, and one key for two followers.
    pub fn keys(&self) -> Result<BTreeMap<Name, Key>, ConfigFault> {
        if self.followers.values().any(|follower| follower.key.is_some()) {
            key::refuse_loose(&self.root.join(FILE))?;
        }
        let mut keys = BTreeMap::new();
        let mut owners: BTreeMap<String, &Name> = BTreeMap::new();
        for (name, follower) in &self.followers {
            let inline = follower.key.as_ref().map(|key| key.0.as_str());
            let key =
                key::load(&format!("{FILE}: followers.{name}"), inline, follower.key_file.as_deref(), &self.root)?;
            if let Some(other) = owners.insert(key.reveal().to_string(), name) {
                return Err(ConfigFault::SharedKey(other.clone(), name.clone()));
            }
            keys.insert(name.clone(), key);
        }
        Ok(keys)
    }

    /// The home.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files that followers' keys are in, where they have files of their own.
    pub fn key_files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.followers.values().filter_map(|follower| follower.key_file.as_ref().map(|file| self.root.join(file)))
    }

    /// Refuses a way to roll out that makes no sense, or that names what isn't
    /// there. A role may have machines that are yet to join: a folder of templates is enough.
    pub fn check_rollout(&self) -> Result<(), ConfigFault> {
        self.rollout.check("rollout")?;
        let members = self.members.now();
        for name in &self.rollout.canary {
            if !members.contains_key(name) {
                return Err(ConfigFault::Canary(name.clone()));
            }
        }
        for role in self.rollout.roles.keys() {
            let had = members.values().any(|member| member.role == *role);
            if !had && !self.templates.join(role.as_str()).is_dir() {
                return Err(ConfigFault::RolloutRole(role.clone()));
            }
        }
        Ok(())
    }

    /// Whether nobody on the way reads what followers are answered.
    pub fn is_private(&self) -> bool {
        self.http.tls || self.http.behind_proxy || self.http.ip.is_loopback()
    }

    /// Refuses to take tokens in the clear from other machines, and one port for both listeners.
    pub fn check_admin(&self) -> Result<(), ConfigFault> {
        match &self.admin {
            Some(admin) if admin.port != 0 && admin.port == self.http.port && overlap(admin.ip, self.http.ip) => {
                Err(ConfigFault::OnePort(admin.port))
            }
            Some(admin) if !admin.ip.is_loopback() && !admin.behind_proxy && !admin.tls => {
                Err(ConfigFault::OpenAdmin(admin.ip))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is an authority of this platform's own: whoever speaks TLS, or lets a
    /// proxy speak it, has one, and issues certificates to followers.
    pub fn has_authority(&self) -> bool {
        self.http.tls || self.http.behind_proxy || self.admin.as_ref().is_some_and(|admin| admin.tls)
    }

    /// Refuses TLS that contradicts itself, and addresses that followers can't use.
    pub fn check_tls(&self) -> Result<(), ConfigFault> {
        if self.http.tls && self.http.behind_proxy {
            return Err(ConfigFault::BothEnds("http"));
        }
        if self.admin.as_ref().is_some_and(|admin| admin.tls && admin.behind_proxy) {
            return Err(ConfigFault::BothEnds("admin"));
        }
        if self.certificate_seconds < 1 || self.certificate_seconds > 825 * 86_400 {
            return Err(ConfigFault::Days);
        }
        for address in &self.addresses {
            let wrong = |why| Err(ConfigFault::Address { address: address.clone(), why });
            let Some(url) = lockstep_edge::client::address(address) else {
                return wrong("it is no address: write https://HOST:PORT");
            };
            let loopback = url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            match (url.https, self.http.tls, self.http.behind_proxy) {
                (false, true, _) => return wrong("this leader speaks TLS: write https://"),
                (false, _, true) if !loopback => return wrong("the proxy in front has to speak TLS: write https://"),
                (true, false, false) => {
                    return wrong(
                        "nobody speaks TLS there: say \"http\": {\"tls\": true}, or \"behindProxy\": true where a proxy does",
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The hosts that its certificate names beside its fixed name, for other programs that go
    /// by the address: of its addresses, where it listens, and this machine itself.
    pub fn hosts(&self) -> Vec<String> {
        let told = self.addresses.iter().filter_map(|address| lockstep_edge::client::address(address));
        let told = told.map(|address| address.host);
        let listens = [Some(self.http.ip), self.admin.as_ref().map(|admin| admin.ip)];
        let listens = listens.into_iter().flatten().filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
        let mut hosts: Vec<String> = Vec::new();
        for host in told.chain(listens).chain(["localhost", "127.0.0.1"].map(str::to_owned)) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// The unix socket on which commands reach the running leader.
    pub fn socket(&self) -> PathBuf {
        self.state.join("leader.sock")
    }
}

/// Why the configuration can't be used, though each of its values is right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    /// A key is missing, malformed or readable by others.
    #[error(transparent)]
    Key(#[from] key::KeyError),
    /// The strategy of rollouts.
    #[error("{FILE}: {0}")]
    Rollout(#[from] BadStrategy),
    /// A canary that is no follower.
    #[error("{FILE}: rollout.canary: {0} is not declared under followers, and no machine of that name has joined")]
    Canary(Name),
    /// A role that no follower has.
    #[error("{FILE}: rollout.roles.{0}: no follower has this role, and templates/{0} is not there")]
    RolloutRole(Name),
    /// A machine of the file has the name of one that joined.
    #[error(
        "{FILE}: followers.{0}: a machine that joined with a token has this name: take it out of the file, or remove that machine while the leader is stopped (lockstep followers remove {0})"
    )]
    Twice(Name),
    /// Two followers have one key.
    #[error(
        "{FILE}: followers {0} and {1} have the same key: give each machine its own (openssl rand 32 | basenc --base64url | tr -d =)"
    )]
    SharedKey(Name, Name),
    /// Tokens would travel in the clear.
    #[error(
        "{FILE}: admin.ip is {0}, and whoever listens there could read the tokens: set it to 127.0.0.1, or put a proxy with TLS in front and say \"behindProxy\": true, or say \"tls\": true for TLS by the platform's own authority"
    )]
    OpenAdmin(IpAddr),
    /// Followers and people would be listened to at one place.
    #[error("{FILE}: http.port and admin.port are both {0}: give the admin listener a port of its own, such as 7001")]
    OnePort(u16),
    /// TLS is spoken here and by a proxy.
    #[error(
        "{FILE}: {0}.tls and {0}.behindProxy are both true: either this leader speaks TLS, or a proxy in front of it does"
    )]
    BothEnds(&'static str),
    /// A certificate's life makes no sense.
    #[error("{FILE}: authority.days: certificates live from a second to 825 days")]
    Days,
    /// An address for followers that none can use.
    #[error("{FILE}: addresses: {address:?}: {why}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
}
