//! After a publication or a rollback: following its rollout, and waiting until
//! the machines have proven it.

use super::live::{self, Ended};
use super::show::{Paint, details};
use super::wait::{self, Standing, Wanted, Whose};
use super::{print, say};
use crate::exit::{Done, Failed};
use crate::progress::Progress;
use crate::socket::Socket;
use lockstep_leader::difference::MachineChange;
use lockstep_shared::api::{Fleet, Machine};
use lockstep_shared::rollout::Phase;
use std::time::Duration;
use tokio::time::Instant;

/// What can be typed of it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Following {
    /// Leave a rollout in waves alone once it has begun
    #[arg(long, conflicts_with = "wait")]
    pub(super) detach: bool,
    /// Wait until every follower has proven it or failed; exit 3 if any failed
    #[arg(long)]
    pub(super) wait: bool,
    /// How long to wait for the followers, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
    pub(super) timeout: u64,
}

/// What was published.
pub(super) struct Published<'p> {
    pub(super) revision: u64,
    /// Whether it is a new revision.
    pub(super) new: bool,
    /// Whether it goes out in waves.
    pub(super) waves: bool,
    /// Whose files it changes.
    pub(super) changes: &'p [MachineChange],
}

/// Follows it as far as is wished.
pub(super) async fn follow(
    socket: &Socket,
    published: &Published<'_>,
    following: &Following,
    json: bool,
    paint: Paint,
) -> Result<Done, Failed> {
    let end = following.wait.then(|| Instant::now() + Duration::from_secs(following.timeout));
    let revision = published.revision;
    if published.new && (following.wait || (published.waves && !following.detach)) {
        match live::follow(socket, Some(revision), end, json).await? {
            Ended::Over(rollout) => {
                let well = json || live::conclude(&rollout, paint)?;
                if let Some(end) = end.filter(|_| rollout.phase != Phase::Done) {
                    // Also who failed is back then.
                    wait::applied(socket, Wanted::Number(revision), &Whose::default(), end, |_, _| {}).await?;
                }
                // What was stopped is told: the others' lines would bury it.
                if end.is_none() || rollout.phase != Phase::Done {
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
    } else if published.waves {
        say("it goes out in waves: lockstep rollout watch follows it");
    }
    match end {
        Some(end) => settle(socket, published, end, json).await,
        None => Ok(Done::Good),
    }
}

/// Waits until every follower runs what is published, or failed at it.
async fn settle(socket: &Socket, published: &Published<'_>, end: Instant, json: bool) -> Result<Done, Failed> {
    let revision = published.revision;
    let everybody = Whose::default();
    let progress = Progress::begin("waiting for the machines' reports");
    let heard = |fleet: &Fleet, _| progress.say(&wait::words(&everybody, fleet, revision));
    let ended = wait::applied(socket, Wanted::Number(revision), &everybody, end, heard).await?;
    drop(progress);
    let (followed, not) = ended.parted(&everybody);
    if !json {
        let touched = |machine: &Machine| published.changes.iter().any(|change| change.machine == machine.name);
        for machine in followed.iter().filter(|machine| touched(machine)).chain(&not) {
            for line in details(machine) {
                print(&format!("  {:<20} {line}\n", machine.name))?;
            }
        }
        print(&format!("{} of {} machines run revision {revision}\n", followed.len(), followed.len() + not.len()))?;
    }
    if not.is_empty() {
        return Ok(Done::Good);
    }
    let rollout = ended.fleet.rollout.as_ref();
    let late = not.iter().any(|machine| wait::standing(machine, revision, rollout) == Standing::Coming);
    let names: Vec<&str> = not.iter().map(|machine| machine.name.as_str()).collect();
    let how = if late { format!("; lockstep wait --applied {revision} waits longer") } else { String::new() };
    say(&format!("lockstep: not followed by {}: see lockstep status{how}", names.join(", ")));
    Ok(Done::NotFollowed)
}
