//! What a person says of a new platform: by flags, by a file of answers, by
//! the environment; in this order, the first one that says it counts.

use super::Options;
use super::own;
use crate::exit::{Failed, failed};
use lockstep_leader::fault::{Faults, nearest};
use lockstep_leader::founding::Survey;
use lockstep_leader::platform::{Scope, words};
use lockstep_leader::secrets::ENV as SECRET;
use lockstep_leader::secrets::inventory::SHORTEST;
use lockstep_leader::yaml::{self, Node};
use lockstep_shared::Name;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use zeroize::Zeroizing;

/// What a setting's variable begins with.
const SETTING: &str = "LOCKSTEP_SETTING_";
/// Where a leader listens, where nobody says another one.
pub(super) const PORT: u16 = 7000;
/// The longest value from a file, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

/// A file of answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Answers {
    roles: Vec<String>,
    listen: Option<SocketAddr>,
    addresses: Vec<String>,
    behind_proxy: Option<String>,
    settings: BTreeMap<String, Value>,
    join_here: Option<String>,
    name: Option<String>,
}

impl Answers {
    /// Reads it: YAML or JSON.
    pub(super) fn read(path: &Path) -> Result<Self, Failed> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| failed(format!("{shown}: {error}")))?;
        let node = yaml::parse(&shown.to_string(), &text).map_err(Faults::from)?;
        if node.is_null() {
            return Ok(Self::default());
        }
        serde_path_to_error::deserialize(node.to_json())
            .map_err(|error| failed(format!("{shown}: {}: {}", error.path(), error.inner())))
    }
}

/// A value as somebody said it.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// Typed.
    Words(String),
    /// From a file of answers.
    Json(Value),
}

/// Everything that is wished for.
#[derive(Debug)]
pub(super) struct Wishes {
    /// One for each machine that is going to join.
    pub(super) roles: Vec<Name>,
    /// Where the leader listens.
    pub(super) listen: SocketAddr,
    /// How others reach it.
    pub(super) addresses: Vec<String>,
    /// Whether a proxy with TLS stands in front.
    pub(super) behind_proxy: bool,
    /// Settings, with where each was said.
    pub(super) settings: BTreeMap<String, (Said, String)>,
    /// Secrets.
    pub(super) secrets: BTreeMap<String, Zeroizing<String>>,
    /// This machine's own role and name, where it follows as well.
    pub(super) here: Option<(Name, Name)>,
    /// What can't be.
    pub(super) wrong: Vec<String>,
}

impl Wishes {
    /// Gathers them. `own` are this machine's addresses.
    pub(super) fn gather(
        options: &Options,
        answers: Answers,
        environment: &[(String, String)],
        own: &[IpAddr],
        release: &Survey,
    ) -> Result<Self, Failed> {
        let mut wrong = Vec::new();
        let roles = if options.roles.is_empty() { &answers.roles } else { &options.roles };
        let roles = roles.iter().filter_map(|role| known_role(role, release, &mut wrong)).collect();
        let proxy = options.behind_proxy.clone().or(answers.behind_proxy);
        let listen = options.listen.or(answers.listen).unwrap_or_else(|| {
            let everywhere = proxy.is_none() && !own.is_empty();
            SocketAddr::new(if everywhere { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST }.into(), PORT)
        });
        if listen.port() == 0 {
            wrong.push(format!(
                "--listen {listen}: port 0 would be another port at each start, and followers have to find the leader again: name one, e.g. {}",
                SocketAddr::new(listen.ip(), PORT)
            ));
        }
        let said = if options.addresses.is_empty() { answers.addresses } else { options.addresses.clone() };
        let said: Vec<String> = proxy.iter().cloned().chain(said).collect();
        let mut addresses = Vec::new();
        for address in &said {
            match address_of(address, if proxy.is_some() { 443 } else { listen.port() }) {
                Ok(address) => addresses.push(address),
                Err(what) => wrong.push(what),
            }
        }
        if said.is_empty() {
            addresses = own::urls(listen, own);
        }
        if addresses.is_empty() && said.is_empty() {
            wrong.push(format!(
                "--listen {listen}: this machine has no address there that others could reach: say one with --address https://HOST:{}",
                listen.port()
            ));
        }
        let mut wishes = Self {
            roles,
            listen,
            addresses,
            behind_proxy: proxy.is_some(),
            settings: BTreeMap::new(),
            secrets: BTreeMap::new(),
            here: None,
            wrong,
        };
        wishes.take_environment(environment, release);
        for (name, value) in answers.settings {
            wishes.say(&name, Said::Json(value), "the file of answers", release);
        }
        for pair in &options.set {
            match pair.split_once('=') {
                Some((name, value)) => wishes.say(name, Said::Words(value.to_owned()), "--set", release),
                None => wishes.wrong.push(format!("--set {pair}: write --set NAME=VALUE")),
            }
        }
        for pair in &options.set_file {
            match pair.split_once('=') {
                Some((name, file)) => wishes.take_file(name, Path::new(file), release)?,
                None => wishes
                    .wrong
                    .push(format!("--set-file {pair}: write --set-file NAME=FILE, or NAME=- for standard input")),
            }
        }
        let name = options.name.clone().or(answers.name);
        if let Some(role) = options.join_here.clone().or(answers.join_here) {
            wishes.follow_here(&role, name.as_deref(), release);
        }
        Ok(wishes)
    }

