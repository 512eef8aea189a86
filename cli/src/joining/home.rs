//! The files of a follower's home: what is there, what a killed join goes on
//! from, and what is laid out. The configuration comes last: a home without it
//! is none.

use super::{Follower, Listen, Plan, Wish, fingerprint, key_fingerprint};
use crate::exit::{Failed, failed};
use lockstep_edge::durable;
use lockstep_edge::tls::{self, Requested};
use lockstep_follower::CONFIG_FILE;
use lockstep_shared::Name;
use lockstep_shared::join::{JoinToken, Joined, Pin};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const KEY: &str = "config-follower/conf/follower.key";
const CA: &str = "config-follower/conf/ca.pem";
const TLS: &str = "state/tls.pem";
/// What a leader told a follower that was here before: it would stand over what is joined now.
const TOLD: &str = "state/told.json";
/// What a follower remembers of what it wrote (`docs/files.md`).
const APPLIED: &str = "state/applied.json";
const JOINING: &str = "state/joining.json";

/// A home to be made.
pub(super) struct Home(PathBuf);

/// A join that was begun: with the same key pair the leader gives the same answer again.
#[derive(Serialize, Deserialize)]
pub(super) struct Attempt {
    token: String,
    name: Name,
    role: Name,
    key: Zeroizing<String>,
    pub(super) csr: String,
}

/// What a home that has joined says of itself.
pub(super) struct There {
    name: Name,
    addresses: Vec<String>,
    listen: Option<String>,
}

impl Attempt {
    /// The one that was begun with this token, or a new one. Durable before anybody hears of it.
    pub(super) fn of(home: &Home, token: &JoinToken, name: &Name, role: &Name) -> Result<Self, Failed> {
        let path = home.0.join(JOINING);
        match std::fs::read(&path).map(Zeroizing::new) {
            Ok(bytes) => {
                // One that can't be read is of no use: a key was made, and nothing more.
                let begun = serde_json::from_slice::<Self>(&bytes).ok();
                if let Some(begun) = begun
                    && begun.token == token.id.to_string()
                    && (&begun.name, &begun.role) == (name, role)
                {
                    return Ok(begun);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(&path, &error)),
        }
        let Requested { key, csr } = Requested::new(name.as_str()).map_err(failed)?;
        let attempt = Self { token: token.id.to_string(), name: name.clone(), role: role.clone(), key, csr };
        folder(&home.0.join("state"))?;
        put(&path, &Zeroizing::new(serde_json::to_vec(&attempt)?), 0o600)?;
        Ok(attempt)
    }
}

impl Home {
    pub(super) fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// What is going to be written, and with which mode.
    pub(super) fn files(&self, pin: Pin) -> impl Iterator<Item = (PathBuf, u32)> {
        let ca = (pin != Pin::Proxy).then_some((CA, 0o644));
        let all = [(KEY, 0o600), (TLS, 0o600)].into_iter().chain(ca).chain([(CONFIG_FILE, 0o600)]);
        let root = self.0.clone();
        all.map(move |(file, mode)| (root.join(file), mode))
    }

    /// Writes what the leader answered; `from` is the address that did.
    pub(super) fn lay_out(&self, plan: &Plan, joined: &Joined, from: &str, attempt: &Attempt) -> Result<(), Failed> {
        let pinned = plan.wish.token.pin != Pin::Proxy;
        folder(&self.0.join("config-follower"))?;
        folder(&self.0.join("config-follower/conf"))?;
        put(&self.0.join(KEY), &Zeroizing::new(format!("{}\n", joined.key.as_str()).into_bytes()), 0o600)?;
        let own = Zeroizing::new(format!("{}{}", attempt.key.as_str(), joined.certificate).into_bytes());
        put(&self.0.join(TLS), &own, 0o600)?;
        if pinned {
            put(&self.0.join(CA), joined.authorities.concat().as_bytes(), 0o644)?;
        }
        gone(&self.0.join(TOLD))?;
        let text = serde_json::to_vec_pretty(&config(plan, joined, from, pinned))?;
        put(&self.0.join(CONFIG_FILE), &[text, b"\n".to_vec()].concat(), 0o600)?;
        self.done()
    }

