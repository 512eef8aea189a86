//! `lockstep wait`: until machines run a revision, or the leader is ready. The
//! end of `publish --wait` and `rollback --wait` too.

use super::fleet::{self, AGAIN};
use super::{counted, leader_config, print, print_json, say};
use crate::exit::{Done, Failed, failed};
use crate::printable::{headline, paragraph};
use crate::progress::Progress;
use crate::socket::Socket;
use lockstep_leader::config::Config;
use lockstep_shared::Name;
use lockstep_shared::api::{Fleet, Machine, State};
use lockstep_shared::rollout::{Phase, Rollout};
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long one try takes at least, however short the wait: a leader that is there answers in it.
const ONE_TRY: Duration = Duration::from_secs(1);

/// How many machines are named while they are waited for.
const NAMED: usize = 4;

/// What to wait for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Until every machine has proven this revision, or a later one: a number, or latest
    #[arg(long, value_name = "REV", value_parser = revision, required_unless_present = "ready", conflicts_with = "ready")]
    applied: Option<Wanted>,
    /// Until the leader answers and serves; with --role or --machine, until those were heard from too
    #[arg(long)]
    ready: bool,
    /// Only the machines of this role
    #[arg(long, value_name = "ROLE", conflicts_with = "machine")]
    role: Option<Name>,
    /// Only this machine
    #[arg(long, value_name = "MACHINE")]
    machine: Option<Name>,
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A revision as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What is published when the waiting begins.
    Latest,
    /// This one.
    Number(u64),
}

fn revision(text: &str) -> Result<Wanted, String> {
    match text {
        "latest" => Ok(Wanted::Latest),
        number => number
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .map(Wanted::Number)
            .ok_or_else(|| "write a revision's number (lockstep history), or latest".to_owned()),
    }
}

/// Which machines are waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Whose {
    pub(super) role: Option<Name>,
    pub(super) machine: Option<Name>,
}

impl Whose {
    fn of<'f>(&self, fleet: &'f Fleet) -> Vec<&'f Machine> {
        let theirs = |machine: &&Machine| {
            self.role.as_ref().is_none_or(|role| machine.role == *role)
                && self.machine.as_ref().is_none_or(|name| machine.name == *name)
        };
        fleet.machines.iter().filter(theirs).collect()
    }

    /// Why these can't be waited for; `None` where there are some, or everybody is meant.
    fn nobody(&self, fleet: &Fleet) -> Option<Failed> {
        if !self.of(fleet).is_empty() {
            return None;
        }
        let listed = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.dedup();
            names.join(", ")
        };
        match (&self.machine, &self.role) {
            (Some(name), _) => Some(failed(format!(
                "there is no machine {name}: there are {} (lockstep status)",
                listed(fleet.machines.iter().map(|machine| machine.name.as_str()).collect())
            ))),
            (None, Some(role)) => Some(failed(format!(
                "no machine has the role {role}: the roles are {} (lockstep status)",
                listed(fleet.machines.iter().map(|machine| machine.role.as_str()).collect())
            ))),
            (None, None) => None,
        }
    }
}

/// How one machine is to the revision that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has proven it, or a later one.
    Runs,
    /// It may still come.
    Coming,
    /// It won't come to it by itself: it failed there, or the rollout stopped before.
    Not,
}

/// How a machine is to a revision.
pub(super) fn standing(machine: &Machine, revision: u64, rollout: Option<&Rollout>) -> Standing {
    let status = machine.status.as_ref();
    let state = status.map(|status| status.state);
    // A leader of an earlier version doesn't say what it offers: then it is what is published.
    let offered = machine.offered >= revision || machine.offered == 0;
    let running = status.and_then(|status| status.running.as_ref());
    if offered && state == Some(State::Applied) && running.is_some_and(|running| running.digest == machine.wanted) {
        return Standing::Runs;
    }
    if state == Some(State::Applying) {
        return Standing::Coming;
    }
    let tried = status.and_then(|status| status.apply.as_ref());
    let failed = state == Some(State::Failed)
        && tried.is_some_and(|apply| apply.revision >= revision || apply.digest == Some(machine.wanted));
    let given_up = status.and_then(|status| status.failed.as_ref());
    let ended = rollout.is_some_and(|rollout| {
        rollout.revision >= revision && matches!(rollout.phase, Phase::Stopped | Phase::Returned)
    });
    if failed || given_up.is_some_and(|given_up| given_up.digest == machine.wanted) || ended {
        return Standing::Not;
    }
    Standing::Coming
}

