//! What a shell offers where a machine, a role, a setting, a secret, a revision
//! or a context is typed: asked of the leader at that moment, and nothing where
//! it doesn't answer soon.

use crate::command::environment;
use crate::contexts::Contexts;
use crate::socket::Socket;
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use lockstep_leader::config::Config;
use lockstep_leader::history::Listing;
use lockstep_shared::api::Fleet;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// A person waits with a finger on the key.
const SOON: Duration = Duration::from_millis(800);

/// The command line, knowing what to offer for its values.
pub(crate) fn with_candidates(command: Command) -> Command {
    let name = command.get_name().to_owned();
    below(command, &name)
}

/// `noun` is the command whose `NAME` is meant: `settings`, `secrets`, ...
fn below(command: Command, noun: &str) -> Command {
    let command = command.mut_args(|argument| completed(argument, noun));
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        let noun = if noun == "lockstep" { name.clone() } else { noun.to_owned() };
        command.mut_subcommand(name, |sub| below(sub, &noun))
    })
}

fn completed(argument: Arg, noun: &str) -> Arg {
    let named = argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
    let id = argument.get_id().as_str();
    let what = named.unwrap_or_else(|| id.to_uppercase());
    // A joining machine's name and role are in nobody's list yet; a new name isn't either.
    if noun.ends_with("-platform") || noun == "tokens" && id == "name" || noun == "access" && id == "name" {
        return argument;
    }
    match (what.as_str(), noun, id) {
        (_, _, "context") | ("NAME", "context", _) => argument.add(ArgValueCandidates::new(contexts)),
        ("MACHINE", ..) | ("NAME", "followers", _) => argument.add(ArgValueCandidates::new(machines)),
        ("ROLE", ..) => argument.add(ArgValueCandidates::new(roles)),
        ("REV" | "A" | "B", ..) => argument.add(ArgValueCandidates::new(revisions)),
        ("SETTING", ..) | ("NAME", "settings", _) => argument.add(ArgValueCandidates::new(settings)),
        ("NAME", "secrets", _) => argument.add(ArgValueCandidates::new(secrets)),
        _ => argument,
    }
}

fn contexts() -> Vec<CompletionCandidate> {
    let contexts = Contexts::load().unwrap_or_default();
    contexts
        .contexts
        .into_iter()
        .map(|(name, context)| CompletionCandidate::new(name).help(Some(context.url.into())))
        .collect()
}

fn machines() -> Vec<CompletionCandidate> {
    let fleet: Option<Fleet> = asked("/admin/fleet");
    let machines = fleet.into_iter().flat_map(|fleet| fleet.machines);
    machines
        .map(|machine| CompletionCandidate::new(machine.name.as_str()).help(Some(machine.role.to_string().into())))
        .collect()
}

fn roles() -> Vec<CompletionCandidate> {
    let fleet: Option<Fleet> = asked("/admin/fleet");
    let roles: BTreeSet<String> =
        fleet.into_iter().flat_map(|fleet| fleet.machines).map(|machine| machine.role.to_string()).collect();
    roles.into_iter().map(CompletionCandidate::new).collect()
}

fn revisions() -> Vec<CompletionCandidate> {
    let listing: Option<Listing> = asked("/admin/revisions?limit=20");
    let revisions = listing.into_iter().flat_map(|listing| listing.revisions);
    revisions.map(|entry| CompletionCandidate::new(entry.number.to_string()).help(Some(entry.message.into()))).collect()
}

fn settings() -> Vec<CompletionCandidate> {
    names(asked("/admin/settings"))
}

fn secrets() -> Vec<CompletionCandidate> {
    names(asked("/admin/secrets"))
}

/// The names in a list of things, bare or under `settings`.
fn names(answer: Option<Value>) -> Vec<CompletionCandidate> {
    let Some(answer) = answer else { return Vec::new() };
    let list = answer.as_array().or_else(|| answer.get("settings")?.as_array());
    let named = list.into_iter().flatten().filter_map(|one| {
        let name = one.get("name")?.as_str()?.to_owned();
        let title = one.get("title").and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(CompletionCandidate::new(name).help((!title.is_empty()).then(|| title.into())))
    });
    named.collect()
}

/// What the leader answers, if it does so soon.
fn asked<T: DeserializeOwned>(target: &str) -> Option<T> {
    let config = Config::load(&root(), environment()).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let socket = Socket::find(&config).ok()??;
        tokio::time::timeout(SOON, socket.get(target)).await.ok()?.ok()
    })
}

/// The home, as far as it is typed already.
fn root() -> PathBuf {
    let words: Vec<_> = std::env::args_os().collect();
    let typed = words.windows(2).find(|pair| pair[0] == "--root").map(|pair| PathBuf::from(&pair[1]));
    if typed.is_some() {
        crate::remote::stay();
    }
    let env = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    typed
        .or_else(|| env("LOCKSTEP_ROOT"))
        .or_else(|| env("PRYV_CONF_ROOT"))
        .unwrap_or_else(|| "/var/lib/lockstep".into())
}
