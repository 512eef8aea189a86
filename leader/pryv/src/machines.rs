//! The followers, each with a name and a new key: the old keys travelled in
//! the clear.

use crate::ImportError;
use crate::account::Account;
use crate::old::{Old, OldFollower};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lockstep_edge::random;
use lockstep_shared::Name;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A follower of the new platform.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Its name: the role's, numbered where several have the role.
    pub(crate) name: Name,
    /// Its role.
    pub(crate) role: Name,
    /// Where the leader pushes to, where that is known.
    pub(crate) url: Option<String>,
    key: String,
    /// The old one: only to find out which machine a `config-follower.json` is of.
    old_key: String,
}

/// The followers of the old configuration.
pub(crate) fn of(old: &Old, account: &mut Account) -> Result<Vec<Machine>, ImportError> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for follower in &old.followers {
        *counts.entry(&follower.role).or_default() += 1;
    }
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut machines = Vec::new();
    for follower in &old.followers {
        let number = numbers.entry(&follower.role).or_default();
        *number += 1;
        let name = if counts[follower.role.as_str()] == 1 {
            follower.role.clone()
        } else {
            format!("{}-{number}", follower.role)
        };
        let fits = |text: String| {
            Name::new(text).map_err(|bad| ImportError::Other(format!("config-leader.json: followers: {bad}")))
        };
        let (name, role) = (fits(name)?, fits(follower.role.clone())?);
        if !old.roles.iter().any(|known| known.name == role && !known.files.is_empty()) {
            account.look(format!("there are no files for the role {role} in data/, so its follower was left out"));
            continue;
        }
        let url = url(follower, old.followers.len() == 1, &name, account);
        machines.push(Machine {
            name,
            role,
            url,
            key: URL_SAFE_NO_PAD.encode(random::bytes::<32>()),
            old_key: follower.key.clone(),
        });
    }
    let as_before = |url: &String| old.followers.iter().any(|follower| follower.url.as_ref() == Some(url));
    let kept = machines.iter().filter(|machine| machine.url.as_ref().is_some_and(as_before));
    let kept: Vec<&str> = kept.map(|machine| machine.name.as_str()).collect();
    if !kept.is_empty() {
        account.look(format!(
            "the leader pushes to the same addresses as before: correct followers.NAME.url in config-leader.json where a new follower listens elsewhere: {}",
            kept.join(", ")
        ));
    }
    Ok(machines)
}

fn url(follower: &OldFollower, only: bool, name: &Name, account: &mut Account) -> Option<String> {
    let url = follower.url.as_deref()?;
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = host.map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
    match host {
        None | Some("") => {
            account
                .look(format!("{name}: its url is not one, and was left out: the follower's own requests are enough"));
            None
        }
        // A name of the original's container network.
        Some(host) if !host.contains('.') && only => {
            account.look(format!(
                "{name}: {url} was a name among containers; the leader pushes to http://127.0.0.1:6000 now"
            ));
            Some("http://127.0.0.1:6000".to_owned())
        }
        Some(_) => Some(url.to_owned()),
    }
}

/// `config-leader.json`.
pub(crate) fn leader_config(old: &Old, machines: &[Machine]) -> Value {
    let mut followers = serde_json::Map::new();
    for machine in machines {
        let mut follower = json!({"role": machine.role.as_str()});
        if let Some(url) = &machine.url {
            follower["url"] = json!(url);
        }
        follower["key"] = json!(machine.key);
        followers.insert(machine.name.to_string(), follower);
    }
    let ip = old.http.0.as_deref().filter(|ip| ip.parse::<std::net::IpAddr>().is_ok()).unwrap_or("127.0.0.1");
    let port = old.http.1.and_then(|port| u16::try_from(port).ok()).unwrap_or(7000);
    json!({"http": {"ip": ip, "port": port}, "followers": followers})
}

/// `config-follower.json` of each machine, for its own home.
pub(crate) fn follower_configs(old: &Old, machines: &[Machine], account: &mut Account) -> Vec<(Name, Value)> {
    let port = old.http.1.unwrap_or(7000);
    let configured = old.follower.as_ref();
    let mut guessed = Vec::new();
    let configs = machines.iter().map(|machine| {
        let own = configured.is_some_and(|config| config.key.as_deref() == Some(machine.old_key.as_str()));
        // The original's leader was a name among containers, or behind a proxy that says so.
        let url = configured.and_then(|config| config.leader_url.clone()).filter(|url| {
            let host = url.split("://").nth(1).unwrap_or_default();
            host.split(['/', ':']).next().is_some_and(|host| host.contains('.'))
        });
        let url = match url {
            Some(url) => url,
            None if own || machines.len() == 1 => format!("http://127.0.0.1:{port}"),
            None => {
                guessed.push(machine.name.to_string());
                format!("http://LEADER:{port}")
            }
        };
        let config = json!({
            "http": {"ip": "127.0.0.1", "port": 6000},
            "leader": {"url": url.trim_end_matches('/'), "name": machine.name.as_str(), "key": machine.key},
        });
        (machine.name.clone(), config)
    });
    let configs = configs.collect();
    if !guessed.is_empty() {
        account.look(format!(
            "put the leader's address into leader.url of followers/NAME/config-follower.json, in place of LEADER: {}",
            guessed.join(", ")
        ));
    }
    configs
}
