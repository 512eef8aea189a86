//! `lockstep ca`: the platform's own authority, which TLS between leader and
//! followers goes by.

use super::ask::ask;
use super::{leader_config, print, print_json, say, table};
use crate::exit::{Done, Failed, failed};
use crate::moment;
use crate::socket::Socket;
use clap::Subcommand;
use lockstep_leader::authority::{Authorities, Stage};
use serde::{Deserialize, Serialize};
use std::io::IsTerminal as _;
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Show the authority, its fingerprint, and for whom a rotation waits
    Show {
        /// Print the certificates of everything that is to be trusted, as a follower's leader.ca or curl's --cacert
        #[arg(long, conflicts_with = "json")]
        pem: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Replace the authority by a new one, with both trusted meanwhile; goes on by itself
    Rotate {
        /// Go on without the followers that are missing: each may have to join again
        #[arg(long)]
        finish: bool,
        /// Don't ask
        #[arg(long)]
        yes: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize, Deserialize)]
struct FinishedRotation {
    left: Vec<String>,
    authority: Authorities,
}

pub(super) async fn run(root: &Path, ca: Ca) -> Result<Done, Failed> {
    let socket = Socket::or_files(leader_config(root)?)?;
    let nothing = serde_json::json!({});
    match ca {
        Ca::Show { pem, json } => {
            let shown: Authorities = socket.get("/admin/authority").await?;
            if json {
                print_json(&shown)?;
            } else if pem {
                print(&shown.authorities.iter().map(|authority| authority.pem.as_str()).collect::<String>())?;
            } else {
                print(&screen(&shown))?;
            }
        }
        Ca::Rotate { finish: false, yes, json } => {
            if !yes && !std::io::stdin().is_terminal() {
                return Err(failed("nothing was changed: say --yes to replace the authority without being asked"));
            }
            if !yes && !ask("replace the authority (tokens that are open then can't be joined with any more)")? {
                return Err(failed("nothing was changed"));
            }
            let shown: Authorities = socket.post("/admin/authority/rotate", &nothing).await?;
            if json {
                print_json(&shown)?;
            } else {
                print(&screen(&shown))?;
                say("it goes on by itself, and no request fails for it: lockstep ca show tells how far it is");
            }
        }
        Ca::Rotate { finish: true, yes, json } => {
            let shown: Authorities = socket.get("/admin/authority").await?;
            let missing: Vec<String> = missing(&shown).iter().map(|name| (*name).to_string()).collect();
            if !missing.is_empty() {
                let names = missing.join(", ");
                if !yes && !std::io::stdin().is_terminal() {
                    return Err(failed(format!(
                        "{names} would have to join again: look at lockstep ca show, and say --yes to go on without"
                    )));
                }
                if !yes && !ask(&format!("go on without {names}, which may have to join again"))? {
                    return Err(failed("nothing was changed: lockstep ca show tells for whom it waits"));
                }
            }
            let done: FinishedRotation = socket.post("/admin/authority/finish", &nothing).await?;
            if json {
                print_json(&done)?;
            } else {
                print(&screen(&done.authority))?;
                if !done.left.is_empty() {
                    say(&format!(
                        "not waited for any more: {}. One that doesn't reach the leader now joins again (lockstep tokens create), or gets what lockstep ca show --pem prints as its config-follower/conf/ca.pem, loses state/told.json, and is restarted",
                        done.left.join(", ")
                    ));
                }
            }
        }
    }
    Ok(Done::Good)
}

fn missing(shown: &Authorities) -> Vec<&lockstep_shared::Name> {
    shown.followers.iter().filter(|follower| follower.missing).map(|follower| &follower.name).collect()
}

fn screen(shown: &Authorities) -> String {
    let mut authorities = table(["authority", "fingerprint", "ends", "now"]);
    for authority in &shown.authorities {
        authorities.add_row([
            authority.name.clone(),
            authority.short.clone(),
            moment::at(authority.ends),
            authority.duty.clone(),
        ]);
    }
    let mut out = format!("{authorities}\nthe leader's certificate ends {}\n", moment::at(shown.leader_ends));
    let missing = missing(shown);
    let since = moment::at(shown.since);
    out += &match shown.stage {
        Stage::Settled => String::new(),
        Stage::Telling => format!("rotation: the new authority is told to followers since {since}\n"),
        Stage::Renewing => format!("rotation: the new authority issues since {since}, and followers renew\n"),
    };
    if shown.stage != Stage::Settled {
        let mut waits = table(["waits for", "trusts", "its certificate ends", "said so"]);
        for follower in shown.followers.iter().filter(|follower| follower.missing) {
            let trusts: Vec<String> = follower.trusts.iter().map(lockstep_edge::tls::short).collect();
            waits.add_row([
                follower.name.to_string(),
                if trusts.is_empty() { "nothing is known".to_owned() } else { trusts.join(", ") },
                follower.certificate_ends.map_or("-".to_owned(), moment::at),
                follower.since.map_or("never".to_owned(), moment::at),
            ]);
        }
        if missing.is_empty() {
            out += "it waits for nobody\n";
        } else {
            out += &format!("{waits}\nwho never comes back is left behind with lockstep ca rotate --finish\n");
        }
    }
    out
}