    /// This machine follows as well.
    pub(super) fn follow_here(&mut self, role: &str, name: Option<&str>, release: &Survey) {
        let Some(role) = known_role(role, release, &mut self.wrong) else { return };
        let named = name.map_or_else(hostname, str::to_owned);
        match Name::new(named.clone()) {
            Ok(name) => self.here = Some((role, name)),
            Err(bad) => self.wrong.push(format!("--name {named}: {bad}")),
        }
    }

    fn take_environment(&mut self, environment: &[(String, String)], release: &Survey) {
        for (variable, value) in environment {
            if let Some(name) = variable.strip_prefix(SETTING) {
                self.say(name, Said::Words(value.clone()), variable, release);
            } else if let Some(name) = variable.strip_prefix(SECRET)
                && release.setting(name).is_some_and(|setting| setting.secret.is_some())
            {
                self.keep(name, value, release);
            }
        }
    }

    fn take_file(&mut self, name: &str, file: &Path, release: &Survey) -> Result<(), Failed> {
        let shown = file.display().to_string();
        let mut bytes = Zeroizing::new(Vec::new());
        let read = if shown == "-" {
            std::io::stdin().lock().take(LONGEST).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
        };
        read.map_err(|error| failed(format!("--set-file {name}={shown}: {error}")))?;
        let Ok(text) = std::str::from_utf8(&bytes) else {
            self.wrong.push(format!("--set-file {name}={shown}: that is not text in UTF-8"));
            return Ok(());
        };
        if release.setting(name).is_some_and(|setting| setting.secret.is_some()) {
            self.keep(name, text, release);
            return Ok(());
        }
        // As lockstep settings set --file: of a single line the newline is no part.
        let single = text.trim_end_matches('\n');
        let text = if single.contains('\n') { text } else { single };
        self.say(name, Said::Words(text.to_owned()), &format!("--set-file {name}={shown}"), release);
        Ok(())
    }

    /// Takes a setting, unless it can't be said this way.
    pub(super) fn say(&mut self, name: &str, said: Said, whence: &str, release: &Survey) {
        match release.setting(name) {
            None => {
                let near = nearest(name, release.settings().by_name.keys().map(String::as_str));
                self.wrong.push(format!("{whence}: the release has no setting {name}{near}"));
            }
            Some(setting) if setting.secret.is_some() => self.wrong.push(format!(
                "{whence}: {name} is a secret, and would be read by others there: give it as {SECRET}{name} in the environment, or with --set-file {name}=FILE (- for standard input)"
            )),
            Some(_) => drop(self.settings.insert(name.to_owned(), (said, whence.to_owned()))),
        }
    }

    /// The settings as values, in the order of the release; what is no value is wrong.
    pub(super) fn values(&self, release: &Survey) -> (Vec<(String, Node)>, Vec<String>) {
        let (mut values, mut wrong) = (Vec::new(), Vec::new());
        for (name, setting) in &release.settings().by_name {
            let Some((said, whence)) = self.settings.get(name) else { continue };
            match said {
                Said::Json(value) => values.push((name.clone(), words::from_json(value, &setting.schema))),
                Said::Words(typed) => match words::read(typed, &setting.schema) {
                    Ok(value) => values.push((name.clone(), value)),
                    Err(what) => wrong.push(format!("{whence} {name}: {what}")),
                },
            }
        }
        (values, wrong)
    }

