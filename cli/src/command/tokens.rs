//! `lockstep tokens`: tokens that machines join with. (`lockstep access` is for people and programs.)

use super::{leader_config, print, print_json, say, table};
use crate::exit::{Done, Failed};
use crate::moment;
use crate::printable::printable;
use crate::socket::{Socket, escaped};
use clap::Subcommand;
use lockstep_leader::http::MadeToken;
use lockstep_leader::roster::{JoinTokenView, TokenState};
use lockstep_shared::Name;
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Make a token with which one machine joins; it is shown this once
    Create {
        /// The role of the machine that joins
        #[arg(long)]
        role: Name,
        /// Only a machine of this name [default: any that is free]
        #[arg(long)]
        name: Option<Name>,
        /// When it ends: 2h, 7d [default: 24h]
        #[arg(long, value_name = "SPAN")]
        expires: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the tokens that can be used, or could be lately
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a token back: nobody joins with it any more
    Revoke {
        /// Its id, as list shows it
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(root: &Path, tokens: Tokens) -> Result<Done, Failed> {
    let socket = Socket::or_files(leader_config(root)?)?;
    match tokens {
        Tokens::Create { role, name, expires, json } => {
            let seconds = expires.map(|span| moment::span(&span)).transpose()?;
            let wanted = serde_json::json!({"role": role, "name": name, "expires_in": seconds});
            let made: MadeToken = socket.post("/admin/tokens", &wanted).await?;
            if json {
                print_json(&made)?;
            } else {
                print(&format!("{}\n", line(&made)))?;
                say(&told(&made));
            }
        }
        Tokens::List { json } => {
            let tokens: Vec<JoinTokenView> = socket.get("/admin/tokens").await?;
            if json {
                print_json(&tokens)?;
            } else if tokens.is_empty() {
                say("there are no join tokens: lockstep tokens create --role ROLE makes one");
            } else {
                print(&shown(&tokens))?;
            }
        }
        Tokens::Revoke { id, json } => {
            let token: JoinTokenView = socket.delete(&format!("/admin/tokens/{}", escaped(&id))).await?;
            if json {
                print_json(&token)?;
            } else {
                print(&format!("revoked {}: nobody joins with it any more\n", token.id))?;
            }
        }
    }
    Ok(Done::Good)
}

/// What to type on the next machine.
pub(crate) fn line(made: &MadeToken) -> String {
    let name = made.about.name.as_ref().map(|name| format!(" --name {name}")).unwrap_or_default();
    format!("lockstep join-platform {} --role {}{name}", made.token, made.about.role)
}

fn told(made: &MadeToken) -> String {
    let mut text = format!(
        "type this on the machine that is to join, as root. It is shown this once, lets in one machine of the role {}, and ends at {}.",
        made.about.role,
        moment::at(made.about.expires)
    );
    if let Some(fingerprint) = &made.fingerprint {
        text += &format!("\nthe machine shows the leader's fingerprint: {fingerprint}");
    }
    text += &format!("\nit looks for the leader at {}", made.addresses.join(", "));
    text + &format!("\nto take it back: lockstep tokens revoke {}", made.about.id)
}

fn shown(tokens: &[JoinTokenView]) -> String {
    let mut table = table(["id", "state", "role", "name", "made", "by", "ends", "used"]);
    for token in tokens {
        let (state, used) = match token.state {
            TokenState::Open => ("open", String::new()),
            TokenState::Expired => ("expired", String::new()),
            TokenState::Revoked => ("revoked", String::new()),
            TokenState::Outdated => ("of the authority before", String::new()),
            TokenState::Used => ("used", used(token)),
        };
        table.add_row([
            token.id.clone(),
            state.to_owned(),
            token.role.to_string(),
            token.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            moment::at(token.created),
            printable(&token.author),
            moment::at(token.expires),
            used,
        ]);
    }
    format!("{table}\n")
}

fn used(token: &JoinTokenView) -> String {
    let machine = token.machine.as_ref().map(ToString::to_string).unwrap_or_default();
    let from = token.from.as_deref().map(printable).unwrap_or_default();
    format!("{} by {machine}, from {from}", token.used.map(moment::at).unwrap_or_default())
}
