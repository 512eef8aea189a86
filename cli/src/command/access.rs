//! `lockstep access`: API tokens. (`lockstep tokens` is for machines that join.)

use super::{leader_config, print, print_json, say, table};
use crate::exit::{Done, Failed};
use crate::moment;
use crate::printable::printable;
use crate::socket::{Socket, escaped};
use clap::Subcommand;
use lockstep_leader::access::Token;
use lockstep_leader::who::Right;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(crate) enum Access {
    /// Make an API token; it is shown this once
    Create {
        /// Who will act with it
        name: String,
        /// What may be done with it: read, edit, publish, secrets, followers, users (repeatable)
        #[arg(long = "right", value_name = "RIGHT", required = true, value_parser = right)]
        rights: Vec<Right>,
        /// When it ends: 90d, 12h [default: never]
        #[arg(long, value_name = "SPAN")]
        expires: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all API tokens, without what they are made of
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke an API token at once
    Revoke {
        /// Its name
        name: String,
    },
}

fn right(word: &str) -> Result<Right, String> {
    let all = || Right::ALL.map(|right| right.to_string()).join(", ");
    Right::parse(word).ok_or_else(|| format!("the rights are {}", all()))
}

#[derive(Serialize, Deserialize)]
struct Made {
    token: String,
    about: Token,
}

pub(super) async fn run(root: &Path, access: Access) -> Result<Done, Failed> {
    let socket = Socket::or_files(leader_config(root)?)?;
    match access {
        Access::Create { name, rights, expires, json } => {
            let seconds = expires.map(|span| moment::span(&span)).transpose()?;
            let wanted = serde_json::json!({"name": name, "rights": rights, "expires_in": seconds});
            let made: Made = socket.post("/admin/access", &wanted).await?;
            if json {
                print_json(&made)?;
            } else {
                print(&format!("{}\n", made.token))?;
                say(&format!(
                    "this is shown once: keep it like a key. {} uses it with LOCKSTEP_URL and LOCKSTEP_TOKEN, or as Authorization: Bearer",
                    made.about.name
                ));
            }
        }
        Access::List { json } => {
            let tokens: Vec<Token> = socket.get("/admin/access").await?;
            if json {
                print_json(&tokens)?;
            } else if tokens.is_empty() {
                say("there are no API tokens: lockstep access create NAME --right read makes one");
            } else {
                print(&shown(&tokens))?;
            }
        }
        Access::Revoke { name } => {
            let token: Token = socket.delete(&format!("/admin/access/{}", escaped(&name))).await?;
            print(&format!("revoked {} (token {})\n", printable(&token.name), token.id))?;
        }
    }
    Ok(Done::Good)
}

fn shown(tokens: &[Token]) -> String {
    let mut table = table(["name", "id", "rights", "made", "by", "last used", "ends"]);
    for token in tokens {
        let rights: Vec<String> = token.rights.iter().map(ToString::to_string).collect();
        let ends = match token.expires {
            Some(_) if token.expired => "has ended".to_owned(),
            Some(end) => moment::at(end),
            None => "never".to_owned(),
        };
        table.add_row([
            printable(&token.name),
            token.id.to_string(),
            rights.join(" "),
            moment::at(token.created),
            printable(&token.author),
            token.used.map_or("never".to_owned(), moment::at),
            ends,
        ]);
    }
    format!("{table}\n")
}
