//! `lockstep publish`: show, ask, publish, notify; and wait, if wished.

use super::ask::ask;
use super::live::{self, Ended};
use super::show::{Paint, changes, details, pushes, say_if_unforeseen};
use super::{author, environment, leader_config, plan, print, print_json, say};
use crate::exit::{Done, Failed, failed};
use crate::socket::Socket;
use lockstep_leader::press::{Press, Request};
use lockstep_leader::publication::Publication;
use lockstep_leader::rollout::Launch;
use lockstep_leader::rollout::strategy::Wish;
use lockstep_shared::api::{Fleet, Machine, State};
use lockstep_shared::rollout::{Phase, Rollout};
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) struct Options {
    pub(super) message: String,
    pub(super) yes: bool,
    /// Only this plan.
    pub(super) plan: Option<String>,
    /// How it goes out.
    pub(super) wish: Wish,
    /// Don't follow a rollout in waves.
    pub(super) detach: bool,
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
        let launch = Launch { wish: options.wish.clone(), standing: None };
        let request = Request { author: author(), message: options.message.clone(), plan, launch };
        let publish = |press: &mut Press| Ok(press.publish(&request)?.1.told(None));
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
    let request = serde_json::json!({"message": options.message, "plan": plan, "rollout": options.wish});
    let publication: Publication = socket.post("/admin/publish", &request).await?;
    report(&publication, &options, paint)?;
    let end = options.wait.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    if publication.new && (options.wait.is_some() || (publication.waves && !options.detach)) {
        match live::follow(&socket, Some(publication.revision), end.map(Into::into), options.json).await? {
            Ended::Over(rollout) => {
                let well = options.json || live::conclude(&rollout, paint)?;
                if let Some(end) = end.filter(|_| rollout.phase != Phase::Done) {
                    calm(&socket, end).await?;
                }
                // What was stopped is told: the others' lines would bury it.
                if options.wait.is_none() || rollout.phase != Phase::Done {
                    return Ok(if well && rollout.phase == Phase::Done { Done::Good } else { Done::NotFollowed });
                }
            }
            Ended::Replaced(later) => {
                say(&format!("revision {} took its place: lockstep rollout watch follows that one", later.revision));
                return Ok(Done::NotFollowed);
            }
            Ended::Left => {
                say(
                    "the rollout goes on without this terminal: lockstep rollout shows it, lockstep rollout stop stops it",
                );
                return Ok(Done::NotFollowed);
            }
            Ended::Late => {}
        }
    } else if publication.waves {
        say("it goes out in waves: lockstep rollout watch follows it");
    }
    match end {
        Some(end) => wait(&socket, &publication, end, &options).await,
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
    plan::warned(&publication.warnings);
    if let Some(before) = &publication.before {
        say(before);
    }
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
        let how = if publication.waves { format!(": {}", publication.strategy) } else { String::new() };
        print(&format!("published revision {}{how}\n{}", publication.revision, pushes(&publication.pushes, paint)))
    } else {
        say(&plan::nothing(publication));
        Ok(())
    }
}

/// Waits until nobody is at anything any more: also who failed is back then.
async fn calm(socket: &Socket, end: Instant) -> Result<(), Failed> {
    let mut fleet: Fleet = socket.get("/admin/fleet").await?;
    let applies = |machine: &Machine| machine.status.as_ref().is_some_and(|status| status.state == State::Applying);
    while fleet.machines.iter().any(applies) && Instant::now() < end {
        fleet = socket.get(&format!("/admin/fleet?after={}&seconds=1", fleet.sequence)).await?;
    }
    Ok(())
}

/// Waits until every follower runs what is published, or failed at it.
async fn wait(socket: &Socket, publication: &Publication, end: Instant, options: &Options) -> Result<Done, Failed> {
    let mut fleet: Fleet = socket.get("/admin/fleet").await?;
    let over = |fleet: &Fleet| {
        let ended = |rollout: &Rollout| matches!(rollout.phase, Phase::Stopped | Phase::Returned);
        fleet.rollout.as_ref().is_some_and(ended)
            || fleet.machines.iter().all(|machine| settled(machine, publication.revision))
    };
    while !over(&fleet) && Instant::now() < end {
        let seconds = end.saturating_duration_since(Instant::now()).as_secs().clamp(1, 30);
        fleet = socket.get(&format!("/admin/fleet?after={}&seconds={seconds}", fleet.sequence)).await?;
    }
    let follows = |machine: &&Machine| current(machine, publication.revision);
    let (followed, not): (Vec<&Machine>, Vec<&Machine>) = fleet.machines.iter().partition(follows);
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

fn current(machine: &Machine, revision: u64) -> bool {
    let status = machine.status.as_ref();
    // A leader of an earlier version doesn't say what it offers: then it is what is published.
    (machine.offered == revision || machine.offered == 0)
        && status.is_some_and(|status| status.state == State::Applied)
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
    let given_up = machine.status.as_ref().and_then(|status| status.failed.as_ref());
    failed || given_up.is_some_and(|given_up| given_up.digest == machine.wanted) || current(machine, revision)
}