    /// Secrets with who holds them: the platform, or each role that is chosen.
    pub(super) fn held_secrets(&self, release: &Survey) -> Vec<(String, String, Zeroizing<String>)> {
        let mut held = Vec::new();
        for (name, value) in &self.secrets {
            let scope = release.setting(name).and_then(|setting| setting.secret.as_ref()).map(|secret| secret.scope);
            let holders = if scope == Some(Scope::Role) {
                self.chosen().iter().map(ToString::to_string).collect()
            } else {
                vec![String::new()]
            };
            held.extend(holders.into_iter().map(|holder| (name.clone(), holder, value.clone())));
        }
        held
    }

    /// The roles that machines will have, each once.
    pub(super) fn chosen(&self) -> Vec<Name> {
        let all = self.roles.iter().chain(self.here.iter().map(|(role, _)| role));
        all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Takes a secret, unless it can't be kept as it is.
    pub(super) fn keep(&mut self, name: &str, value: &str, release: &Survey) {
        let scope = release.setting(name).and_then(|setting| setting.secret.as_ref()).map(|secret| secret.scope);
        if scope == Some(Scope::Machine) {
            self.wrong.push(format!(
                "{name} has a value for each machine: once one has joined, type lockstep secrets set {name} --machine NAME"
            ));
        }
        let value = value.trim_end_matches('\n');
        if value.chars().count() < SHORTEST {
            self.wrong.push(format!(
                "the secret {name} is too short: with fewer than {SHORTEST} characters it could not be masked where it is shown"
            ));
        }
        self.secrets.insert(name.to_owned(), Zeroizing::new(value.to_owned()));
    }

    /// Secrets by name, as rendering takes them.
    pub(super) fn given_secrets(&self) -> Vec<(String, String)> {
        self.secrets.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
    }
}

/// A role of the release.
pub(super) fn known_role(role: &str, release: &Survey, wrong: &mut Vec<String>) -> Option<Name> {
    let known = release.roles();
    if let Some((name, _)) = known.iter().find(|(name, _)| name.as_str() == role) {
        return Some(name.clone());
    }
    let near = nearest(role, known.keys().map(Name::as_str));
    let all = known.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
    wrong.push(format!("--role {role}: the release has no such role{near}; it has: {all}"));
    None
}

/// An address as others use it: `https://`, a host, a port.
pub(super) fn address_of(typed: &str, port: u16) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("the address {typed}: {what}: write https://HOST:{port}"));
    let whole = if typed.contains("://") { typed.to_owned() } else { format!("https://{typed}") };
    let Ok(url) = reqwest::Url::parse(&whole) else { return wrong("that is no address") };
    if url.scheme() != "https" {
        return wrong("followers join over https only");
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    let Some(host) = url.host_str().filter(|_| bare && url.password().is_none()) else {
        return wrong("only a host and a port can stand there");
    };
    // A bare host means the port that the leader listens on, one with https:// what it says.
    let port = url.port().unwrap_or(if typed.contains("://") { 443 } else { port });
    Ok(format!("https://{host}:{port}"))
}

/// What this machine calls itself, without its domain.
pub(super) fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// What is wrong with the release or the values, one line each.
pub(super) fn lines(faults: &Faults, wishes: &Wishes) -> Vec<String> {
    let line = |fault: &lockstep_leader::fault::Fault| {
        let said = fault.setting.as_ref().and_then(|name| Some((name, wishes.settings.get(name)?)));
        match said {
            Some((name, (_, whence))) => {
                format!("{whence} {name}: {}", fault.what.strip_prefix(&format!("{name}: ")).unwrap_or(&fault.what))
            }
            None => fault.to_string(),
        }
    };
    faults.0.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::address_of;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (typed, wanted) in [
            ("192.0.2.10", "https://192.0.2.10:7000"),
            ("lead.example.com:7001", "https://lead.example.com:7001"),
            ("https://lead.example.com", "https://lead.example.com:443"),
            ("https://[2001:db8::1]:7000/", "https://[2001:db8::1]:7000"),
        ] {
            assert_eq!(address_of(typed, 7000).unwrap(), wanted);
        }
        for typed in
            ["http://192.0.2.10:7000", "https://a/path", "https://u:p@a", "https://", "https://a b", "https://a?x"]
        {
            assert!(address_of(typed, 7000).is_err(), "{typed}");
        }
    }
}
