//! The fleet as it changes, for commands that wait for something: one
//! connection on which the leader tells what is new, and another one when a
//! leader was started anew.

use crate::exit::{Failed, failed};
use crate::socket::{Heard, Socket};
use lockstep_shared::api::{Fleet, Machine};
use lockstep_shared::rollout::Rollout;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a leader may be away before waiting for it is given up.
pub(super) const AWAY: Duration = Duration::from_mins(2);

/// The time between two tries to reach a leader that is away.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// Shows every state of the fleet to `look`, until it finds what it looks for;
/// `None` when the deadline is over first.
pub(super) async fn until<T>(
    socket: &Socket,
    deadline: Option<Instant>,
    mut look: impl FnMut(&Fleet) -> Option<T>,
) -> Result<Option<T>, Failed> {
    let deadline = deadline.unwrap_or_else(|| Instant::now() + Duration::from_hours(24 * 365));
    let mut away: Option<Instant> = None;
    loop {
        let found = async {
            let mut fleet: Option<Fleet> = None;
            let mut events = socket.events("/admin/fleet/events", None).await?;
            while let Some(Heard { event, data, .. }) = events.next().await? {
                away = None;
                take(&mut fleet, &event, &data)?;
                if let Some(found) = fleet.as_ref().and_then(&mut look) {
                    return Ok(Some(found));
                }
            }
            Ok::<_, Failed>(None)
        };
        match timeout_at(deadline, found).await {
            Err(_) => return Ok(None),
            Ok(Ok(Some(found))) => return Ok(Some(found)),
            // The leader stops, or is started anew: the next snapshot says how it is now.
            Ok(result) => {
                let since = *away.get_or_insert_with(Instant::now);
                if since.elapsed() > AWAY {
                    return Err(result
                        .err()
                        .unwrap_or_else(|| failed("the leader is gone: see its log (lockstep logs leader)")));
                }
                if timeout_at(deadline, sleep(AGAIN)).await.is_err() {
                    return Ok(None);
                }
            }
        }
    }
}

fn take(fleet: &mut Option<Fleet>, event: &str, data: &str) -> Result<(), Failed> {
    match (event, fleet) {
        ("snapshot", fleet) => *fleet = Some(serde_json::from_str(data)?),
        ("fleet", Some(fleet)) => {
            let head: Fleet = serde_json::from_str(data)?;
            // Whom the rollout reached is not told here; each machine's own report says it.
            let members = fleet.rollout.take().map(|rollout| rollout.machines).unwrap_or_default();
            let rollout = head.rollout.map(|rollout| Rollout { machines: members, ..rollout });
            *fleet = Fleet { machines: std::mem::take(&mut fleet.machines), rollout, ..head };
        }
        ("machine", Some(fleet)) => {
            let machine: Machine = serde_json::from_str(data)?;
            match fleet.machines.iter_mut().find(|other| other.name == machine.name) {
                Some(known) => *known = machine,
                None => fleet.machines.push(machine),
            }
        }
        _ => {}
    }
    Ok(())
}
