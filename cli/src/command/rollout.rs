//! `lockstep rollout`: how far the last revision has come, and steering it.

use super::live::{self, Ended};
use super::show::Paint;
use super::{leader_config, print, print_json, say, table};
use crate::exit::{Done, Failed};
use crate::printable::{headline, paragraph};
use crate::socket::Socket;
use lockstep_shared::rollout::{MemberState, Phase, Rollout};
use std::path::Path;

/// What is done with a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum Steer {
    /// Show how far it is; the same without a word
    Show,
    /// Follow it to its end; exit 3 if it is stopped or taken back
    Watch,
    /// Go on: after a stop; all over again after a return; at once in a pause
    Resume,
    /// Stop: no further machine gets it, those that have it keep it
    Stop,
    /// Take it back: those that have it are offered what they had before
    Abort,
}

pub(super) async fn run(root: &Path, steer: Option<Steer>, json: bool) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let socket = Socket::needed(&config)?;
    let nothing = serde_json::json!({});
    let (rollout, said): (Rollout, _) = match steer {
        None | Some(Steer::Show) => (socket.get("/admin/rollout").await?, None),
        Some(Steer::Watch) => {
            // Who watches waits for a leader that went away, but not for one that never answered.
            let _: serde_json::Value = socket.get("/admin/fleet").await?;
            return watch(&socket, json).await;
        }
        Some(Steer::Resume) => (socket.post("/admin/rollout/resume", &nothing).await?, Some("goes on")),
        Some(Steer::Stop) => (socket.post("/admin/rollout/stop", &nothing).await?, Some("is stopped")),
        Some(Steer::Abort) => (socket.post("/admin/rollout/abort", &nothing).await?, Some("is taken back")),
    };
    if json {
        print_json(&rollout)?;
    } else if let Some(said) = said {
        print(&format!("the rollout of revision {} {said}: lockstep rollout watch follows it\n", rollout.revision))?;
    } else {
        print(&screen(&rollout, Paint::new()))?;
    }
    Ok(Done::Good)
}

async fn watch(socket: &Socket, json: bool) -> Result<Done, Failed> {
    match live::follow(socket, None, None, json).await? {
        Ended::Over(rollout) | Ended::Replaced(rollout) => {
            if json {
                print_json(&rollout)?;
                return Ok(if rollout.phase == Phase::Done { Done::Good } else { Done::NotFollowed });
            }
            Ok(if live::conclude(&rollout, Paint::new())? { Done::Good } else { Done::NotFollowed })
        }
        Ended::Late | Ended::Left => {
            say("the rollout goes on without this terminal: lockstep rollout shows it");
            Ok(Done::Good)
        }
    }
}

fn screen(rollout: &Rollout, paint: Paint) -> String {
    let mut out = format!("revision {}: {}\n{}\n", rollout.revision, phase(rollout, paint), rollout.strategy);
    if rollout.machines.is_empty() {
        return out + "it changes nothing for any machine\n";
    }
    let mut table = table(["machine", "role", "wave", "served", "state", ""]);
    for member in &rollout.machines {
        let (word, colour) = live::state(member.state);
        table.add_row([
            member.name.to_string(),
            member.role.to_string(),
            member.wave.to_string(),
            if member.offered == 0 { "-".to_owned() } else { member.offered.to_string() },
            paint.wrap(colour, word),
            headline(&member.why),
        ]);
    }
    out += &format!("{table}\n");
    for member in rollout.machines.iter().filter(|member| member.why.contains('\n')) {
        out += &format!("{}: {}\n", member.name, paragraph(&member.why));
    }
    out
}

/// Where it stands, in a line.
pub(super) fn phase(rollout: &Rollout, paint: Paint) -> String {
    let done = rollout.machines.iter().filter(|member| member.state == MemberState::Done).count();
    let reached = format!("{done} of {} machines have it", rollout.machines.len());
    let wave = if rollout.waves > 1 { format!("wave {} of {}, ", rollout.wave, rollout.waves) } else { String::new() };
    match rollout.phase {
        Phase::Running => format!("{} {wave}{reached}", paint.wrap("36", "on its way:")),
        Phase::Pausing => {
            let seconds = rollout.pauses_until.map_or(0, |until| (until - lockstep_edge::clock::now()).max(0));
            format!("{} {wave}{reached}; the next wave in {seconds} s", paint.wrap("36", "pausing:"))
        }
        Phase::Done => paint.wrap("32", &format!("done: {reached}")),
        Phase::Stopped => format!("{} {}", paint.wrap("31", "STOPPED:"), headline(&rollout.why)),
        Phase::Returned => {
            let to = rollout.returned_to.map(|to| format!(" to revision {to}")).unwrap_or_default();
            format!("{} {}", paint.wrap("31", &format!("RETURNED{to}:")), headline(&rollout.why))
        }
        Phase::Replaced => "replaced by a later revision".to_owned(),
    }
}