/// How waiting ended.
pub(super) struct Ended {
    /// The fleet as it was last heard of.
    pub(super) fleet: Fleet,
    /// The revision that was waited for.
    pub(super) revision: u64,
}

impl Ended {
    /// The machines that run it, and those that don't.
    pub(super) fn parted(&self, whose: &Whose) -> (Vec<&Machine>, Vec<&Machine>) {
        let fleet = &self.fleet;
        let runs = |machine: &&Machine| standing(machine, self.revision, fleet.rollout.as_ref()) == Standing::Runs;
        whose.of(fleet).into_iter().partition(runs)
    }
}

/// Waits until each of these machines runs the revision, or won't.
pub(super) async fn applied(
    socket: &Socket,
    wanted: Wanted,
    whose: &Whose,
    deadline: Instant,
    mut heard: impl FnMut(&Fleet, u64),
) -> Result<Ended, Failed> {
    let mut latest = None;
    let mut last: Option<Fleet> = None;
    let look = |fleet: &Fleet| {
        let revision = match wanted {
            Wanted::Number(number) => number,
            Wanted::Latest => *latest.get_or_insert(fleet.revision),
        };
        heard(fleet, revision);
        last = Some(fleet.clone());
        let machines = whose.of(fleet);
        if let Some(nobody) = whose.nobody(fleet) {
            return Some(Err(nobody));
        }
        let settled = |machine: &&Machine| standing(machine, revision, fleet.rollout.as_ref()) != Standing::Coming;
        machines.iter().all(settled).then_some(Ok(()))
    };
    if let Some(Err(nobody)) = fleet::until(socket, Some(deadline), look).await? {
        return Err(nobody);
    }
    // The time may have been over before anything was heard: then it is as it is now.
    let fleet = match last {
        Some(fleet) => fleet,
        None => socket.get("/admin/fleet").await?,
    };
    let revision = match wanted {
        Wanted::Number(number) => number,
        Wanted::Latest => latest.unwrap_or(fleet.revision),
    };
    match whose.nobody(&fleet) {
        Some(nobody) => Err(nobody),
        None => Ok(Ended { fleet, revision }),
    }
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let deadline = Instant::now() + Duration::from_secs(options.timeout);
    let whose = Whose { role: options.role.clone(), machine: options.machine.clone() };
    let Some(wanted) = options.applied else {
        return ready(&config, &whose, deadline, &options).await;
    };
    let socket = Socket::needed(&config)?;
    let progress = Progress::begin("asking the leader");
    // Also where any revision will do: a leader that doesn't answer at all is told of at once.
    let fleet: Fleet = socket.get("/admin/fleet").await?;
    if let Wanted::Number(number) = wanted {
        exists(number, fleet.revision)?;
    }
    let mut told = Told::new(!options.json && !std::io::stderr().is_terminal());
    let heard = |fleet: &Fleet, revision: u64| {
        progress.say(&words(&whose, fleet, revision));
        told.heard(&whose.of(fleet), revision, fleet.rollout.as_ref());
    };
    let ended = applied(&socket, wanted, &whose, deadline, heard).await?;
    drop(progress);
    let (runs, not) = ended.parted(&whose);
    let well = not.is_empty();
    if options.json {
        let names = |machines: &[&Machine]| machines.iter().map(|machine| machine.name.clone()).collect::<Vec<_>>();
        print_json(&serde_json::json!({
            "revision": ended.revision, "applied": well, "runs": names(&runs), "not": names(&not),
        }))?;
    } else {
        print(&format!(
            "{} of {} run revision {}\n",
            runs.len(),
            counted(runs.len() + not.len(), "machine"),
            ended.revision
        ))?;
        let rollout = ended.fleet.rollout.as_ref();
        for machine in &not {
            say(&format!("{}: {}", machine.name, why(machine, ended.revision, rollout)));
        }
        if !not.is_empty() {
            say("lockstep status says more of each");
        }
    }
    Ok(if well { Done::Good } else { Done::NotFollowed })
}

/// Refuses a revision that nobody could come to, since it was never published. The next one may be
/// under way: who waits for it may have begun a moment too soon.
fn exists(revision: u64, last: u64) -> Result<(), Failed> {
    if revision <= last + 1 {
        return Ok(());
    }
    Err(failed(format!(
        "there is no revision {revision} that could be waited for: the last is {last} (lockstep history)"
    )))
}

