//! `lockstep secrets`: which there are, setting, rotating. A value comes from
//! standard input, a file or the environment, and is never printed.

use super::follow::Following;
use super::{leader_config, print, print_json, publish, say, table};
use crate::exit::{Done, Failed, failed};
use crate::hidden;
use crate::moment;
use crate::printable::printable;
use crate::socket::{Socket, escaped};
use clap::Subcommand;
use lockstep_leader::secrets::inventory::{Entry, Held, Sharing, Whence};
use lockstep_leader::store::passphrase;
use serde_json::json;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Show all secrets: whose, where from, since when, who uses them; never a value
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show which files, machines and roles a secret is for
    Uses {
        /// The secret
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set a secret's next value, from standard input, a file or the environment (newlines at its end are cut off); publish makes it current
    Set {
        /// The secret
        name: String,
        /// Of a secret with a value for each machine: whose
        #[arg(long, value_name = "MACHINE", conflicts_with = "role")]
        machine: Option<String>,
        /// Of a secret with a value for each role: whose
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// Read the value from this file
        #[arg(long, value_name = "FILE", conflicts_with = "env")]
        file: Option<PathBuf>,
        /// Read the value from this environment variable
        #[arg(long, value_name = "VAR")]
        env: Option<String>,
        /// Taken so that it can be refused in words
        #[arg(hide = true, allow_hyphen_values = true, num_args = 0..)]
        value: Vec<String>,
    },
    /// Make a new value, show what changes, ask, and publish it
    Rotate {
        /// The secret
        name: String,
        /// Of a secret with a value for each machine: this one's only
        #[arg(long, value_name = "MACHINE", conflicts_with = "role")]
        machine: Option<String>,
        /// Of a secret with a value for each role: this one's only
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// Don't ask
        #[arg(long)]
        yes: bool,
        /// Wait until every follower has proven it or failed; exit 3 if any failed
        #[arg(long)]
        wait: bool,
    },
    /// Put the store's key under a passphrase.
    #[command(
        about = "Put the store's key under the passphrase in LOCKSTEP_STORE_PASSPHRASE; the leader has to be stopped"
    )]
    Lock,
    /// Put the store's key back in the clear; the leader has to be stopped
    Unlock,
    /// Forget a next value that is not published yet
    Discard {
        /// The secret
        name: String,
    },
}

pub(super) async fn run(root: &Path, secrets: Secrets) -> Result<Done, Failed> {
    match secrets {
        Secrets::List { json } => {
            let entries: Vec<Entry> = connect(root)?.get("/admin/secrets").await?;
            if json {
                print_json(&entries)?;
            } else if entries.is_empty() {
                say("this release has no secrets (templates/settings.yml)");
            } else {
                print(&listed(&entries))?;
            }
        }
        Secrets::Uses { name, json } => {
            let entry: Entry = connect(root)?.get(&target(&name, "")).await?;
            if json {
                print_json(&entry)?;
            } else {
                print(&uses(&entry))?;
            }
        }
        Secrets::Set { name, machine, role, file, env, value } => {
            if !value.is_empty() {
                return Err(failed(format!(
                    "a value on the command line can be read by every user of this machine, and stays in the shell's history. Type lockstep secrets set {name} and give it when asked; or pipe it in, or say --file FILE or --env VAR. What you just typed should be considered known: use another value"
                )));
            }
            let value = value_of(&name, file.as_deref(), env.as_deref())?;
            let body = json!({"value": value.trim_end_matches('\n'), "machine": machine, "role": role});
            let _: Entry = connect(root)?.put(&target(&name, ""), &body).await?;
            say(&format!(
                "{name} has a next value: lockstep plan shows what changes, lockstep publish makes it current"
            ));
        }
        Secrets::Rotate { name, machine, role, yes, wait } => {
            return rotate(root, &name, json!({"machine": machine, "role": role}), yes, wait).await;
        }
        Secrets::Lock => {
            passphrase::lock_key(&leader_config(root)?.state)?;
            say(
                "store.key is under the passphrase: without it nobody opens this store, you neither. Start the leader with it in its environment",
            );
        }
        Secrets::Unlock => {
            passphrase::unlock_key(&leader_config(root)?.state)?;
            say("store.key is in the clear again: start the leader without LOCKSTEP_STORE_PASSPHRASE");
        }
        Secrets::Discard { name } => {
            let _: Entry = connect(root)?.delete(&target(&name, "/next")).await?;
            say(&format!("{name} stays as it is published"));
        }
    }
    Ok(Done::Good)
}

