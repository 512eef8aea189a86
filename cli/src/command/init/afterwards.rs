//! What follows once a platform's files are in place: the service, this
//! machine's own follower, tokens for the others, and what to do next.

use super::super::{leader_config, print, print_json, say, tokens, wait_for};
use super::here;
use crate::exit::{Done, Failed};
use crate::moment;
use crate::socket::Socket;
use crate::unit::{Running, Side, quoted};
use lockstep_edge::tls;
use lockstep_leader::config::Config;
use lockstep_leader::founding::{Going, Site};
use lockstep_leader::http::MadeToken;
use lockstep_leader::store::Store;
use serde_json::json;
use std::path::Path;

/// Does what is left, and then forgets that anything was.
pub(super) fn finish(root: &Path, site: Site, going: &Going, json: bool) -> Result<Done, Failed> {
    let running = Running::of(Side::Leader, root, going.service);
    let started = running.start()?;
    let here = match &going.here {
        None => None,
        Some(here) => Some((here::join(root, &site, here)?, Running::of(Side::Follower, root, going.service).start()?)),
    };
    let config = leader_config(root)?;
    let fingerprint = fingerprint(&config)?;
    let tokens = if going.roles.is_empty() { Vec::new() } else { wait_for(tokens(config.clone(), &going.roles))? };
    if json {
        let next = |made: &MadeToken| json!({"role": made.about.role, "token": made.token, "line": tokens::line(made)});
        print_json(&json!({
            "root": root,
            "new": true,
            "revision": 1,
            "addresses": config.addresses,
            "fingerprint": fingerprint,
            "service": started,
            "here": here.as_ref().map(|(follower, _)| follower),
            "next": tokens.iter().map(next).collect::<Vec<_>>(),
        }))?;
    } else {
        print(&format!("{} is a platform, and revision 1 is published.\n", root.display()))?;
        if let Some(fingerprint) = fingerprint {
            print(&format!("Its fingerprint, which every machine that joins shows as well: {fingerprint}\n"))?;
        }
        print(&format!("{started}\n"))?;
        if let Some((follower, started)) = &here {
            print(&format!("This machine has joined, as {}.\n{started}\n", follower.name))?;
        }
        for made in &tokens {
            let until = moment::at(made.about.expires);
            print(&format!("\nOn the next machine of the role {}, as root (until {until}):\n", made.about.role))?;
            print(&format!("  {}\n", tokens::line(made)))?;
        }
        if tokens.is_empty() && here.is_none() {
            let at = quoted(&root.display().to_string());
            print(&format!(
                "For a machine that is to join, type here: lockstep tokens create --role ROLE --root {at}\n"
            ))?;
        }
    }
    site.finish()?;
    Ok(Done::Good)
}

/// A token for each machine that is going to join.
async fn tokens(config: Config, roles: &[String]) -> Result<Vec<MadeToken>, Failed> {
    let socket = Socket::quietly(config)?;
    let mut made = Vec::new();
    for role in roles {
        made.push(socket.post("/admin/tokens", &json!({"role": role})).await?);
    }
    Ok(made)
}

/// What people compare of the platform's own authority; nothing where it has none.
fn fingerprint(config: &Config) -> Result<Option<String>, Failed> {
    let Some(state) = Store::peek(&config.state)?.map(|store| store.authority()).transpose()?.flatten() else {
        return Ok(None);
    };
    Ok(Some(tls::short(&state.current.read()?.fingerprint)))
}

/// On a root that is a platform.
pub(super) fn already(root: &Path, json: bool) -> Result<Done, Failed> {
    if json {
        print_json(&json!({"root": root, "new": false}))?;
        return Ok(Done::Good);
    }
    let at = quoted(&root.display().to_string());
    print(&format!("{} is a platform already; nothing was changed.\n", root.display()))?;
    say(&format!(
        "the next machine: lockstep tokens create --role ROLE --root {at}\na setting: lockstep settings set NAME VALUE --root {at}\nhow it is: lockstep status --root {at}"
    ));
    Ok(Done::Good)
}
