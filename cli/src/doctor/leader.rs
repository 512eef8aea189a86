//! Everything around a leader.

use super::certificates::{self, Facts};
use super::files::{self, Purpose};
use super::ports::{self, Holder};
use super::{Finding, Level, clock, disk, fine, fleet, found, names, service, store};
use crate::command::environment;
use crate::socket::Socket;
use lockstep_leader::audit::Audit;
use lockstep_leader::authority::Authorities;
use lockstep_leader::config::{Config, FILE};
use lockstep_leader::leader;
use lockstep_leader::store::{DATABASE, KEY, Store};
use lockstep_shared::api::Fleet;
use std::net::SocketAddr;
use std::path::Path;

/// Looks at all of it.
pub(crate) async fn examine(root: &Path) -> Vec<Finding> {
    let config = match Config::load(root, environment()) {
        Ok(config) => config,
        Err(error) => return vec![unusable(root, &error)],
    };
    let mut findings = Vec::new();
    for fault in [leader::check(&config), config.check_rollout().map_err(Into::into)] {
        findings.extend(fault.err().map(|fault| {
            found(
                "configuration",
                Level::Broken,
                fault.to_string(),
                "the leader doesn't start with it",
                format!("correct {}, then restart the leader", root.join(FILE).display()),
            )
        }));
    }
    if findings.is_empty() {
        findings.push(fine("configuration", format!("{FILE} can be used")));
    }
    // Not by way of --url: what is looked at is this machine.
    let socket = Socket::here(&config).ok().flatten();
    let ports = listeners(&config, socket.is_some());
    let pid = ports.iter().find_map(ports::Facts::pid);
    findings.extend(service::judge(&service::gather("leader", socket.is_some(), pid, config.followers.len())));
    findings.extend(ports.iter().flat_map(ports::judge));
    let hosts = config.followers.iter().filter_map(|(name, follower)| {
        let url = reqwest::Url::parse(follower.url.as_deref()?).ok()?;
        names::gather(url.host_str()?, format!("followers.{name}.url"), Level::Warning)
    });
    findings.extend(hosts.map(|facts| names::judge(&facts)));
    let hosts = config.addresses.iter().filter_map(|address| {
        names::gather(&lockstep_edge::client::address(address)?.host, "addresses", Level::Warning)
    });
    findings.extend(hosts.map(|facts| names::judge(&facts)));
    if socket.is_some() {
        findings.extend(config.addresses.iter().map(|address| ports::reached(address)));
    }
    findings.extend(clock::judge(&clock::gather(None)));
    let mut ours = vec![files::gather(&config.state, Purpose::Secret)];
    ours.extend([KEY, DATABASE].map(|file| files::gather(&config.state.join(file), Purpose::Secret)));
    ours.extend(files::gather_secrets(&root.join("config-leader/conf")).into_iter().skip(1));
    ours.extend(config.key_files().map(|file| files::gather(&file, Purpose::Secret)));
    findings.extend(files::judge(&ours, None));
    findings.extend(disk::gather(&config.state).iter().flat_map(disk::judge));
    findings.extend(store::judge(&look_at_store(&config)));
    if let Some(socket) = &socket {
        if config.has_authority()
            && let Ok(authority) = socket.get::<Authorities>("/admin/authority").await
        {
            findings.extend(certificates(&authority));
        }
        match socket.get::<Fleet>("/admin/fleet").await {
            Ok(known) => {
                findings.extend(fleet::judge(&known, env!("CARGO_PKG_VERSION"), lockstep_edge::clock::now()));
            }
            Err(error) => findings.push(found(
                "machines",
                Level::Broken,
                format!("the leader doesn't answer as it should: {}", error.0),
                "commands can't be done",
                "lockstep logs leader; is it of the same version as this command (lockstep version)?",
            )),
        }
    }
    findings
}

fn certificates(authority: &Authorities) -> Vec<Finding> {
    let own = Facts {
        whose: "the leader's certificate".to_owned(),
        ends: authority.leader_ends,
        renews: true,
        fix: "lockstep logs leader says why; a restart of the leader makes a new one",
    };
    let all = authority.authorities.iter().map(|one| Facts {
        whose: format!("the platform's authority {}", one.short),
        ends: one.ends,
        renews: false,
        fix: "lockstep ca rotate",
    });
    let now = lockstep_edge::clock::now();
    std::iter::once(own).chain(all).map(|facts| certificates::judge(&facts, now)).collect()
}

fn unusable(root: &Path, error: &dyn std::fmt::Display) -> Finding {
    found(
        "configuration",
        Level::Broken,
        error.to_string(),
        "the leader doesn't start with it",
        format!("correct {} (docs/files.md)", root.join(FILE).display()),
    )
}

fn listeners(config: &Config, runs: bool) -> Vec<ports::Facts> {
    let listener = |whose, key, address: SocketAddr, for_others| ports::Facts {
        whose,
        key,
        holder: if address.port() == 0 { Holder::Nobody } else { ports::holder(address) },
        address,
        runs,
        for_others,
    };
    // More than one machine can't all be this one.
    let followers =
        listener("followers", "http", SocketAddr::new(config.http.ip, config.http.port), config.followers.len() > 1);
    let people = config.admin.as_ref();
    let people =
        people.map(|admin| listener("people with API tokens", "admin", SocketAddr::new(admin.ip, admin.port), false));
    std::iter::once(followers).chain(people).collect()
}

fn look_at_store(config: &Config) -> store::Facts {
    let now = lockstep_edge::clock::now();
    if !config.state.join(KEY).exists() && !config.state.join(DATABASE).exists() {
        return store::Facts { check: Ok(None), backup: None, now };
    }
    let opened = Store::peek(&config.state);
    let check = match &opened {
        Ok(Some(store)) => {
            store.quick_check().map(|last| (last > 0).then_some(last)).map_err(|error| error.to_string())
        }
        Ok(None) => Ok(None),
        Err(error) => Err(error.to_string()),
    };
    let backup = opened.ok().flatten().and_then(|store| Audit::new(store).last_backup().ok().flatten());
    store::Facts { check, backup, now }
}