/// Waits until the leader serves, and the machines that are named were heard from.
async fn ready(config: &Config, whose: &Whose, deadline: Instant, options: &Options) -> Result<Done, Failed> {
    let progress = Progress::begin("waiting for the leader");
    let socket = loop {
        // A leader that isn't there has no events: this is the one wait that has to ask again.
        if let Some(socket) = Socket::find(config)?
            && timeout_at(deadline.max(Instant::now() + ONE_TRY), socket.serves()).await.unwrap_or_default()
        {
            break Some(socket);
        }
        if Instant::now() + AGAIN >= deadline {
            break None;
        }
        sleep(AGAIN).await;
    };
    let mut silent: Vec<Name> = Vec::new();
    if let Some(socket) = &socket
        && (whose.role.is_some() || whose.machine.is_some())
    {
        progress.say("waiting for the machines' reports");
        let look = |fleet: &Fleet| {
            if let Some(nobody) = whose.nobody(fleet) {
                return Some(Err(nobody));
            }
            let missing = whose.of(fleet).into_iter().filter(|machine| machine.status.is_none());
            silent = missing.map(|machine| machine.name.clone()).collect();
            silent.is_empty().then_some(Ok(()))
        };
        if let Some(Err(nobody)) = fleet::until(socket, Some(deadline), look).await? {
            return Err(nobody);
        }
    }
    drop(progress);
    let well = socket.is_some() && silent.is_empty();
    if options.json {
        print_json(&serde_json::json!({"ready": well, "leader": socket.is_some(), "silent": silent}))?;
    } else if well {
        print("ready\n")?;
    } else if socket.is_none() {
        say("the leader didn't answer in that time: lockstep logs leader, lockstep doctor");
    } else {
        let names: Vec<&str> = silent.iter().map(Name::as_str).collect();
        say(&format!("not heard from: {}: on that machine, lockstep doctor", names.join(", ")));
    }
    Ok(if well { Done::Good } else { Done::NotFollowed })
}

/// How far it is, in a line.
pub(super) fn words(whose: &Whose, fleet: &Fleet, revision: u64) -> String {
    let (machines, rollout) = (whose.of(fleet), fleet.rollout.as_ref());
    let coming = |machine: &&&Machine| standing(machine, revision, rollout) == Standing::Coming;
    let runs = machines.iter().filter(|machine| standing(machine, revision, rollout) == Standing::Runs).count();
    let waits: Vec<&str> = machines.iter().filter(coming).map(|machine| machine.name.as_str()).collect();
    let mut text = format!("{runs} of {} run revision {revision}", counted(machines.len(), "machine"));
    if !waits.is_empty() {
        text += &format!("; waiting for {}", waits[..waits.len().min(NAMED)].join(", "));
        if waits.len() > NAMED {
            text += &format!(" and {} more", waits.len() - NAMED);
        }
    }
    text
}

/// Why a machine doesn't run it, in a line.
pub(super) fn why(machine: &Machine, revision: u64, rollout: Option<&Rollout>) -> String {
    let Some(status) = &machine.status else {
        return "nothing was heard from it: on that machine, lockstep doctor".to_owned();
    };
    let error = status.apply.as_ref().and_then(|apply| apply.error.as_deref());
    let failed = status.failed.as_ref().map(|failed| failed.why.as_str());
    if status.state == State::Failed
        && let Some(why) = failed.or(error)
    {
        return format!("FAILED: {}", paragraph(why));
    }
    if status.state == State::Applying {
        return "still at it".to_owned();
    }
    if machine.offered < revision && machine.offered != 0 {
        let stopped = rollout.filter(|rollout| matches!(rollout.phase, Phase::Stopped | Phase::Returned));
        return match stopped {
            Some(rollout) => format!("it is not offered revision {revision}: {}", headline(&rollout.why)),
            None => format!("its turn has not come: it is offered revision {}", machine.offered),
        };
    }
    "it has not taken it yet".to_owned()
}

/// A line for each machine that came to its end, where no terminal shows it.
struct Told {
    wanted: bool,
    over: std::collections::BTreeMap<Name, Standing>,
}

impl Told {
    fn new(wanted: bool) -> Self {
        Self { wanted, over: std::collections::BTreeMap::new() }
    }

    fn heard(&mut self, machines: &[&Machine], revision: u64, rollout: Option<&Rollout>) {
        for machine in machines.iter().filter(|_| self.wanted) {
            let now = standing(machine, revision, rollout);
            if now != Standing::Coming && self.over.insert(machine.name.clone(), now) != Some(now) {
                match now {
                    Standing::Runs => say(&format!("{}: runs it", machine.name)),
                    _ => say(&format!("{}: {}", machine.name, why(machine, revision, rollout))),
                }
            }
        }
    }
}
