//! A leader that is reached elsewhere than before (`addresses`) tells the
//! followers that it reaches itself, each until it took that once: who only
//! polls the old address has no other way to hear of it.

use crate::leader::Leader;
use lockstep_edge::backoff::Backoff;
use lockstep_edge::server::stopped;
use lockstep_shared::Name;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The longest time between two attempts, and how often it is looked whether one is needed.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Tells them until the leader stops.
pub(crate) async fn tell(leader: Arc<Leader>) {
    let mut stop = leader.stop.clone();
    let mut backoff = Backoff::new();
    let mut told = BTreeSet::new();
    loop {
        let published = leader.published();
        let lacking = leader.authority.knows_otherwise(&leader.config.addresses);
        let machines: Vec<(Name, u64)> = lacking
            .into_iter()
            .filter(|name| !told.contains(name))
            .filter_map(|name| published.served.get(&name).map(|served| (name.clone(), served.number())))
            .collect();
        let wait = if machines.is_empty() {
            backoff.reset();
            LOOK_EVERY
        } else {
            let pushes = leader.pushes.tell(machines).await;
            told.extend(pushes.into_iter().filter(|push| push.apply.is_some()).map(|push| push.machine));
            backoff.next_wait().min(LOOK_EVERY)
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stopped(&mut stop) => return,
        }
    }
}
