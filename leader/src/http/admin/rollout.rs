//! How a revision reaches its machines: looking, watching, steering.

use super::allow;
use super::audited::Noted;
use super::extract::{Json, Query};
use super::refusal::Refusal;
use crate::leader::{Leader, LeaderError};
use crate::rollout::Changed;
use crate::rollout::step::Event;
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use lockstep_shared::Problem;
use lockstep_shared::rollout::Rollout;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;

/// How often those who watch hear that nothing happens.
const ALIVE: Duration = Duration::from_secs(15);

/// The last rollout, machine by machine.
#[utoipa::path(get, path = "/admin/rollout", responses(
    (status = 200, body = Rollout), (status = 404, description = "Nothing was published yet")))]
pub(super) async fn show(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Rollout>, Refusal> {
    allow(&actor, Right::Read)?;
    shown(&leader).map(Json)
}

fn shown(leader: &Leader) -> Result<Rollout, Refusal> {
    leader.rollout.view().ok_or_else(|| {
        let detail = "no revision was rolled out by this leader yet: lockstep publish begins one";
        Problem::new(404, "unknown", "There is no rollout", detail).into()
    })
}

/// From where to go on.
#[derive(Deserialize, IntoParams)]
pub(super) struct From {
    /// Only events after the one with this number; also as the header `Last-Event-ID`.
    #[param(minimum = 0)]
    after: Option<u64>,
}

/// What happens to the rollout, as server-sent events: `snapshot` (a whole
/// rollout) at the beginning and whenever a new one begins, `rollout` (its head:
/// `machines` is empty) for another phase or wave, `machine` (one of its
/// machines). Each has an `id`; whoever comes again with the last one as
/// `Last-Event-ID` misses nothing: where that is too long ago, it begins with a
/// `snapshot`. It goes on for those whose `Accept` names `text/event-stream`;
/// others get what there is now.
#[utoipa::path(get, path = "/admin/rollout/events", params(From), responses(
    (status = 200, description = "Server-sent events, for as long as the reader listens", content_type = "text/event-stream", body = String)))]
pub(super) async fn events(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Query(from): Query<From>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Refusal> {
    allow(&actor, Right::Read)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let goes_on = accept.into_iter().any(|accept| accept.contains("text/event-stream"));
    let watching = Watching {
        goes_on,
        sequence: leader.rollout.events().subscribe(),
        leader,
        last: last.or(from.after),
        next: VecDeque::new(),
    };
    let stream = stream::unfold(watching, |mut watching| async move {
        let sent = watching.next().await?;
        Some((Ok(sent), watching))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE)))
}

/// Somebody who watches.
struct Watching {
    leader: Arc<Leader>,
    sequence: tokio::sync::watch::Receiver<u64>,
    last: Option<u64>,
    next: VecDeque<Sent>,
    /// Whether more is waited for.
    goes_on: bool,
}

impl Watching {
    /// The next event; `None` once the leader stops, or there is none now for one who doesn't wait.
    async fn next(&mut self) -> Option<Sent> {
        let mut stop = self.leader.stop.clone();
        loop {
            if let Some(sent) = self.next.pop_front() {
                return Some(sent);
            }
            let now = *self.sequence.borrow_and_update();
            match self.last.and_then(|last| self.leader.rollout.events().after(last)) {
                Some(events) => {
                    self.last = events.last().map_or(self.last, |(number, _)| Some(*number));
                    self.next.extend(events.iter().map(|(number, changed)| sent(*number, changed)));
                }
                None => match self.leader.rollout.view() {
                    Some(view) => {
                        self.last = Some(view.sequence);
                        self.next.push_back(told("snapshot", view.sequence, &view));
                    }
                    None => self.last = Some(now),
                },
            }
            if self.next.is_empty() {
                if !self.goes_on {
                    return None;
                }
                tokio::select! {
                    changed = self.sequence.changed() => changed.ok()?,
                    () = lockstep_edge::server::stopped(&mut stop) => return None,
                }
            }
        }
    }
}

fn sent(number: u64, changed: &Changed) -> Sent {
    match changed {
        Changed::Rollout(head) => told("rollout", number, head),
        Changed::Machine(member) => told("machine", number, member),
    }
}

fn told(kind: &str, number: u64, value: &impl Serialize) -> Sent {
    let event = Sent::default().event(kind).id(number.to_string());
    // Plain data always is JSON on one line.
    event.data(serde_json::to_string(value).unwrap_or_default())
}

/// Goes on: after a stop from where it stopped; after a return all over again; in a pause at once.
#[utoipa::path(post, path = "/admin/rollout/resume", responses(
    (status = 200, body = Rollout), (status = 409, description = "There is nothing to go on with")))]
pub(super) async fn resume(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<(Extension<Noted>, Json<Rollout>), Refusal> {
    steer(&leader, &actor, Event::Resume(actor.name.clone())).await
}

/// Stops it: no further machine gets it, those that have it keep it.
#[utoipa::path(post, path = "/admin/rollout/stop", responses(
    (status = 200, body = Rollout), (status = 409, description = "It is not under way")))]
pub(super) async fn stop(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<(Extension<Noted>, Json<Rollout>), Refusal> {
    steer(&leader, &actor, Event::Stop(actor.name.clone())).await
}

/// Takes it back: those that have it are offered what they had before.
#[utoipa::path(post, path = "/admin/rollout/abort", responses(
    (status = 200, body = Rollout), (status = 409, description = "It is through, or taken back already")))]
pub(super) async fn abort(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<(Extension<Noted>, Json<Rollout>), Refusal> {
    steer(&leader, &actor, Event::Abort(actor.name.clone())).await
}

async fn steer(leader: &Leader, actor: &Actor, event: Event) -> Result<(Extension<Noted>, Json<Rollout>), Refusal> {
    allow(actor, Right::Publish)?;
    leader.rollout.wish(event).await.map_err(LeaderError::Conflict)?;
    let rollout = shown(leader)?;
    Ok((Extension(Noted(format!("revision {}", rollout.revision))), Json(rollout)))
}
