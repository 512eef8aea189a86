//! `lockstep context`: leaders elsewhere, by name.

use super::ask::ask_plainly;
use super::{print, print_json, say, table};
use crate::contexts::{self, Context, Contexts};
use crate::exit::{Done, Failed, failed};
use crate::hidden;
use crate::printable::printable;
use crate::remote::{self, Remote};
use crate::socket::Socket;
use clap::Subcommand;
use lockstep_edge::client::{builder, innermost};
use lockstep_edge::tls::{Certificate, Meeting, authorities, short};
use serde_json::json;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest token that is read, in bytes.
const MOST: u64 = 4096;

#[derive(Debug, Subcommand)]
pub(crate) enum Leaders {
    /// Add a leader elsewhere, after trying it; its API token is in --token-file, asked for, piped in, or in the environment
    Add {
        /// What to call it
        #[arg(value_parser = contexts::name)]
        name: String,
        /// The address of its admin listener
        #[arg(value_name = "URL")]
        address: String,
        /// Believe the authorities in this file, and no others (PEM)
        #[arg(long, value_name = "FILE", conflicts_with = "ca_fingerprint")]
        ca: Option<PathBuf>,
        /// Believe the authority with this fingerprint, as lockstep ca show prints it on the leader
        #[arg(long, value_name = "FINGERPRINT")]
        ca_fingerprint: Option<String>,
        /// Don't try it: it can't be reached yet
        #[arg(long)]
        unchecked: bool,
    },
    /// Show all contexts, without tokens
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a context wherever nothing else is said; without a name, none any more
    Use {
        /// Its name
        name: Option<String>,
    },
    /// Show a context, and whether its leader answers
    Show {
        /// Its name [default: the one in use]
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget a context and its token; the token stays valid until it is revoked
    Remove {
        /// Its name
        name: String,
    },
}

pub(super) async fn run(command: Leaders) -> Result<Done, Failed> {
    let token = remote::token_file_alone()?;
    if token.is_some() && !matches!(command, Leaders::Add { .. }) {
        return Err(failed("--token-file is for lockstep context add"));
    }
    let mut contexts = Contexts::load()?;
    match command {
        Leaders::Add { name, address: url, ca, ca_fingerprint, unchecked } => {
            if contexts.contexts.contains_key(&name) {
                return Err(failed(format!(
                    "there is a context {name} already: lockstep context remove {name} first, or take another name"
                )));
            }
            let url = remote::address(&url)?;
            let ca = trusted(&url, ca.as_deref(), ca_fingerprint.as_deref(), unchecked).await?;
            let mut context = Context { url, ca, ..Context::default() };
            match token {
                Some(file) => context.token_file = Some(std::path::absolute(&file)?),
                None => context.token = Some(asked(&name)?),
            }
            let remote = Remote::of(&name, &context)?;
            if !unchecked {
                let _: serde_json::Value = Socket::far(&remote)?.get("/admin/fleet").await.map_err(|error| {
                    failed(format!("{}; nothing was added (--unchecked adds it all the same)", error.0))
                })?;
            }
            contexts.contexts.insert(name.clone(), context);
            contexts.save()?;
            say(&format!(
                "added {name}: lockstep --context {name} status; lockstep context use {name} makes it the one that counts"
            ));
        }
        Leaders::List { json } => list(&contexts, json)?,
        Leaders::Use { name: Some(name) } => {
            contexts.get(&name)?;
            contexts.current = Some(name.clone());
            contexts.save()?;
            say(&format!("{name} counts from now on, where neither --url, --context nor --root is said"));
        }
        Leaders::Use { name: None } => {
            contexts.current = None;
            contexts.save()?;
            say("no context counts any more: commands are for the leader of this machine");
        }
        Leaders::Show { name, json } => return show(&contexts, name, json).await,
        Leaders::Remove { name } => {
            contexts.get(&name)?;
            contexts.contexts.remove(&name);
            if contexts.current.as_ref() == Some(&name) {
                contexts.current = None;
            }
            contexts.save()?;
            say(&format!("forgot {name}. Its token is valid still: lockstep access revoke, on the leader, ends it"));
        }
    }
    Ok(Done::Good)
}

fn list(contexts: &Contexts, json: bool) -> Result<(), Failed> {
    if json {
        let all: Vec<_> = contexts.contexts.iter().map(|(name, context)| about(contexts, name, context)).collect();
        return print_json(&all);
    }
    if contexts.contexts.is_empty() {
        say("there are no contexts: lockstep context add NAME URL");
        return Ok(());
    }
    let mut table = table(["", "name", "leader", "token", "authority"]);
    for (name, context) in &contexts.contexts {
        table.add_row([
            if contexts.current.as_ref() == Some(name) { "*" } else { "" }.to_owned(),
            name.clone(),
            printable(&context.url),
            token(context),
            fingerprints(context).map_or("the system's".to_owned(), |all| all.join(", ")),
        ]);
    }
    print(&format!("{table}\n"))
}

fn about(contexts: &Contexts, name: &str, context: &Context) -> serde_json::Value {
    json!({
        "name": name, "url": context.url, "current": contexts.current.as_deref() == Some(name),
        "token_file": context.token_file, "authorities": fingerprints(context),
    })
}

async fn show(contexts: &Contexts, name: Option<String>, as_json: bool) -> Result<Done, Failed> {
    let name = name
        .or_else(|| contexts.current.clone())
        .ok_or_else(|| failed("no context is in use: lockstep context show NAME, or lockstep context list"))?;
    let context = contexts.get(&name)?;
    let answer: Result<serde_json::Value, Failed> =
        Socket::far(&Remote::of(&name, context)?)?.get("/admin/fleet").await;
    if as_json {
        let mut about = about(contexts, &name, context);
        about["answers"] = answer.is_ok().into();
        about["why_not"] = answer.as_ref().err().map(|error| error.0.clone()).into();
        print_json(&about)?;
    } else {
        let authority = fingerprints(context)
            .map_or("the system's authorities are believed".to_owned(), |all| format!("authority {}", all.join(", ")));
        print(&format!("{name}: {}\n{authority}\ntoken: {}\n", printable(&context.url), token(context)))?;
        match &answer {
            Ok(fleet) => print(&format!("it answers: revision {} is published\n", fleet["revision"]))?,
            Err(error) => say(&format!("it doesn't answer as it should: {}", error.0)),
        }
    }
    Ok(if answer.is_ok() { Done::Good } else { Done::Broken })
}

fn token(context: &Context) -> String {
    context.token_file.as_ref().map_or("kept here".to_owned(), |file| file.display().to_string())
}

fn fingerprints(context: &Context) -> Option<Vec<String>> {
    let read = authorities(context.ca.as_deref()?).unwrap_or_default();
    Some(read.iter().map(|authority| short(&authority.fingerprint)).collect())
}

/// The token: from the environment, a pipe, or a person who types it unseen.
fn asked(name: &str) -> Result<String, Failed> {
    let text = match std::env::var("LOCKSTEP_TOKEN").ok().filter(|token| !token.is_empty()) {
        Some(token) => token,
        None if std::io::stdin().is_terminal() => {
            hidden::ask(&format!("API token for {name} (not shown): "))?.to_string()
        }
        None => {
            let mut text = String::new();
            std::io::stdin().lock().take(MOST).read_to_string(&mut text)?;
            text
        }
    };
    let token = text.trim();
    if token.is_empty() {
        return Err(failed(
            "a token is needed: LOCKSTEP_TOKEN, a pipe, or --token-file FILE; lockstep access create NAME --right read makes one, on the leader's machine",
        ));
    }
    Ok(token.to_owned())
}

/// What to pin, as PEM; `None` where the system's authorities decide.
async fn trusted(
    url: &str,
    ca: Option<&Path>,
    fingerprint: Option<&str>,
    unchecked: bool,
) -> Result<Option<String>, Failed> {
    if !url.starts_with("https://") {
        return match (ca, fingerprint) {
            (None, None) => Ok(None),
            _ => Err(failed("there is no TLS on an http:// address: leave --ca and --ca-fingerprint out")),
        };
    }
    if let Some(file) = ca {
        let wrong = |why: &dyn std::fmt::Display| failed(format!("{}: {why}", file.display()));
        let pem = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
        authorities(&pem).map_err(|error| wrong(&error))?;
        return Ok(Some(pem));
    }
    if unchecked && fingerprint.is_none() {
        return Err(failed(
            "a leader that isn't tried can't show its authority: say --ca FILE (lockstep ca show --pem on the leader prints it)",
        ));
    }
    let shown = meet(url).await?;
    match (shown, fingerprint) {
        (Some(authority), Some(wanted)) if matches(&authority, wanted) => Ok(Some(authority.pem())),
        (Some(authority), Some(wanted)) => Err(failed(format!(
            "{url} shows the authority {}, not {wanted}: is it the right leader, or does somebody stand in between? Nothing was sent. On the leader: lockstep ca show",
            short(&authority.fingerprint)
        ))),
        (None, Some(_)) => Err(failed(format!(
            "{url} shows no authority of a lockstep leader: leave --ca-fingerprint out where a proxy stands in front"
        ))),
        (Some(authority), None) => {
            let fingerprint = short(&authority.fingerprint);
            if !std::io::stdin().is_terminal() {
                return Err(failed(format!(
                    "{url} shows the authority {fingerprint}, and there is nobody to compare it: on the leader lockstep ca show says the right one; then say --ca-fingerprint"
                )));
            }
            say(&format!(
                "{url} shows the authority {fingerprint}\non the leader, lockstep ca show has to print the same"
            ));
            if ask_plainly("is it the same")? { Ok(Some(authority.pem())) } else { Err(failed("nothing was added")) }
        }
        (None, None) => Ok(None),
    }
}

/// Whether it is the authority with this fingerprint, whole or in short.
fn matches(authority: &Certificate, wanted: &str) -> bool {
    let wanted = wanted.trim().to_ascii_lowercase();
    wanted == authority.fingerprint.to_string() || wanted == short(&authority.fingerprint)
}

/// The authority of its own that a leader shows; `None` where it has a
/// certificate of another kind, which is for the system to judge.
async fn meet(url: &str) -> Result<Option<Certificate>, Failed> {
    let meeting = Arc::new(Meeting::default());
    let tls = meeting.client().map_err(|error| failed(format!("TLS could not be set up: {error}")))?;
    let http = builder().tls_backend_preconfigured(tls).build()?;
    match http.get(format!("{url}/healthz")).send().await {
        Ok(_) => Ok(meeting.authority()),
        Err(error) if error.is_connect() && meeting.authority().is_none() && spoke_tls(&error) => Ok(None),
        Err(error) => Err(failed(format!(
            "{url} was not reached: {}; is that its address, does the leader run, does a firewall stand between? (--unchecked with --ca adds it all the same)",
            innermost(&error)
        ))),
    }
}

/// Whether the other side showed a certificate, and only that was refused.
fn spoke_tls(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("invalid peer certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}
