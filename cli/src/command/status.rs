//! `lockstep status`: one screen.

use super::show::Paint;
use super::{USUAL_WIDTH, disk, fleet, leader_config, print, print_json, screen};
use crate::exit::{Done, Failed, failed};
use crate::socket::Socket;
use lockstep_leader::certificates::ends::told;
use lockstep_leader::history::{Entry, Listing};
use lockstep_shared::Name;
use lockstep_shared::api::Fleet;
use screen::View;
use std::io::IsTerminal as _;
use std::path::Path;

/// To the upper left corner, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// What can be typed.
#[derive(Debug, Clone, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch that is typed by itself")]
pub(crate) struct Options {
    /// Only the machines of this role
    #[arg(long, value_name = "ROLE")]
    role: Option<Name>,
    /// Only this machine
    #[arg(long, value_name = "MACHINE")]
    machine: Option<Name>,
    /// Only machines with something wrong
    #[arg(long)]
    bad: bool,
    /// All machines, also where the terminal is too low for them
    #[arg(long)]
    all: bool,
    /// Also what was done last on each machine, however many there are
    #[arg(long)]
    details: bool,
    /// Stay, and show it anew as it changes; Ctrl-C ends it
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let socket = Socket::needed(&config)?;
    let whole: Fleet = socket.get("/admin/fleet").await?;
    if options.watch {
        return watch(&socket, &options).await;
    }
    let mut fleet = narrowed(whole.clone(), &options)?;
    if options.json {
        let now = lockstep_edge::clock::now();
        // The screen says how many are well, too.
        fleet.machines.retain(|machine| !options.bad || !super::trouble::troubles(machine, &whole, now).is_empty());
        print_json(&fleet)?;
    } else {
        let entry = published(&socket).await;
        print(&screen::screen(&fleet, entry.as_ref(), lockstep_edge::clock::now(), view(&options), Paint::new()))?;
        if !fleet.disabled.is_empty() {
            let names = fleet.disabled.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
            print(&format!("disabled: {names} (lockstep followers enable NAME lets one in again)\n"))?;
        }
        for ending in &fleet.ending {
            print(&format!("{}\n", told(ending, lockstep_edge::clock::now())))?;
        }
        disk::remind(&config, Some(&socket)).await;
    }
    Ok(Done::Good)
}

/// Draws it whenever the leader tells something new.
async fn watch(socket: &Socket, options: &Options) -> Result<Done, Failed> {
    if !std::io::stdout().is_terminal() {
        return Err(failed(
            "--watch draws on a terminal, and there is none: lockstep status, or lockstep wait --applied REV",
        ));
    }
    let mut entry = published(socket).await;
    loop {
        let look = |whole: &Fleet| {
            if entry.as_ref().is_some_and(|entry| entry.number != whole.revision) {
                return Some(Ok(()));
            }
            let draw = || {
                let fleet = narrowed(whole.clone(), options)?;
                let now = lockstep_edge::clock::now();
                let screen = screen::screen(&fleet, entry.as_ref(), now, view(options), Paint::new());
                print(&format!("{CLEAR}{screen}"))
            };
            draw().err().map(Err)
        };
        tokio::select! {
            found = fleet::until(socket, None, look) => match found? {
                // Another revision: who published it?
                Some(Ok(())) | None => entry = published(socket).await,
                Some(Err(error)) => return Err(error),
            },
            _ = tokio::signal::ctrl_c() => return Ok(Done::Good),
        }
    }
}

/// What is published: a line that may be missing, where only that can't be had.
async fn published(socket: &Socket) -> Option<Entry> {
    let listing: Listing = socket.get("/admin/revisions?limit=1").await.ok()?;
    listing.revisions.into_iter().next()
}

/// The machines that are asked for.
fn narrowed(mut fleet: Fleet, options: &Options) -> Result<Fleet, Failed> {
    let names = |pick: fn(&lockstep_shared::api::Machine) -> &Name| {
        let mut names: Vec<&str> = fleet.machines.iter().map(|machine| pick(machine).as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    };
    if let Some(name) =
        options.machine.as_ref().filter(|name| fleet.machines.iter().all(|machine| machine.name != **name))
    {
        return Err(failed(format!("there is no machine {name}: there are {}", names(|machine| &machine.name))));
    }
    if let Some(role) = options.role.as_ref().filter(|role| fleet.machines.iter().all(|machine| machine.role != **role))
    {
        return Err(failed(format!(
            "no machine has the role {role}: the roles are {}",
            names(|machine| &machine.role)
        )));
    }
    fleet.machines.retain(|machine| {
        options.role.as_ref().is_none_or(|role| machine.role == *role)
            && options.machine.as_ref().is_none_or(|name| machine.name == *name)
    });
    Ok(fleet)
}

fn view(options: &Options) -> View {
    let size = std::io::stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok()).flatten();
    View {
        width: size.map(|size| if size.ws_col == 0 { USUAL_WIDTH } else { size.ws_col }),
        height: size.map(|size| size.ws_row).filter(|rows| *rows > 0 && !options.all),
        details: options.details || options.machine.is_some(),
        bad: options.bad,
    }
}
