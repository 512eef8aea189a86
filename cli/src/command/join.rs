//! `lockstep join-platform`: this machine becomes a follower.

use super::ask::ask;
use super::{print, print_json, say, socket_address};
use crate::exit::{Done, Failed, failed};
use crate::joining::{Follower, Listen, Wish, plan};
use crate::unit::{Running, Side};
use lockstep_shared::Name;
use lockstep_shared::join::JoinToken;
use std::io::{IsTerminal as _, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Options {
    /// The token.
    #[arg(help = "The token, or - to read it from standard input [env: LOCKSTEP_JOIN_TOKEN]")]
    token: Option<String>,
    /// This machine's role
    #[arg(long)]
    role: Name,
    /// What this machine is called on the platform [default: its host name]
    #[arg(long)]
    name: Option<Name>,
    /// Where to listen for the leader's news [default: this machine's address towards the leader, port 6000 or the next free one]
    #[arg(long, value_name = "IP:PORT", conflicts_with = "no_listen", value_parser = socket_address)]
    listen: Option<SocketAddr>,
    /// Listen to nobody: only ask the leader for news, which comes as fast
    #[arg(long)]
    no_listen: bool,
    /// What templates see as this machine's addresses (repeatable) [default: the one towards the leader]
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,
    /// Where the platform's files go [default: pryv in the home folder]
    #[arg(long, value_name = "DIR")]
    data_folder: Option<PathBuf>,
    /// This machine runs no containers
    #[arg(long)]
    no_docker: bool,
    /// Don't install a service
    #[arg(long)]
    no_service: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let wish = Wish {
        token: token(options.token.as_deref())?,
        role: options.role,
        name: options.name,
        listen: match (options.listen, options.no_listen) {
            (Some(address), _) => Listen::At(address),
            (None, true) => Listen::Not,
            (None, false) => Listen::Usual,
        },
        addresses: options.addresses,
        data_folder: options.data_folder.map(|folder| std::path::absolute(&folder).unwrap_or(folder)),
        docker: !options.no_docker,
    };
    let running = Running::of(Side::Follower, root, !options.no_service);
    let plan = match plan(root, wish)? {
        Ok(plan) => plan,
        Err(there) => {
            if options.json {
                print_json(&there)?;
            } else {
                print(&format!(
                    "{} has joined already, as {}: nothing was changed\n",
                    there.root.display(),
                    there.name
                ))?;
                print(&shown(&there))?;
            }
            return Ok(Done::Good);
        }
    };
    running.refuse_other(root)?;
    let lines = [plan.lines(), running.plan()].concat().join("\n");
    if options.dry_run {
        print(&format!("{lines}\n\nnothing was done (--dry-run)\n"))?;
        return Ok(Done::Good);
    }
    if !options.json {
        say(&lines);
    }
    if !options.yes && std::io::stdin().is_terminal() && !ask("join")? {
        return Err(failed("nothing was done"));
    }
    let follower = plan.join().await?;
    for note in &follower.notes {
        say(note);
    }
    if options.json {
        print_json(&follower)?;
    } else {
        print(&format!("\n{} has joined, as a machine of the role {}\n", follower.name, plan.role))?;
        print(&shown(&follower))?;
    }
    let started = running.start()?;
    if options.json {
        say(&started);
    } else {
        print(&format!("{started}\n"))?;
        print(&format!(
            "What comes of it, on the leader: lockstep followers show {}; lockstep status\n",
            follower.name
        ))?;
    }
    Ok(Done::Good)
}

/// The token, from wherever it was said; best not on the command line, where others see it.
fn token(said: Option<&str>) -> Result<JoinToken, Failed> {
    let text = match said {
        Some("-") => {
            let mut text = Zeroizing::new(String::new());
            std::io::stdin().lock().take(8192).read_to_string(&mut text)?;
            text
        }
        Some(text) => Zeroizing::new(text.to_owned()),
        None => Zeroizing::new(std::env::var("LOCKSTEP_JOIN_TOKEN").unwrap_or_default()),
    };
    if text.trim().is_empty() {
        return Err(failed(
            "there is no token: give it as an argument, on standard input (-) or in LOCKSTEP_JOIN_TOKEN; on the leader, lockstep tokens create --role ROLE makes one",
        ));
    }
    JoinToken::parse(&text).map_err(failed)
}

fn shown(follower: &Follower) -> String {
    let mut lines = vec![format!("  the leader    {}", follower.leader)];
    if let Some(fingerprint) = &follower.fingerprint {
        lines.push(format!("                fingerprint {fingerprint} (there: lockstep ca show)"));
    }
    lines.push(format!("  this machine  {}", follower.root.display()));
    lines.push(format!(
        "                fingerprint of its key {} (there: lockstep followers show {})",
        follower.key, follower.name
    ));
    lines.push(match &follower.url {
        Some(url) => format!("                is told of news at {url}"),
        None => "                asks the leader for news".to_owned(),
    });
    lines.push(String::new());
    lines.join("\n")
}