    /// Nothing is to be gone on with any more.
    fn done(&self) -> Result<(), Failed> {
        gone(&self.0.join(JOINING))
    }
}

/// Removes a file of the state folder, if it is there; durable on return.
fn gone(path: &Path) -> Result<(), Failed> {
    let folder = path.parent().unwrap_or(path);
    match std::fs::remove_file(path).and_then(|()| durable::sync_folder(folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(wrong(path, &error)),
        _ => Ok(()),
    }
}

/// The address that answered, then the others that the leader said.
pub(super) fn in_order(joined: &Joined, from: &str) -> Vec<String> {
    let others = joined.addresses.iter().filter(|address| *address != from).cloned();
    std::iter::once(from.to_owned()).chain(others).collect()
}

fn config(plan: &Plan, joined: &Joined, from: &str, pinned: bool) -> Value {
    let addresses = in_order(joined, from);
    let mut leader = json!({"url": addresses[0], "name": joined.name, "keyFile": KEY});
    if addresses.len() > 1 {
        leader["others"] = json!(addresses[1..]);
    }
    if pinned {
        leader["ca"] = json!(CA);
    }
    let listens = plan.wish.listen != Listen::Not;
    let mut config = json!({
        "http": {"ip": plan.listen.ip(), "port": plan.listen.port(), "tls": listens},
        "leader": leader,
    });
    if let Some(folder) = &plan.wish.data_folder {
        config["paths"] = json!({"dataFolder": folder});
    }
    if !plan.wish.docker {
        config["docker"] = Value::Null;
    }
    config
}

/// Whether this home has joined, and as what.
pub(super) fn there(root: &Path) -> Result<Option<There>, Failed> {
    let path = root.join(CONFIG_FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(&path, &error)),
    };
    let config: Value = serde_json::from_slice(&text).map_err(|error| {
        failed(format!("{} is there, and is not valid JSON: {error}; nothing was done", path.display()))
    })?;
    let leader = &config["leader"];
    let name = leader["name"]
        .as_str()
        .and_then(|name| Name::new(name).ok())
        .ok_or_else(|| failed(format!("{} is there, and says no leader.name; nothing was done", path.display())))?;
    let others = leader["others"].as_array().into_iter().flatten();
    let addresses =
        std::iter::once(&leader["url"]).chain(others).filter_map(Value::as_str).map(ToOwned::to_owned).collect();
    let http = &config["http"];
    let listen = http["ip"].as_str().zip(http["port"].as_u64()).filter(|_| http["tls"] == Value::Bool(true));
    Ok(Some(There { name, addresses, listen: listen.map(|(ip, port)| format!("https://{ip}:{port}")) }))
}

/// The role that a follower's home was last written for; none before its first apply.
fn role(root: &Path) -> Option<Name> {
    let applied: Value = serde_json::from_slice(&std::fs::read(root.join(APPLIED)).ok()?).ok()?;
    Name::new(applied["role"].as_str()?).ok()
}

/// A home that has joined that leader under that name, with that role, is as it should be; any
/// other is not touched.
pub(super) fn same(root: &Path, there: &There, wish: &Wish) -> Result<Follower, Failed> {
    let other = |what: String| {
        failed(format!(
            "{} is the home of a follower already ({}), {what}; nothing was done. For another one, say another --root; to join anew, move {} away first",
            root.display(),
            there.name,
            root.join("config-follower").display()
        ))
    };
    if let Some(name) = wish.name.as_ref().filter(|name| **name != there.name) {
        return Err(other(format!("not of {name}")));
    }
    let pinned = std::fs::read_to_string(root.join(CA)).ok().and_then(|pem| tls::authorities(&pem).ok());
    let known = match wish.token.pin {
        Pin::Authority(hash) => pinned.is_some_and(|pinned| pinned.iter().any(|one| one.fingerprint == hash)),
        Pin::Proxy => there.addresses.iter().any(|address| wish.token.addresses.contains(address)),
    };
    if !known {
        return Err(other(format!("of another leader ({})", there.addresses.join(", "))));
    }
    let role = role(root);
    if let Some(role) = role.as_ref().filter(|role| **role != wish.role) {
        return Err(other(format!(
            "with the role {role}, and it doesn't become a {} by joining again: on the leader, lockstep followers remove {} and a new token first",
            wish.role, there.name
        )));
    }
    Home::new(root).done()?;
    let key = std::fs::read_to_string(root.join(KEY)).map(Zeroizing::new).unwrap_or_default();
    Ok(Follower {
        name: there.name.clone(),
        role,
        root: root.to_owned(),
        leader: there.addresses.first().cloned().unwrap_or_default(),
        fingerprint: fingerprint(wish.token.pin),
        key: key_fingerprint(&key),
        url: there.listen.clone(),
        before: true,
        notes: Vec::new(),
    })
}

fn folder(path: &Path) -> Result<(), Failed> {
    durable::private_folder(path).map_err(|error| wrong(path, &error))
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failed> {
    durable::replace(path, bytes, mode).map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, error: &io::Error) -> Failed {
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied => ": run it as root (sudo), or say a --root of your own",
        io::ErrorKind::StorageFull => ": make room (df -h), then type the same again",
        _ => "",
    };
    failed(format!("{}: {error}{next}", path.display()))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use crate::joining::Listen;
    use lockstep_shared::join::TokenId;

    #[test]
    fn a_home_stays_in_the_role_that_it_has() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        std::fs::create_dir(home.join("state")).unwrap();
        let address = "https://lead.example.com:7000".to_owned();
        let there = There { name: Name::new("core-1").unwrap(), addresses: vec![address.clone()], listen: None };
        let wish = |role: &str| Wish {
            token: JoinToken {
                id: TokenId([1; 6]),
                secret: Zeroizing::new([2; 32]),
                pin: Pin::Proxy,
                addresses: vec![address.clone()],
            },
            role: Name::new(role).unwrap(),
            name: None,
            listen: Listen::Not,
            addresses: Vec::new(),
            data_folder: None,
            docker: false,
        };
        // What it never applied, it doesn't know.
        assert_eq!(same(home, &there, &wish("web")).unwrap().role, None);
        std::fs::write(home.join(APPLIED), r#"{"format": 1, "role": "core"}"#).unwrap();
        assert_eq!(same(home, &there, &wish("core")).unwrap().role, Name::new("core").ok());
        let said = same(home, &there, &wish("web")).unwrap_err().0;
        assert!(said.contains("with the role core") && said.contains("followers remove core-1"), "{said}");
    }
}
