//! What the followers run, as it changes: for those who wait or watch.

use super::allow;
use super::fleet::now;
use super::refusal::Refusal;
use crate::leader::Leader;
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use lockstep_shared::api::{Fleet, Machine};
use lockstep_shared::rollout::Rollout;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often those who watch hear that nothing happens.
const ALIVE: Duration = Duration::from_secs(15);

/// What every machine runs, as server-sent events: `snapshot` (a whole fleet)
/// at the beginning and whenever another revision is published or machines come
/// and go, `fleet` (its head: `machines` is empty, those of its rollout too) when
/// the rollout moves, `machine` for each machine that reported something else
/// than before, or is offered something else. Whoever comes again begins with a
/// `snapshot`: nothing is missed. It goes on for those whose `Accept` names
/// `text/event-stream`; others get what there is now.
#[utoipa::path(get, path = "/admin/fleet/events", responses(
    (status = 200, description = "Server-sent events, for as long as the reader listens", content_type = "text/event-stream", body = String)))]
pub(super) async fn events(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Refusal> {
    allow(&actor, Right::Read)?;
    let mut reports = leader.reports.sequence();
    let (mut rollout, mut published) = (leader.rollout.events().subscribe(), leader.published.subscribe());
    reports.mark_changed();
    rollout.mark_changed();
    published.mark_changed();
    let mut accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let goes_on = accept.any(|accept| accept.contains("text/event-stream"));
    let watching = Watching { goes_on, leader, reports, rollout, published, told: None, next: VecDeque::new() };
    let stream = stream::unfold(watching, |mut watching| async move {
        let sent = watching.next().await?;
        Some((Ok(sent), watching))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE)))
}

/// Somebody who watches.
struct Watching {
    /// Whether more is waited for.
    goes_on: bool,
    leader: Arc<Leader>,
    reports: watch::Receiver<u64>,
    rollout: watch::Receiver<u64>,
    published: watch::Receiver<Arc<crate::published::Published>>,
    /// What they know.
    told: Option<Fleet>,
    next: VecDeque<Sent>,
}

impl Watching {
    /// The next event; `None` once the leader stops.
    async fn next(&mut self) -> Option<Sent> {
        let mut stop = self.leader.stop.clone();
        loop {
            if let Some(sent) = self.next.pop_front() {
                return Some(sent);
            }
            if self.told.is_some() && !self.goes_on {
                return None;
            }
            tokio::select! {
                changed = self.reports.changed() => changed.ok()?,
                changed = self.rollout.changed() => changed.ok()?,
                changed = self.published.changed() => changed.ok()?,
                () = lockstep_edge::server::stopped(&mut stop) => return None,
            }
            // Before looking: what changes meanwhile wakes this again.
            self.reports.mark_unchanged();
            self.rollout.mark_unchanged();
            self.published.mark_unchanged();
            let fleet = now(&self.leader);
            self.next.extend(news(self.told.as_ref(), &fleet).iter().map(News::sent));
            self.told = Some(fleet);
        }
    }
}

/// What one has to hear to know the later fleet.
#[derive(Debug, PartialEq)]
enum News<'f> {
    Whole(&'f Fleet),
    Head(Box<Fleet>),
    Machine(&'f Machine),
}

impl News<'_> {
    fn sent(&self) -> Sent {
        match self {
            Self::Whole(fleet) => told("snapshot", fleet),
            Self::Head(head) => told("fleet", head),
            Self::Machine(machine) => told("machine", machine),
        }
    }
}

fn told(kind: &str, value: &impl Serialize) -> Sent {
    // Plain data always is JSON on one line.
    Sent::default().event(kind).data(serde_json::to_string(value).unwrap_or_default())
}

/// The difference; when a machine was last seen is none.
fn news<'f>(before: Option<&Fleet>, fleet: &'f Fleet) -> Vec<News<'f>> {
    let Some(before) = before.filter(|before| before.revision == fleet.revision && same_names(before, fleet)) else {
        return vec![News::Whole(fleet)];
    };
    let known: HashMap<&str, &Machine> =
        before.machines.iter().map(|machine| (machine.name.as_str(), machine)).collect();
    let changed = |machine: &&Machine| {
        known
            .get(machine.name.as_str())
            .is_none_or(|known| Machine { seen: machine.seen, ..(*known).clone() } != **machine)
    };
    let mut news: Vec<News> = fleet.machines.iter().filter(changed).map(News::Machine).collect();
    let (was, is) = (head(before), head(fleet));
    if was.rollout != is.rollout {
        // Behind the machines: who hears that it is over knows of each how it ended.
        news.push(News::Head(Box::new(is)));
    }
    news
}

fn same_names(one: &Fleet, other: &Fleet) -> bool {
    one.machines.iter().map(|machine| &machine.name).eq(other.machines.iter().map(|machine| &machine.name))
}

fn head(fleet: &Fleet) -> Fleet {
    let rollout = fleet.rollout.clone().map(|rollout| Rollout { machines: Vec::new(), ..rollout });
    Fleet { machines: Vec::new(), rollout, ..fleet.clone() }
}

#[cfg(test)]
mod tests {
    use super::{News, news};
    use lockstep_shared::api::{Fleet, Machine, Status};
    use lockstep_shared::{Name, Sha256};

    fn fleet(names: &[&str]) -> Fleet {
        let machine = |name: &&str| Machine {
            name: Name::new(*name).unwrap(),
            role: Name::new("web").unwrap(),
            wanted: Sha256::of(b"one"),
            offered: 1,
            url: None,
            seen: Some(1),
            clock_ahead: None,
            status: None,
        };
        Fleet {
            revision: 1,
            sequence: 1,
            machines: names.iter().map(machine).collect(),
            rollout: None,
            ending: Vec::new(),
            disabled: Vec::new(),
        }
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = fleet(&["a", "b"]);
        assert_eq!(news(None, &before), [News::Whole(&before)]);
        assert!(news(Some(&before), &before).is_empty());
        let mut seen = before.clone();
        seen.machines[0].seen = Some(9);
        assert!(news(Some(&before), &seen).is_empty());
        let mut reported = seen.clone();
        reported.machines[1].status = Some(Status::default());
        assert_eq!(news(Some(&before), &reported), [News::Machine(&reported.machines[1])]);
        let published = Fleet { revision: 2, ..reported.clone() };
        assert_eq!(news(Some(&reported), &published), [News::Whole(&published)]);
        let joined = fleet(&["a", "b", "c"]);
        assert_eq!(news(Some(&before), &joined), [News::Whole(&joined)]);
    }
}
