//! `lockstep publish`: show, ask, publish, notify; and wait, if wished.

use super::show::{Paint, changes, details, pushes};
use super::{author, environment, leader_config, plan, print, print_json, say};
use crate::exit::{Done, Failed, failed};
use crate::socket::Socket;
use lockstep_leader::leader::{Press, Publication, Request};
use lockstep_shared::api::{Fleet, Machine, State};
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) struct Options {
    pub(super) message: String,
    pub(super) yes: bool,
    /// How long to wait for the followers, in seconds.
    pub(super) wait: Option<u64>,
    pub(super) json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let request = Request { author: author(), message: options.message.clone() };
    let paint = Paint::new();
    let Some(socket) = Socket::find(&config)? else {
        let mut press = Press::open(config, environment())?;
        let planned = press.plan()?;
        if !agreed(&planned, &options, paint)? {
            return Err(failed("nothing was published"));
        }
        let (_, publication) = press.publish(&request)?;
        report(&publication, &options, paint)?;
        if publication.new {
            say(
                "no leader is running: it serves this revision once it starts, and nobody was notified (lockstep leader)",
            );
        }
        return Ok(Done::Good);
    };
    let planned: Publication = socket.get("/admin/plan").await?;
    if !agreed(&planned, &options, paint)? {
        return Err(failed("nothing was published"));
    }
    let publication: Publication = socket.post("/admin/publish", &request).await?;
    let done = match options.wait {
        Some(seconds) => wait(&socket, publication.revision, Duration::from_secs(seconds), &options).await?,
        None => Done::Good,
    };
    report(&publication, &options, paint)?;
    Ok(done)
}

/// Shows what would change and asks, where there is somebody to ask.
fn agreed(planned: &Publication, options: &Options, paint: Paint) -> Result<bool, Failed> {
    if options.json && options.yes {
        return Ok(true);
    }
    if !options.json {
        print(&changes(planned, paint))?;
    }
    if options.yes || !planned.new {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        // Scripts and cron have no one to ask; publishing is what was asked for.
        return Ok(true);
    }
    let mut out = std::io::stderr().lock();
    write!(out, "publish this? [Y/n] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}

fn report(publication: &Publication, options: &Options, paint: Paint) -> Result<(), Failed> {
    if options.json {
        return print_json(publication);
    }
    if publication.new {
        print(&format!("published revision {}\n{}", publication.revision, pushes(&publication.pushes, paint)))
    } else {
        say(&plan::nothing(publication));
        Ok(())
    }
}

/// Waits until every follower runs what is published, or failed at it.
async fn wait(socket: &Socket, revision: u64, time: Duration, options: &Options) -> Result<Done, Failed> {
    let start = Instant::now();
    let mut fleet: Fleet = socket.get("/admin/fleet").await?;
    loop {
        let open: Vec<&Machine> = fleet.machines.iter().filter(|machine| !settled(machine, revision)).collect();
        if open.is_empty() || start.elapsed() >= time {
            let failed: Vec<&Machine> = fleet.machines.iter().filter(|machine| !current(machine)).collect();
            for machine in &fleet.machines {
                for line in details(machine) {
                    if !options.json {
                        say(&format!("{}: {line}", machine.name));
                    }
                }
            }
            if failed.is_empty() {
                return Ok(Done::Good);
            }
            let names: Vec<&str> = failed.iter().map(|machine| machine.name.as_str()).collect();
            say(&format!("not followed by {}: see lockstep status", names.join(", ")));
            return Ok(Done::NotFollowed);
        }
        let seconds = time.saturating_sub(start.elapsed()).as_secs().clamp(1, 30);
        fleet = socket.get(&format!("/admin/fleet?after={}&seconds={seconds}", fleet.sequence)).await?;
    }
}

fn current(machine: &Machine) -> bool {
    let status = machine.status.as_ref();
    status.is_some_and(|status| status.state == State::Applied)
        && status.and_then(|status| status.running.as_ref()).is_some_and(|running| running.digest == machine.wanted)
}

fn settled(machine: &Machine, revision: u64) -> bool {
    let failed = machine.status.as_ref().is_some_and(|status| {
        status.state == State::Failed
            && status
                .apply
                .as_ref()
                .is_some_and(|apply| apply.revision >= revision || apply.digest == Some(machine.wanted))
    });
    failed || current(machine)
}
