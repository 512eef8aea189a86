//! `lockstep followers`: who follows this leader; putting machines out, letting
//! them in, giving them new keys.

use super::trouble::ago;
use super::{columns, counted, leader_config, print, print_json, say, table, whole_width};
use crate::command::ask::ask;
use crate::exit::{Done, Failed, failed};
use crate::moment;
use crate::printable::printable;
use crate::socket::{Socket, escaped};
use clap::Subcommand;
use comfy_table::ColumnConstraint;
use lockstep_leader::http::{Changed, Rotating};
use lockstep_leader::roster::{FollowerView, KeyState, Origin};
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Debug, Subcommand)]
pub(crate) enum Followers {
    /// Show every follower: of config-leader.json, and joined with a token
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of one follower
    Show {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a follower a new key; the old one is out once it has used the new one
    RotateKey {
        /// Its name
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        name: Option<String>,
        /// Every follower that joined with a token and is not disabled
        #[arg(long)]
        all: bool,
        /// Wait until the old keys are out; exit 3 if one still isn't
        #[arg(long)]
        wait: bool,
        /// How long to wait, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 180, requires = "wait")]
        timeout: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Put a follower out at once; what it runs goes on running
    Disable {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a disabled follower in again
    Enable {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget a follower: its key opens nothing, its name is free; what it runs goes on running
    Remove {
        /// Its name
        name: String,
        /// Don't ask
        #[arg(long)]
        yes: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(root: &Path, followers: Followers) -> Result<Done, Failed> {
    let socket = Socket::or_files(leader_config(root)?)?;
    match followers {
        Followers::List { json } => {
            let all: Vec<FollowerView> = socket.get("/admin/followers").await?;
            if json {
                print_json(&all)?;
            } else if all.is_empty() {
                say("there are no followers: lockstep tokens create --role ROLE makes a token to join with");
            } else {
                print(&listed(&all, lockstep_edge::clock::now(), columns()))?;
            }
            Ok(Done::Good)
        }
        Followers::Show { name, json } => {
            let one: FollowerView = socket.get(&at(&name, "")).await?;
            if json {
                print_json(&one)?;
            } else {
                print(&shown(&one))?;
            }
            Ok(Done::Good)
        }
        Followers::RotateKey { name, all, wait, timeout, json } => {
            let names = match name {
                Some(name) => vec![name],
                None if all => rotatable(&socket).await?,
                None => Vec::new(),
            };
            rotate(&socket, &names, wait.then_some(timeout), json).await
        }
        Followers::Disable { name, json } => {
            let changed: Changed = socket.post(&at(&name, "/disable"), &serde_json::json!({})).await?;
            told(&changed, json, "is out: nothing that it signs is taken. What it runs goes on running")?;
            Ok(Done::Good)
        }
        Followers::Enable { name, json } => {
            let changed: Changed = socket.post(&at(&name, "/enable"), &serde_json::json!({})).await?;
            told(&changed, json, "is let in again, with the key that it had")?;
            Ok(Done::Good)
        }
        Followers::Remove { name, yes, json } => remove(&socket, &name, yes, json).await,
    }
}

fn at(name: &str, rest: &str) -> String {
    format!("/admin/followers/{}{rest}", escaped(name))
}

async fn remove(socket: &Socket, name: &str, yes: bool, json: bool) -> Result<Done, Failed> {
    let one: FollowerView = socket.get(&at(name, "")).await?;
    if !yes && one.origin == Origin::Token {
        say(&format!(
            "{name} ({}) will be forgotten: its key opens nothing any more, and its name is free.\nOn that machine all stays as it is: its containers run on, and the files that were written there stay, with their secrets.",
            one.role
        ));
        if !std::io::stdin().is_terminal() {
            return Err(failed(format!("nothing was done: lockstep followers remove {name} --yes does it")));
        }
        if !ask(&format!("remove {name}"))? {
            return Err(failed("nothing was done"));
        }
    }
    let changed: Changed = socket.delete(&at(name, "")).await?;
    told(
        &changed,
        json,
        "is forgotten. On that machine all stays as it is; to stop its lockstep there: systemctl disable --now lockstep-follower",
    )?;
    Ok(Done::Good)
}

fn told(changed: &Changed, json: bool, what: &str) -> Result<(), Failed> {
    if json {
        print_json(changed)?;
    } else {
        let revision =
            changed.revision.map(|revision| format!("; revision {revision} is for the machines that follow now"));
        print(&format!("{} {what}{}\n", changed.name, revision.unwrap_or_default()))?;
    }
    if let Some(why) = &changed.unpublished {
        say(&format!(
            "no revision could be published for the machines that follow now, so their files still tell of the fleet as it was: {}\nsee lockstep plan, then lockstep publish",
            printable(why)
        ));
    }
    Ok(())
}

async fn rotatable(socket: &Socket) -> Result<Vec<String>, Failed> {
    let all: Vec<FollowerView> = socket.get("/admin/followers").await?;
    let (joined, declared): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.origin == Origin::Token);
    if !declared.is_empty() {
        say(&format!(
            "{} in config-leader.json {} left out: such keys are changed there and on the machine",
            counted(declared.len(), "follower"),
            if declared.len() == 1 { "is" } else { "are" }
        ));
    }
    Ok(joined.into_iter().filter(|one| one.enabled).map(|one| one.name.to_string()).collect())
}

async fn rotate(socket: &Socket, names: &[String], wait: Option<u64>, json: bool) -> Result<Done, Failed> {
    let mut begun: Vec<Rotating> = Vec::new();
    let mut refused = None;
    for name in names {
        match socket.post(&at(name, "/rotate-key"), &serde_json::json!({})).await {
            Ok(rotating) => begun.push(rotating),
            Err(Failed(why)) => {
                say(&format!("{name}: {why}"));
                refused = Some(why);
            }
        }
    }
    let waiting = match wait {
        Some(seconds) => until_used(socket, &begun, Duration::from_secs(seconds)).await?,
        None => Vec::new(),
    };
    if json {
        print_json(&begun)?;
    } else {
        for rotating in &begun {
            print(&format!("{}: {}\n", rotating.name, state(rotating, wait.is_some(), &waiting)))?;
        }
    }
    match refused {
        Some(why) if names.len() == 1 => Err(Failed(why)),
        Some(_) => Err(failed("not every key is being replaced")),
        None if waiting.is_empty() => Ok(Done::Good),
        None => Ok(Done::NotFollowed),
    }
}

fn state(rotating: &Rotating, waited: bool, waiting: &[String]) -> &'static str {
    match (waited, waiting.contains(&rotating.name.to_string())) {
        (true, false) => "it uses its new key, the old one is out",
        (true, true) => "it has not used its new key yet; both are taken until it does",
        (false, _) if rotating.waits => "a new key waits for it already; both are taken until it has used that",
        (false, _) => "it hears of its new key with its next report; both are taken until it has used that",
    }
}

/// Those that still haven't used their new key after a time.
async fn until_used(socket: &Socket, begun: &[Rotating], time: Duration) -> Result<Vec<String>, Failed> {
    let start = Instant::now();
    loop {
        let all: Vec<FollowerView> = socket.get("/admin/followers").await?;
        let rotating = |one: &&FollowerView| {
            one.key_state == Some(KeyState::Rotating) && begun.iter().any(|begun| begun.name == one.name)
        };
        let waiting: Vec<String> = all.iter().filter(rotating).map(|one| one.name.to_string()).collect();
        if waiting.is_empty() || start.elapsed() >= time {
            return Ok(waiting);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the list says of each, in this order.
const HEADS: [&str; 8] = ["name", "role", "declared", "is served", "key", "certificate ends", "last seen", "url"];

/// Of those, what is left out first where there is no room for all.
const LEAST: [&str; 5] = ["declared", "certificate ends", "key", "url", "is served"];

/// A row for each; in `width` columns only as much as stays whole there.
fn listed(all: &[FollowerView], now: i64, width: Option<u16>) -> String {
    let row = |one: &FollowerView| {
        [
            one.name.to_string(),
            one.role.to_string(),
            match one.origin {
                Origin::File => "file".to_owned(),
                Origin::Token => "token".to_owned(),
            },
            match (one.enabled, one.served) {
                (false, _) => "disabled".to_owned(),
                (true, Some(revision)) => format!("revision {revision}"),
                (true, None) => "nothing published".to_owned(),
            },
            key_state(one).to_owned(),
            one.certificate_ends.map(moment::at).unwrap_or_default(),
            one.seen.filter(|seen| *seen > 0).map_or_else(|| "not yet".to_owned(), |seen| ago(now - seen)),
            one.url.as_deref().map_or_else(|| "polls".to_owned(), printable),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    // What says nothing of anybody is left out anyhow.
    let mut shown: Vec<usize> =
        (0..HEADS.len()).filter(|column| rows.iter().any(|row| !row[*column].is_empty())).collect();
    let mut left_out = Vec::new();
    for least in LEAST {
        if width.is_none_or(|width| whole_width(HEADS, &rows, &shown) <= usize::from(width)) {
            break;
        }
        let before = shown.len();
        shown.retain(|column| HEADS[*column] != least);
        if shown.len() < before {
            left_out.push(least);
        }
    }
    let mut table = table(shown.iter().map(|column| HEADS[*column]));
    // What is copied from here is not broken into lines.
    for (column, _) in shown.iter().enumerate().filter(|(_, head)| matches!(HEADS[**head], "name" | "url")) {
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    for row in rows {
        table.add_row(shown.iter().map(|column| row[*column].clone()));
    }
    let mut out = format!("{table}\n");
    if !left_out.is_empty() {
        out += &format!("no room for: {} (lockstep followers show NAME)\n", left_out.join(", "));
    }
    out
}

fn key_state(one: &FollowerView) -> &'static str {
    match one.key_state {
        None => "in the file",
        Some(KeyState::Used) => "used",
        Some(KeyState::Unused) => "not used yet",
        Some(KeyState::Rotating) => "being replaced",
        Some(KeyState::Disabled) => "refused",
    }
}

fn shown(one: &FollowerView) -> String {
    let mut lines = vec![("name", one.name.to_string()), ("role", one.role.to_string())];
    match one.origin {
        Origin::File => lines.push(("declared", "in config-leader.json".to_owned())),
        Origin::Token => lines.push((
            "joined",
            format!(
                "{}, with token {}, from {}",
                one.joined.map(moment::at).unwrap_or_default(),
                one.token.as_deref().map(printable).unwrap_or_default(),
                one.from.as_deref().map(printable).unwrap_or_default()
            ),
        )),
    }
    if !one.enabled {
        lines.push((
            "disabled",
            format!(
                "{}, by {}",
                one.disabled.map(moment::at).unwrap_or_default(),
                one.disabled_by.as_deref().map(printable).unwrap_or_default()
            ),
        ));
    }
    if one.enabled {
        let nothing = || "nothing: lockstep publish says what is missing".to_owned();
        lines.push(("is served", one.served.map_or_else(nothing, |revision| format!("revision {revision}"))));
    }
    lines.push(("url", one.url.as_deref().map_or_else(|| "none: it only polls".to_owned(), printable)));
    if !one.addresses.is_empty() {
        let addresses: Vec<String> = one.addresses.iter().map(|address| printable(address)).collect();
        lines.push(("addresses", addresses.join(", ")));
    }
    match &one.key {
        Some(key) => {
            let since = one.keyed.map(moment::at).unwrap_or_default();
            lines.push(("key", format!("{key}, since {since}; {}", key_state(one))));
        }
        None => lines.push(("key", key_state(one).to_owned())),
    }
    if let Some(end) = one.certificate_ends {
        lines.push(("certificate", format!("ends {}", moment::at(end))));
    }
    let seen = one.seen.filter(|seen| *seen > 0);
    lines.push(("last seen", seen.map_or_else(|| "not since the leader's start".to_owned(), moment::at)));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    lines.into_iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_little_room_less_is_said_and_nothing_is_broken() {
        let one = |name: &str| -> FollowerView {
            let view = format!(
                r#"{{"name":"{name}","role":"core","origin":"token","url":"http://192.0.2.17:6000","addresses":[],"enabled":true,"served":17,"key_state":"used","certificate_ends":1800000000,"seen":900}}"#
            );
            serde_json::from_str(&view).unwrap()
        };
        let all = [one("core-1"), one("core-2")];
        let whole = listed(&all, 1000, None);
        assert!(HEADS.iter().all(|head| whole.contains(head)) && !whole.contains("no room"), "{whole}");
        let narrow = listed(&all, 1000, Some(80));
        assert!(narrow.contains("no room for: declared, certificate ends (lockstep followers show NAME)"), "{narrow}");
        assert_eq!(narrow.lines().count(), 4, "{narrow}");
        assert!(narrow.contains("100 s ago") && narrow.contains("http://192.0.2.17:6000"), "{narrow}");
    }
}
