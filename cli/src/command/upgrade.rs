//! `lockstep upgrade`: what another version of the program changes for this
//! platform, and in which order to install it. It installs nothing itself.

use super::version::VERSION;
use super::{leader_config, print, print_json};
use crate::exit::{Done, Failed};
use crate::printable::printable;
use crate::socket::Socket;
use lockstep_leader::audit::{Audit, Chained};
use lockstep_leader::store::Store;
use lockstep_shared::api::Fleet;
use semver::Version;
use serde::Serialize;
use std::path::Path;

/// What changed between versions, as the releases are described.
const CHANGELOG: &str = include_str!("../../../CHANGELOG.md");

/// How many records of the audit are looked through for the last start.
const RECORDS: usize = 1000;

/// One version's notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Note {
    version: String,
    text: String,
}

/// A machine with another version.
#[derive(Debug, Serialize)]
struct Other {
    machine: String,
    version: String,
}

pub(super) async fn run(root: &Path, json: bool) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let socket = Socket::find(&config)?;
    let records: Vec<Chained> = match &socket {
        Some(socket) => socket.get(&format!("/admin/audit?limit={RECORDS}")).await?,
        None => match Store::peek(&config.state)? {
            Some(store) => Audit::new(store).records(0, i64::MAX, RECORDS)?,
            None => Vec::new(),
        },
    };
    let last = records.iter().rev().find_map(started);
    let fleet: Option<Fleet> = match &socket {
        Some(socket) => Some(socket.get("/admin/fleet").await?),
        None => None,
    };
    let others: Vec<Other> = fleet.iter().flat_map(|fleet| &fleet.machines).filter_map(other).collect();
    let notes = between(CHANGELOG, last.as_deref(), VERSION);
    let steps = steps(last.as_deref(), &others);
    if json {
        print_json(&serde_json::json!({
            "version": VERSION, "last_run": last, "notes": notes, "others": others, "steps": steps,
        }))?;
        return Ok(Done::Good);
    }
    let mut out = match &last {
        None => format!("lockstep {VERSION}; no leader ran here yet\n"),
        Some(last) if last == VERSION => format!("lockstep {VERSION}: the leader's last start was of this version\n"),
        Some(last) => format!("lockstep {VERSION}; the leader's last start was of {}\n", printable(last)),
    };
    for note in &notes {
        out += &format!("\n{}\n{}\n", note.version, note.text);
    }
    for other in &others {
        out += &format!("{} runs {}\n", other.machine, printable(&other.version));
    }
    for (number, step) in steps.iter().enumerate() {
        out += &format!("{}. {step}\n", number + 1);
    }
    if steps.is_empty() {
        out += "there is nothing to do\n";
    }
    print(&out)?;
    Ok(Done::Good)
}

/// The version of a record of the leader's start.
fn started(chained: &Chained) -> Option<String> {
    let record = &chained.record;
    (record.action == "start").then(|| record.detail.strip_prefix("version ").map(str::to_owned)).flatten()
}

fn other(machine: &lockstep_shared::api::Machine) -> Option<Other> {
    let version = machine.status.as_ref().map(|status| status.version.clone())?;
    (version != VERSION && !version.is_empty()).then(|| Other { machine: machine.name.to_string(), version })
}

/// What to do, in this order.
fn steps(last: Option<&str>, others: &[Other]) -> Vec<String> {
    let mut steps = Vec::new();
    if last.is_some_and(|last| last != VERSION) {
        steps.push("lockstep backup FILE: an earlier version can't read a store that a later one wrote".to_owned());
        steps
            .push("restart the leader: systemctl restart lockstep-leader, or scripts/restart-config-leader".to_owned());
        steps.push("lockstep wait --ready, lockstep status".to_owned());
    }
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|other| other.machine.as_str()).collect();
        steps.push(format!(
            "then the followers, one after the other: install lockstep {VERSION} on {} and restart it there (systemctl restart lockstep-follower); containers go on running",
            names.join(", ")
        ));
    }
    steps
}

/// The notes of all versions after `last`, up to and with `this`, the latest first.
/// What is not released yet belongs to the version that is.
fn between(changelog: &str, last: Option<&str>, this: &str) -> Vec<Note> {
    let (Some(last), Ok(this)) = (last.and_then(|last| Version::parse(last).ok()), Version::parse(this)) else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    for section in changelog.split("\n## ").skip(1) {
        let (head, text) = section.split_once('\n').unwrap_or((section, ""));
        let name = head.trim_start_matches('[').split(']').next().unwrap_or_default();
        let concerns = match Version::parse(name) {
            Ok(version) => version > last && version <= this,
            Err(_) => name == "Unreleased" && last < this && !changelog.contains(&format!("\n## [{this}]")),
        };
        if concerns {
            notes.push(Note { version: name.to_owned(), text: text.trim().to_owned() });
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notes_are_those_in_between() {
        let log = "# Changelog\n\n## [Unreleased]\n\n- d\n\n## [0.3.0] - 2027\n\n- c\n\n## [0.2.0]\n\n- b\n\n## [0.1.0]\n\n- a\n";
        let between = |last, this| -> Vec<String> {
            between(log, last, this).into_iter().map(|note| format!("{}{}", note.version, note.text)).collect()
        };
        assert_eq!(between(Some("0.1.0"), "0.3.0"), ["0.3.0- c", "0.2.0- b"]);
        assert_eq!(between(Some("0.3.0"), "0.3.0"), Vec::<String>::new());
        assert_eq!(between(Some("0.3.0"), "0.4.0"), ["Unreleased- d"]);
        assert_eq!(between(None, "0.3.0"), Vec::<String>::new());
        assert!(CHANGELOG.contains("\n## ["));
    }

    #[test]
    fn the_leader_comes_first() {
        let others = [Other { machine: "core-1".into(), version: "0.0.1".into() }];
        let all = steps(Some("0.0.1"), &others);
        assert!(
            all[0].contains("backup") && all[1].contains("restart the leader") && all[3].contains("core-1"),
            "{all:?}"
        );
        assert!(steps(Some(VERSION), &[]).is_empty() && steps(None, &[]).is_empty());
    }
}
