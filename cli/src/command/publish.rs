//! `lockstep publish`: show, ask, publish, notify; and wait, if wished.

use super::ask::ask;
use super::show::{Paint, changes, details, pushes, say_if_unforeseen};
use super::{author, environment, leader_config, plan, print, print_json, say};
use crate::exit::{Done, Failed, failed};
use crate::socket::Socket;
use lockstep_leader::press::{Press, Publication, Request};
use lockstep_shared::api::{Fleet, Machine, State};
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) struct Options {
    pub(super) message: String,
    pub(super) yes: bool,
    /// Only this plan.
    pub(super) plan: Option<String>,
    /// How long to wait for the followers, in seconds.
    pub(super) wait: Option<u64>,
    pub(super) json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let paint = Paint::new();
    let Some(socket) = Socket::find(&config)? else {
        let mut press = Press::open(config, environment())?;
        let plan = if options.yes { options.plan.clone() } else { Some(agreed(press.plan(None)?, &options, paint)?) };
        let request = Request { author: author(), message: options.message.clone(), plan };
        let publish = |press: &mut Press| Ok(press.publish(&request, None)?.1);
        let publication = super::recorded(&mut press, "publish", publish, Publication::noted)?;
        report(&publication, &options, paint)?;
        if publication.new {
            say(
                "no leader is running: it serves this revision once it starts, and nobody was notified (lockstep leader)",
            );
        }
        return Ok(Done::Good);
    };
    // What is published is what was shown, or nothing; where nobody is asked, it is shown afterwards.
    let plan = if options.yes {
        options.plan.clone()
    } else {
        Some(agreed(socket.get("/admin/plan").await?, &options, paint)?)
    };
    let request = serde_json::json!({"message": options.message, "plan": plan});
    let publication: Publication = socket.post("/admin/publish", &request).await?;
    report(&publication, &options, paint)?;
    match options.wait {
        Some(seconds) => wait(&socket, &publication, Duration::from_secs(seconds), &options).await,
        None => Ok(Done::Good),
    }
}

/// Shows what would change and asks; the plan that was agreed to. The error
/// says why nothing is published.
fn agreed(planned: Publication, options: &Options, paint: Paint) -> Result<String, Failed> {
    if let Some(wanted) = options.plan.as_ref().filter(|wanted| **wanted != planned.plan) {
        return Err(failed(format!(
            "nothing was published: plan {wanted} was made of something else than what is on disk and published now (plan {}): look again with lockstep plan",
            planned.plan
        )));
    }
    if !options.json {
        show(&planned, paint)?;
    }
    if !planned.new {
        return Ok(planned.plan);
    }
    if !std::io::stdin().is_terminal() {
        return Err(failed(format!(
            "publish asks before it publishes, and there is no terminal: lockstep publish --yes, or lockstep publish --plan {} --yes for exactly this",
            planned.plan
        )));
    }
    if ask("publish this")? { Ok(planned.plan) } else { Err(failed("nothing was published")) }
}

fn show(publication: &Publication, paint: Paint) -> Result<(), Failed> {
    print(&changes(&publication.changes, paint))?;
    say_if_unforeseen(&publication.changes);
    Ok(())
}

fn report(publication: &Publication, options: &Options, paint: Paint) -> Result<(), Failed> {
    if options.json {
        return print_json(publication);
    }
    if options.yes {
        show(publication, paint)?;
    }
    if publication.new {
        print(&format!("published revision {}\n{}", publication.revision, pushes(&publication.pushes, paint)))
    } else {
        say(&plan::nothing(publication));
        Ok(())
    }
}

/// Waits until every follower runs what is published, or failed at it.
async fn wait(socket: &Socket, publication: &Publication, time: Duration, options: &Options) -> Result<Done, Failed> {
    let start = Instant::now();
    let mut fleet: Fleet = socket.get("/admin/fleet").await?;
    while !fleet.machines.iter().all(|machine| settled(machine, publication.revision)) && start.elapsed() < time {
        let seconds = time.saturating_sub(start.elapsed()).as_secs().clamp(1, 30);
        fleet = socket.get(&format!("/admin/fleet?after={}&seconds={seconds}", fleet.sequence)).await?;
    }
    let (followed, not): (Vec<&Machine>, Vec<&Machine>) = fleet.machines.iter().partition(|machine| current(machine));
    if !options.json {
        let touched = |machine: &Machine| publication.changes.iter().any(|change| change.machine == machine.name);
        for machine in followed.iter().filter(|machine| touched(machine)).chain(&not) {
            for line in details(machine) {
                print(&format!("  {:<20} {line}\n", machine.name))?;
            }
        }
        print(&format!(
            "{} of {} machines run revision {}\n",
            followed.len(),
            fleet.machines.len(),
            publication.revision
        ))?;
    }
    if not.is_empty() {
        return Ok(Done::Good);
    }
    let names: Vec<&str> = not.iter().map(|machine| machine.name.as_str()).collect();
    say(&format!("lockstep: not followed by {}: see lockstep status", names.join(", ")));
    Ok(Done::NotFollowed)
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
