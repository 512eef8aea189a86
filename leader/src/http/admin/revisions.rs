//! Looking back: the history, revisions, what differs between them, what
//! machines ran, who set what.

use super::audited::Noted;
use super::extract::{Json, Path, Query};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::blame::Blame;
use crate::history::{Compared, History, Listing, Ran, Shown, ShownBundle, ShownContent};
use crate::leader::{Leader, LeaderError};
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use lockstep_edge::clock;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// The most revisions of one answer.
const MOST: usize = 10_000;

/// Which part of the history.
#[derive(Deserialize, IntoParams)]
pub(super) struct Part {
    /// So many revisions at most (20; at most 10000).
    limit: Option<usize>,
    /// Only those before this one.
    before: Option<u64>,
    /// Only those that were published up to this time: RFC 3339.
    #[param(format = DateTime)]
    at: Option<String>,
    /// Only those that changed something for this machine.
    machine: Option<String>,
}

/// The history, the latest first.
#[utoipa::path(get, path = "/admin/revisions", params(Part), responses(
    (status = 200, body = Listing), (status = 404, description = "No such machine, or nothing is published")))]
pub(super) async fn list(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(part): Query<Part>,
) -> Result<Json<Listing>, Refusal> {
    allow(&actor, Right::Read)?;
    let time = part.at.as_deref().map(moment).transpose()?;
    look(leader, move |history| {
        let mut before = part.before.unwrap_or(u64::MAX);
        if let Some(time) = time {
            before = before.min(history.at(time)?.saturating_add(1));
        }
        history.list(Some(before), part.machine.as_deref(), part.limit.unwrap_or(20).min(MOST))
    })
    .await
}

/// One revision: what it is, and what every machine has in it.
#[utoipa::path(get, path = "/admin/revisions/{number}", params(("number" = u64, Path, description = "From 1")), responses(
    (status = 200, body = Shown), (status = 404, description = "No such revision")))]
pub(super) async fn show(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(number): Path<u64>,
) -> Result<Json<Shown>, Refusal> {
    allow(&actor, Right::Read)?;
    look(leader, move |history| history.show(number)).await
}

/// Whose.
#[derive(Deserialize, IntoParams)]
pub(super) struct Whose {
    /// The machine.
    machine: String,
}

/// The files of a machine in a revision, content left out.
#[utoipa::path(get, path = "/admin/revisions/{number}/bundle", params(("number" = u64, Path, description = "From 1"), Whose), responses(
    (status = 200, body = ShownBundle), (status = 404, description = "No such revision or machine")))]
pub(super) async fn bundle(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(number): Path<u64>,
    Query(whose): Query<Whose>,
) -> Result<Json<ShownBundle>, Refusal> {
    allow(&actor, Right::Read)?;
    look(leader, move |history| history.bundle(number, &whose.machine)).await
}

/// Which file.
#[derive(Deserialize, IntoParams)]
pub(super) struct Which {
    /// Its path: in a machine's bundle, or `platform.yml`, or `templates/...`.
    path: String,
    /// The machine whose file it is; left out: a file that the revision was made from.
    machine: Option<String>,
    /// With the secrets' values in it; takes the right `secrets`.
    #[serde(default)]
    reveal: bool,
}

/// A file as it was in a revision, secrets masked.
#[utoipa::path(get, path = "/admin/revisions/{number}/file", params(("number" = u64, Path, description = "From 1"), Which), responses(
    (status = 200, body = ShownContent), (status = 404, description = "No such revision, machine or file"),
    (status = 403, description = "The right is missing"), (status = 409, description = "It can't be shown masked")))]
pub(super) async fn file(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(number): Path<u64>,
    Query(which): Query<Which>,
) -> Result<(Option<Extension<Noted>>, Json<ShownContent>), Refusal> {
    allow(&actor, Right::Read)?;
    if which.reveal {
        allow(&actor, Right::Secrets)?;
    }
    let noted = which.reveal.then(|| {
        let whose = which.machine.as_ref().map(|machine| format!(" of {machine}")).unwrap_or_default();
        Extension(Noted(format!("{}{whose}, secrets shown", which.path)))
    });
    let at = move |history: &History| history.file(number, which.machine.as_deref(), &which.path, which.reveal);
    look(leader, at).await.map(|content| (noted, content))
}

/// What to compare.
#[derive(Deserialize, IntoParams)]
pub(super) struct Pair {
    /// A revision.
    from: u64,
    /// Another.
    to: u64,
    /// This machine only.
    machine: Option<String>,
}

/// What differs between two revisions, secrets masked.
#[utoipa::path(get, path = "/admin/diff", params(Pair), responses(
    (status = 200, body = Compared), (status = 404, description = "No such revision or machine")))]
pub(super) async fn diff(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(pair): Query<Pair>,
) -> Result<Json<Compared>, Refusal> {
    allow(&actor, Right::Read)?;
    look(leader, move |history| history.compare(pair.from, pair.to, pair.machine.as_deref())).await
}

/// When, and where.
#[derive(Deserialize, IntoParams)]
pub(super) struct When {
    /// The machine.
    machine: String,
    /// The time: RFC 3339; left out: now.
    #[param(format = DateTime)]
    at: Option<String>,
}

/// What a machine ran at a time.
#[utoipa::path(get, path = "/admin/ran", params(When), responses(
    (status = 200, body = Ran), (status = 400, description = "No such time"),
    (status = 404, description = "No such machine, or nothing was published for it yet")))]
pub(super) async fn ran(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(when): Query<When>,
) -> Result<Json<Ran>, Refusal> {
    allow(&actor, Right::Read)?;
    let time = when.at.as_deref().map_or_else(|| Ok(clock::now()), moment)?;
    look(leader, move |history| history.ran(&when.machine, time)).await
}

/// Whose doing.
#[derive(Deserialize, IntoParams)]
pub(super) struct Doing {
    /// The setting.
    setting: String,
    /// For this machine: its own value, where it had one.
    machine: Option<String>,
    /// So many changes at most (10; at most 10000).
    limit: Option<usize>,
}

/// Who changed a setting's value in `platform.yml`, the latest first.
#[utoipa::path(get, path = "/admin/blame", params(Doing), responses(
    (status = 200, body = Blame), (status = 404, description = "No such setting")))]
pub(super) async fn blame(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(doing): Query<Doing>,
) -> Result<Json<Blame>, Refusal> {
    allow(&actor, Right::Read)?;
    let limit = doing.limit.unwrap_or(10).min(MOST);
    look(leader, move |history| history.blame(&doing.setting, doing.machine.as_deref(), limit)).await
}

/// Looks back, by a connection of its own: a publication under way is not waited for.
async fn look<T: Send + 'static>(
    leader: Arc<Leader>,
    at: impl FnOnce(&History) -> Result<T, LeaderError> + Send + 'static,
) -> Result<Json<T>, Refusal> {
    blocking(move || at(&History::open(&leader.config.state)?)).await.map(Json)
}

fn moment(text: &str) -> Result<i64, Refusal> {
    clock::from_rfc3339(text).ok_or_else(|| {
        let detail = format!("{text:?} is no time as RFC 3339 has it, like 2026-11-21T14:03:00Z");
        Refusal::from(lockstep_shared::Problem::new(400, "bad-request", "The time can't be read", detail))
    })
}