/// Makes the next value, and publishes as `publish` does. What was not
/// published is forgotten again, so that no later publication takes it along.
async fn rotate(root: &Path, name: &str, whose: serde_json::Value, yes: bool, wait: bool) -> Result<Done, Failed> {
    if !yes && !std::io::stdin().is_terminal() {
        return Err(failed(format!(
            "nobody is there to be asked: say lockstep secrets rotate {name} --yes, or type it in a terminal"
        )));
    }
    let stays = || say(&format!("{name} stays as it is published"));
    publish::tell_what_else(root, name).await.inspect_err(|_| stays())?;
    let _: Entry = connect(root)?.post(&target(name, "/rotate"), &whose).await?;
    let options = publish::Options {
        plan: None,
        wish: lockstep_leader::rollout::strategy::Wish::default(),
        following: Following { detach: !wait, wait, timeout: 300 },
        message: format!("a new value of the secret {name}"),
        yes,
        json: false,
    };
    let published = publish::run(root, options).await;
    if published.is_err() {
        let _: Entry = connect(root)?.delete(&target(name, "/next")).await?;
        stays();
    }
    published
}

fn connect(root: &Path) -> Result<Socket, Failed> {
    Socket::or_files(leader_config(root)?)
}

fn target(name: &str, rest: &str) -> String {
    format!("/admin/secrets/{}{rest}", escaped(name))
}

fn value_of(name: &str, file: Option<&Path>, env: Option<&str>) -> Result<Zeroizing<String>, Failed> {
    let no_text = || failed("the value is not text in UTF-8: encode it first, e.g. with base64");
    if let Some(file) = file {
        let bytes = std::fs::read(file).map_err(|error| failed(format!("{}: {error}", file.display())))?;
        return String::from_utf8(bytes).map(Zeroizing::new).map_err(|_| no_text());
    }
    if let Some(variable) = env {
        let value =
            std::env::var_os(variable).ok_or_else(|| failed(format!("{variable} is not set in the environment")))?;
        return value.into_string().map(Zeroizing::new).map_err(|_| no_text());
    }
    if std::io::stdin().is_terminal() {
        let first = hidden::ask(&format!("{name} (not shown): "))?;
        let second = hidden::ask("the same again: ")?;
        if *first != *second {
            return Err(failed(format!("the two differ: nothing was set. Type lockstep secrets set {name} again")));
        }
        return Ok(first);
    }
    let mut bytes = Zeroizing::new(Vec::new());
    // A byte more than any value may have: what is longer is refused by its length.
    std::io::stdin().lock().take(4 * 64 * 1024 + 2).read_to_end(&mut bytes)?;
    String::from_utf8(bytes.to_vec()).map(Zeroizing::new).map_err(|_| no_text())
}

fn listed(entries: &[Entry]) -> String {
    let mut table = table(["secret", "for each", "whose", "from", "set", "by", "used by"]);
    for entry in entries {
        for held in &entry.values {
            table.add_row([
                entry.name.clone(),
                each(entry.scope).to_owned(),
                held.holder.as_ref().map_or("-".to_owned(), ToString::to_string),
                whence(entry, held),
                held.at.map_or("-".to_owned(), moment::at),
                held.author.as_deref().map_or("-".to_owned(), printable),
                used_by(held),
            ]);
        }
    }
    format!("{table}\n")
}

fn each(scope: Sharing) -> &'static str {
    match scope {
        Sharing::Platform => "platform",
        Sharing::Role => "role",
        Sharing::Machine => "machine",
    }
}

fn whence(entry: &Entry, held: &Held) -> String {
    let now = match held.whence {
        Whence::Environment => "environment",
        Whence::Generated => "generated",
        Whence::Given => "given",
        Whence::Unmade => "made when published",
        Whence::Missing if entry.optional => "none (optional)",
        Whence::Missing => "MISSING",
    };
    if held.next.is_some() { format!("{now}; a next one waits") } else { now.to_owned() }
}

fn used_by(held: &Held) -> String {
    match &held.machines[..] {
        [] => "nobody".to_owned(),
        few @ ([_] | [_, _] | [_, _, _]) => few.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        many => format!("{} machines", many.len()),
    }
}

fn uses(entry: &Entry) -> String {
    let mut out = listed(std::slice::from_ref(entry));
    for file in &entry.files {
        out += &format!("{}: {} (from {})\n", file.role, file.path, file.template);
    }
    if entry.files.is_empty() {
        out += "no template names it\n";
    }
    out
}
